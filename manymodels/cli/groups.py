"""`manymodels group`: create, list, show, place and delete groups."""

from pathlib import Path
from typing import Annotated, Any

import typer

from manymodels.cli.arguments import GLOBAL, GROUP, read_json, read_json_file
from manymodels.cli.output import age_text, size_text, table
from manymodels.cli.session import session_of
from manymodels.records import Group

REPLICAS = Annotated[
    int | None, typer.Option("--replicas", help="How many workers hold each shard, where they hold shares.", min=1)
]
POOL = Annotated[str | None, typer.Option("--pool", help="The pool of workers that hold its shards.")]

app = typer.Typer(no_args_is_help=True, help="Create, list, show, place and delete groups.", epilog=GLOBAL)


@app.command(epilog=GLOBAL)
def create(
    context: typer.Context,
    name: GROUP,
    key: Annotated[list[str] | None, typer.Option("--key", help="A key field, in order. Repeatable.")] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            help="An input: NAME[:DTYPE][?][=DEFAULT], e.g. price, feat:int64=0, kind:string? (nullable). Repeatable.",
        ),
    ] = None,
    outputs: Annotated[
        list[str] | None,
        typer.Option(
            "--output", help="An output: NAME, or NAME:label=a,b or NAME:probabilities=a,b of a classifier. Repeatable."
        ),
    ] = None,
    fallback: Annotated[
        list[str] | None,
        typer.Option("--fallback", help="Key fields of a fallback level, with commas. Repeatable, tried in turn."),
    ] = None,
    whole_group: Annotated[
        bool, typer.Option("--whole-group", help="Fall back to one model of the whole group at last.")
    ] = False,
    auto_release: Annotated[bool, typer.Option(help="Whether single registrations go live by themselves.")] = True,
    replicas: REPLICAS = None,
    pool: POOL = None,
    file: Annotated[
        Path | None, typer.Option("--file", help="The whole definition as JSON instead; - reads standard input.")
    ] = None,
) -> None:
    """Create a group: its key fields, its inputs and outputs, its fallback chain."""
    session = session_of(context)
    if file is not None:
        given = read_json_file(file, "a group's definition")
        if not isinstance(given, dict):
            raise typer.BadParameter("a group's definition must be a JSON object")
        definition: dict[str, Any] = {**given, "name": name}
    else:
        levels = [level.split(",") for level in fallback or ()] + ([[]] if whole_group else [])
        definition = {
            "name": name,
            "key": key or [],
            "signature": {
                "inputs": [read_input(text) for text in inputs or ()],
                "outputs": [read_output(text) for text in outputs or ()],
            },
            "fallback": levels,
            "auto_release": auto_release,
            "replicas": replicas,
            "pool": pool,
        }
    with session.client(may_create=True) as client:
        session.show(client.create_group(**definition), view)


@app.command("list", epilog=GLOBAL)
def list_(context: typer.Context) -> None:
    """List all groups."""
    session = session_of(context)
    with session.client() as client:
        session.show(
            client.groups(),
            lambda groups: table(
                "",
                ["group", "key", "inputs", "outputs", "auto release"],
                [
                    [
                        group.name,
                        "/".join(group.key),
                        _names(group, "inputs"),
                        _names(group, "outputs"),
                        "resting after a rollback" if group.suspended else "yes" if group.auto_release else "no",
                    ]
                    for group in groups
                ],
            ),
        )


@app.command(epilog=GLOBAL)
def show(context: typer.Context, name: GROUP) -> None:
    """Show one group and what is live in it."""
    session = session_of(context)
    with session.client() as client:
        session.show(client.group(name), view)


@app.command(epilog=GLOBAL)
def place(context: typer.Context, name: GROUP, replicas: REPLICAS = None, pool: POOL = None) -> None:
    """Change how many workers hold each shard of a group, or of which pool. What is left out stays as it is."""
    if replicas is None and pool is None:
        raise typer.BadParameter("say --replicas, --pool or both")
    session = session_of(context)
    with session.client() as client:
        session.show(client.place_group(name, replicas=replicas, pool=pool), view)


@app.command(epilog=GLOBAL)
def delete(
    context: typer.Context,
    name: GROUP,
    confirm: Annotated[str | None, typer.Option("--confirm", help="The group's name once more.")] = None,
) -> None:
    """Delete a group with all its models, releases and holds. There is no way back."""
    session = session_of(context)
    if confirm is None and not session.json:
        confirm = typer.prompt(f"This deletes {name} with all its models. Type its name to go on", err=True)
    with session.client() as client:
        client.delete_group(name, confirm=confirm or "")
    session.say(f"{name} is deleted")


def view(group: Group) -> Any:
    """One group as a table of its properties."""
    live = group.live
    rows: list[list[object]] = [
        ["key", "/".join(group.key)],
        ["fallback", " -> ".join("/".join(level) or "(whole group)" for level in group.fallback)],
        ["inputs", _names(group, "inputs")],
        ["outputs", _names(group, "outputs")],
        ["auto release", "resting after a rollback" if group.suspended else "yes" if group.auto_release else "no"],
        ["replicas", f"{group.replicas}, of the pool {group.pool}"],
    ]
    if group.models is not None:
        said = "nothing" if live is None else f"release {live.release}, {live.models:,} models, {size_text(live.bytes)}"
        rows += [["live", said], ["age", None if live is None else age_text(live.age_seconds)]]
        rows += [["models", group.models], ["holds", group.holds]]
    return table(group.name, ["", ""], rows)


def read_input(text: str) -> dict[str, Any]:
    """One `--input`.

    Raises:
        typer.BadParameter: if the default is not JSON of its dtype's kind.
    """
    declared, has_default, default = text.partition("=")
    nullable = declared.endswith("?")
    name, _, dtype = declared.removesuffix("?").partition(":")
    dtype = dtype or "float64"
    spec: dict[str, Any] = {"name": name, "dtype": dtype}
    if nullable:
        spec["nullable"] = True
    if has_default:
        is_text = dtype in ("string", "timestamp") and default != "null"
        spec["default"] = default if is_text else read_json(default, f"the default of {name!r}")
    return spec


def read_output(text: str) -> dict[str, Any]:
    """One `--output`; classes that read as JSON numbers or booleans are such."""
    declared, _, classes = text.partition("=")
    name, _, kind = declared.partition(":")
    spec: dict[str, Any] = {"name": name}
    if kind:
        spec["kind"] = kind
    if classes:
        spec["classes"] = [_label(each) for each in classes.split(",")]
    return spec


def _label(text: str) -> Any:
    return read_json(text, "a class") if text in ("true", "false") or text.lstrip("-").isdecimal() else text


def _names(group: Group, what: str) -> str:
    return ", ".join(f"{spec['name']}:{spec.get('dtype') or spec.get('kind')}" for spec in group.signature[what])
