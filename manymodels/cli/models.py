"""Commands about models: register one, import a fleet, list, look into the history, delete."""

from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from manymodels.cli.arguments import (
    GROUP,
    KEY,
    SOME_KEY,
    TAGS,
    read_json_file,
    read_key,
    read_numbers,
    read_pairs,
)
from manymodels.cli.output import size_text, table
from manymodels.cli.progress import bars, import_updates
from manymodels.cli.session import session_of
from manymodels.records import Import, ModelVersion

RUNTIME = Annotated[
    str | None, typer.Option("--runtime", help="lightgbm, onnx or sklearn; told by the bytes where it can be.")
]


def register(
    context: typer.Context,
    group: GROUP,
    model: Annotated[Path, typer.Argument(help="LightGBM text, ONNX or skops file.", exists=True, dir_okay=False)],
    key: SOME_KEY = None,
    whole_group: Annotated[
        bool, typer.Option("--whole-group", help="Register the fallback model of the whole group: no key fields.")
    ] = False,
    runtime: RUNTIME = None,
    tag: TAGS = None,
    metric: Annotated[list[str] | None, typer.Option("--metric", help="A metric, name=number. Repeatable.")] = None,
    provenance: Annotated[
        list[str] | None,
        typer.Option("--provenance", help="trained_at=..., data=..., run=..., name=value. Repeatable."),
    ] = None,
    trained_through: Annotated[
        str | None, typer.Option("--trained-through", help="Last moment its training data covers, e.g. 2026-11-19.")
    ] = None,
    examples: Annotated[
        Path | None,
        typer.Option(
            "--examples", help='JSON {"instances": [...], "predictions": [...]}, re-scored before it is taken.'
        ),
    ] = None,
) -> None:
    """Register one model file for one key. With auto release on, it is live a moment later."""
    if bool(key) == whole_group:
        raise typer.BadParameter("give the key as field=value words, or --whole-group for none")
    said = read_pairs(provenance, "provenance entries")
    session = session_of(context)
    with session.client() as client:
        made = client.register(
            group,
            read_key(key),
            model,
            runtime=runtime,
            provenance=said | ({"trained_through": trained_through} if trained_through else {}),
            tags=read_pairs(tag, "tags"),
            metrics=read_numbers(metric, "metrics"),
            examples=None if examples is None else read_json_file(examples, "examples"),
        )
    how = "new version" if made.created else "already the newest version"
    session.show(made, lambda m: f"{m.key or '(whole group)'}: {how} {m.version}, digest {m.digest[:12]}")


def import_(
    context: typer.Context,
    group: GROUP,
    source: Annotated[Path, typer.Argument(help="A Parquet file, or a folder of them.")],
    runtime: RUNTIME = None,
    on_error: Annotated[
        str, typer.Option("--on-error", help="fail: a rejected row stops its file; skip: the rest is taken.")
    ] = "fail",
) -> None:
    """Import a fleet from Parquet. Running it again with the same files resumes what was interrupted."""
    if on_error not in ("fail", "skip"):
        raise typer.BadParameter(f"--on-error is fail or skip, got {on_error!r}")
    session = session_of(context)
    with session.client() as client, bars(session) as shown:
        progress = import_updates(shown)
        records = client.import_fleet(group, source, runtime=runtime, on_error=on_error, progress=progress)
    session.show(records, imports_view)


def imports(context: typer.Context, group: GROUP) -> None:
    """List the imports of a group, newest first."""
    session = session_of(context)
    with session.client() as client:
        session.show(client.imports(group), imports_view)


def models(
    context: typer.Context,
    group: GROUP,
    key: SOME_KEY = None,
    tag: TAGS = None,
    limit: Annotated[int, typer.Option("--limit", help="At most so many.", min=1)] = 50,
) -> None:
    """List the newest version of each key; key fields and tags narrow the list."""
    session = session_of(context)
    with session.client() as client:
        found = client.models(group, read_key(key), tags=read_pairs(tag, "tags"), page=min(limit + 1, 500))
        shown = list(islice(found, limit + 1))
    if len(shown) > limit:
        session.say(f"the first {limit} are shown; --limit shows more")
    session.show(shown[:limit], models_view)


def history(context: typer.Context, group: GROUP, key: KEY) -> None:
    """List all versions of one key and when each was live."""
    session = session_of(context)
    with session.client() as client:
        session.show(client.history(group, read_key(key)), history_view)


def delete(context: typer.Context, group: GROUP, key: KEY) -> None:
    """Delete the model of one key: from the next release on, it falls back."""
    session = session_of(context)
    with session.client() as client:
        number = client.delete_model(group, read_key(key))
    session.show({"version": number, "tombstone": True}, lambda _: f"deleted by tombstone version {number}")


def imports_view(records: list[Import]) -> Any:
    """Imports as a table."""
    columns = ["import", "state", "rows", "registered", "unchanged", "rejected", "release"]
    return table(
        "",
        columns,
        [[r.number, r.state, r.rows, r.registered, r.unchanged, r.rejected, r.release] for r in records],
    )


def models_view(versions: list[ModelVersion]) -> Any:
    """Newest versions as a table."""
    return table(
        "",
        ["key", "version", "runtime", "size", "trained through", "tags", "state"],
        [
            [
                each.key or "(whole group)",
                each.version,
                each.runtime,
                size_text(each.bytes),
                each.provenance.get("trained_through"),
                ", ".join(f"{name}={value}" for name, value in each.tags.items()),
                state_text(each),
            ]
            for each in versions
        ],
    )


def history_view(versions: list[ModelVersion]) -> Any:
    """All versions of a key as a table."""
    return table(
        versions[0].key if versions else "",
        ["version", "runtime", "created", "trained through", "state", "live"],
        [
            [
                each.version,
                each.runtime,
                _time(each.created),
                each.provenance.get("trained_through"),
                state_text(each),
                "\n".join(
                    f"release {period.release}: {_time(period.start)} to {_time(period.end) or 'now'}"
                    for period in each.live
                ),
            ]
            for each in versions
        ],
    )


def state_text(version: ModelVersion) -> str:
    """Whether a version is more than an ordinary one."""
    return "deleted" if version.tombstone else "withdrawn" if version.withdrawn else ""


def _time(moment: Any) -> str:
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S}"
