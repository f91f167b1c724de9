"""`manymodels predict` and `manymodels lookup`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from manymodels.cli.arguments import GROUP, SOME_KEY, read_json, read_json_file, read_key
from manymodels.cli.output import as_json, table
from manymodels.cli.session import session_of
from manymodels.results import BulkResult, Lookup, Prediction, Standing


def predict(
    context: typer.Context,
    group: GROUP,
    key: SOME_KEY = None,
    row: Annotated[
        list[str] | None, typer.Option("--row", help='A row as JSON: {"price": 3.87} or [3.87, 0]. Repeatable.')
    ] = None,
    rows: Annotated[
        Path | None, typer.Option("--rows", help="A JSON file with a list of rows; - reads standard input.")
    ] = None,
    bulk: Annotated[
        Path | None,
        typer.Option(
            "--bulk", help='Rows of many keys instead: JSON {"columns": [...], "data": [...]} or a list of objects.'
        ),
    ] = None,
    max_fallback_level: Annotated[
        int | None, typer.Option(help="How far down the fallback chain the answer may come from.", min=0)
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Of a bulk, also say which models answered.")] = False,
) -> None:
    """Ask for the predictions of one key's model, or of many with --bulk."""
    session = session_of(context)
    if bulk is not None:
        if key or row or rows:
            raise typer.BadParameter("--bulk brings its own keys and rows")
        data = read_json_file(bulk, "a bulk")
        with session.client() as client:
            many = client.predict_bulk(group, data, explain=explain, max_fallback_level=max_fallback_level)
        session.show(many, bulk_view)
        return
    instances = [read_json(text, "a row") for text in row or ()]
    if rows is not None:
        instances += read_json_file(rows, "rows")
    if not instances:
        raise typer.BadParameter("""give a row with --row '{"price": 3.87}', or a file of rows with --rows""")
    with session.client() as client:
        one = client.predict(group, read_key(key), instances, max_fallback_level=max_fallback_level)
    session.show(one, view)


def lookup(
    context: typer.Context,
    group: GROUP,
    key: SOME_KEY = None,
    explain: Annotated[bool, typer.Option("--explain", help="Tell of every worker why it is asked or is not.")] = False,
) -> None:
    """Show where a key is served and which model answers for it."""
    session = session_of(context)
    with session.client() as client:
        session.show(client.lookup(group, read_key(key), explain=explain), lookup_view)


def view(answer: Prediction) -> Any:
    """A prediction as a table, headed by the model that answered."""
    model = answer.model
    said = f"{model.key or '(whole group)'}, version {model.version}, release {model.release}"
    if model.fallback_level:
        said += f", fallback level {model.fallback_level}"
    return table(said, ["row", "prediction"], [[i, _cell(value)] for i, value in enumerate(answer.predictions)])


def bulk_view(result: BulkResult) -> Any:
    """A bulk's predictions as a table, failed rows with their problem."""
    problems = {error.row: f"{error.detail} ({error.code})" for error in result.errors}
    return table(
        ", ".join(f"{name}: release {number}" for name, number in result.releases.items()),
        ["row", "prediction", "fallback", "problem"],
        [
            [row, _cell(value), level, problems.get(row)]
            for row, (value, level) in enumerate(zip(result.predictions, result.fallback_level, strict=True))
        ],
    )


def lookup_view(found: Lookup) -> Any:
    """A lookup as a table of its properties, and one of all members if it explains itself."""
    members = "\n".join(f"{member.uri} ({member.state})" for member in found.members)
    from rich.console import Group

    facts = table(
        found.key,
        ["", ""],
        [
            ["model", found.model_key or "(whole group)"],
            ["version", str(found.version)],
            ["release", f"{found.release} ({found.deployment})"],
            ["fallback level", str(found.fallback_level)],
            ["shard", f"{found.shard} (slot {found.slot})"],
            ["members", members],
            ["revision", found.revision],
        ],
    )
    return facts if found.explanation is None else Group(facts, standings(found.explanation))


def standings(explanation: Sequence[Standing]) -> Any:
    """How every member stands for a shard, as a table."""
    return table(
        "who is asked, in this order",
        ["turn", "member", "address", "state", "seat", "zone", "why"],
        [[one.rank, one.id, one.uri, one.state, one.seat, one.zone, one.reason] for one in explanation],
    )


def _cell(value: object) -> object:
    return as_json(value).decode() if isinstance(value, dict | list) else value
