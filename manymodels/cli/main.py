"""The command line `manymodels`.

It starts fast because every command imports what it needs when it runs: listing groups loads no modelling library,
and only services, `gc`, `demo`, `segment` and `--home` load the server.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

import typer

from manymodels.cli import demo, groups, models, predictions, releases, segments, server, sweeping
from manymodels.cli.arguments import GLOBAL
from manymodels.cli.entry import Commands
from manymodels.cli.session import Session
from manymodels.client import DEFAULT_URL

app = typer.Typer(
    name="manymodels",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_COMMANDS: Mapping[str, Callable[..., None]] = {
    "demo": demo.demo,
    "serve": server.serve,
    "gateway": server.gateway,
    "worker": server.worker,
    "discovery": server.discovery,
    "builder": server.builder,
    "status": server.status,
    "register": models.register,
    "import": models.import_,
    "imports": models.imports,
    "models": models.models,
    "history": models.history,
    "delete": models.delete,
    "release": releases.release,
    "releases": releases.releases,
    "promote": releases.promote,
    "rollback": releases.rollback,
    "hold": releases.hold,
    "unhold": releases.unhold,
    "holds": releases.holds,
    "predict": predictions.predict,
    "lookup": predictions.lookup,
    "gc": sweeping.gc,
}
app.add_typer(groups.app, name="group")
app.add_typer(segments.app, name="segment")
for _name, _command in _COMMANDS.items():
    app.command(_name, epilog=GLOBAL)(_command)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"manymodels {version('manymodels')}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    url: Annotated[
        str | None, typer.Option("--url", envvar="MANYMODELS_URL", help=f"The server; by default {DEFAULT_URL}.")
    ] = None,
    home: Annotated[
        Path | None,
        typer.Option("--home", help="Work on this home without a server, in place of --url.", file_okay=False),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Serve a fleet of small models, one per partition, as if it were one model.

    Start with `manymodels demo`. --url, --home and --json may stand before or behind a command.
    """
    del version
    context.obj = Session(url=url, home=home, json=json)


def main() -> None:
    """Run the command line."""
    app()
