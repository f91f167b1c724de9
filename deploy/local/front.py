"""Envoy before servers of this machine, with the configuration that `deploy` has."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import yaml
from typing_extensions import override

from deploy.local.installed import envoy_binary
from deploy.local.ports import LOOPBACK, free_ports, listens
from deploy.local.programs import Program

CONFIGURATION: Final = Path(__file__).parents[1] / "envoy.yaml"
Tuning = Callable[[dict[str, Any]], object]


class Front(Program):
    """An Envoy before servers on these ports of loopback.

    Args:
        tune: may change the configuration before it is used.

    Raises:
        MissingError: if there is none here.
    """

    def __init__(self, folder: Path, ports: Sequence[int], tune: Tuning | None = None) -> None:
        self._binary = envoy_binary()
        [self.port] = free_ports(1)
        super().__init__("front", folder / f"front-{self.port}.log")
        self._file = folder / f"front-{self.port}.yaml"
        body = yaml.safe_load(CONFIGURATION.read_text())
        _place(body, self.port, ports)
        if tune is not None:
            tune(body)
        self._file.write_text(yaml.safe_dump(body))

    @property
    @override
    def address(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    @override
    def _command(self) -> Sequence[str]:
        told = ("--concurrency", "1", "--disable-hot-restart", "--log-level", "warning")
        return [self._binary, "-c", str(self._file), *told]

    @override
    def _answers(self) -> bool:
        return listens(self.port)


def _place(body: dict[str, Any], port: int, ports: Sequence[int]) -> None:
    """Put these addresses in place of a deployment's."""
    resources = body["static_resources"]
    resources["listeners"][0]["address"] = _address(port)
    body["admin"]["address"] = _address(0)
    endpoints = resources["clusters"][0]["load_assignment"]["endpoints"][0]
    endpoints["lb_endpoints"] = [{"endpoint": {"address": _address(one)}} for one in ports]


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": LOOPBACK, "port_value": port}}
