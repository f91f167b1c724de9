"""What `deploy` is held to: the settings, commands, routes and metrics that the project has."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prometheus_client import generate_latest
from prometheus_client.core import CollectorRegistry
from prometheus_client.registry import Collector
from typer.main import get_command

import gateway.metrics  # noqa: F401 - makes its metrics known
import workers.metrics  # noqa: F401 - as above
from gateway.control import ops
from gateway.control.gauges import GroupGauges, members_of, metrics_of
from gateway.settings import Settings
from manymodels.cli.main import app

DEPLOY = Path(__file__).parents[2] / "deploy"
PREFIX = "MANYMODELS_"
LISTENING = ("gateway", "worker", "discovery")


def settings_of(environment: Mapping[str, str]) -> Settings:
    """The settings that an environment makes; fails for a name that is none, or a value that is refused."""
    given = {name.removeprefix(PREFIX).lower(): value for name, value in environment.items() if name.startswith(PREFIX)}
    assert given.keys() <= Settings.model_fields.keys()
    return Settings(**given)


def parsed_command(words: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """Name and parameters of a command line, as the command line itself reads it."""
    group = get_command(app)
    with group.make_context("manymodels", list(words)) as context:
        name, command, rest = group.resolve_command(context, [words[0], *context.args])
        assert name is not None
        assert command is not None
        with command.make_context(name, rest, parent=context) as found:
            return name, context.params | found.params


def health_routes() -> set[str]:
    """The paths that tell how a service is."""
    return {operation.path for operation in ops.OPERATIONS}


def metrics_in(expression: str) -> set[str]:
    """The names of our metrics that an expression asks for."""
    return set(re.findall(r"manymodels_\w+", expression))


def known_metrics() -> set[str]:
    """The names of our series at /metrics."""
    computed = CollectorRegistry()
    computed.register(_Computed())
    text = (generate_latest() + generate_latest(computed)).decode()
    found = {"manymodels_ready"}
    for name, kind in re.findall(r"^# TYPE (manymodels_\w+(?<!_created)) (\w+)$", text, re.MULTILINE):
        found |= {f"{name}_{part}" for part in ("bucket", "sum", "count")} if kind == "histogram" else {name}
    return found


class _Computed(Collector):
    def collect(self) -> Any:
        yield from metrics_of([GroupGauges("oj", 1.0, {})])
        yield members_of([])
