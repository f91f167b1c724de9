"""`manymodels segment`: look into a segment file, without a server and without loading a model.

Segments are content-addressed, so one may be named by its digest where `--home` says in which artifacts it lies.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from manymodels.cli.arguments import GLOBAL
from manymodels.cli.output import size_text, table
from manymodels.cli.session import Session, existing_home, needing_server, session_of

if TYPE_CHECKING:
    from workers.packing.description import PackDescription
    from workers.segments.description import ModelDescription, SegmentDescription
    from workers.segments.reader import Segment
    from workers.segments.verification import Verification

LISTED_FAULTS: Final = 50

app = typer.Typer(no_args_is_help=True, help="Look into segment files.", epilog=GLOBAL)


@app.command(epilog=GLOBAL)
def inspect(
    context: typer.Context,
    file: Annotated[str, typer.Argument(help="A segment file; with --home also its digest.", metavar="FILE")],
    models: Annotated[int, typer.Option("--models", help="List the first N models.", metavar="N", min=0)] = 0,
    key: Annotated[
        str | None, typer.Option("--key", help="Show the model of this key, e.g. store=2/brand=tropicana, in full.")
    ] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Check every model; exit code 1 if one is damaged.")] = False,
    inputs: Annotated[
        int | None,
        typer.Option(
            "--inputs", help="Inputs of the group's signature: a pack that reads others is damaged.", metavar="N", min=1
        ),
    ] = None,
) -> None:
    """Show what a segment file holds: models, verdicts, bytes, arrays; with --verify also whether it is whole."""
    session = session_of(context)
    with needing_server("segment inspect"):
        from workers.segments.description import describe_model, describe_segment, list_models
        from workers.segments.verification import MOST_INPUTS
        from workers.segments.verification import verify as verified
    limit = inputs or MOST_INPUTS
    segment = _opened(session, file)
    found: dict[str, Any] = {}
    if key is not None:
        found["model"] = describe_model(segment, key, limit)
    else:
        found["segment"] = describe_segment(segment)
    if models:
        found["models"] = list(list_models(segment, models))
    if verify:
        found["verification"] = verified(segment, limit)
    session.show(found, view)
    if (verify and found["verification"].faults) or (key is not None and found["model"].fault):
        raise typer.Exit(1)


def _opened(session: Session, file: str) -> "Segment":
    """The segment of a file or digest.

    Raises:
        ArtifactMissingError: if there is no such file.
        SegmentDamagedError: if it is none.
    """
    from gateway.settings import read_settings
    from registry.artifacts.stores import open_store
    from registry.errors import ArtifactMissingError
    from registry.home import Home
    from workers.segments.reader import Segment

    store = None
    if session.home is not None:
        settings = read_settings()
        home = Home(existing_home(session).absolute())
        store = open_store(home, settings.artifacts, cache_bytes=settings.disk_cache_bytes)
    path = Path(file)
    try:
        if store is not None and not path.exists():
            path = store.path(file)
        return Segment.open(path, store)
    except OSError as error:
        raise ArtifactMissingError(f"{file} cannot be read: {error.strerror}") from error


def view(found: Mapping[str, Any]) -> Any:
    """What was found, part by part."""
    from rich.console import Group

    drawn: Mapping[str, Callable[[Any], Any]] = {
        "segment": segment_view,
        "model": model_view,
        "models": _models_view,
        "verification": verification_view,
    }
    views: list[Any] = [drawn[name](value) for name, value in found.items()]
    return Group(*views)


def segment_view(segment: "SegmentDescription") -> Any:
    """A segment as tables."""
    from rich.console import Group

    shard = "fallback models" if segment.shard < 0 else f"shard {segment.shard} of {segment.shards}"
    title = f"segment of {segment.group}, {shard}, {segment.models:,} models, format {segment.format}"
    if segment.pack_format is not None:
        title += f", packs of format {segment.pack_format}"
    each = max(segment.models, 1)
    sizes = [[name, size, round(size / each, 1)] for name, size in segment.bytes.items()]
    verdicts = [
        [
            verdict,
            count.models,
            ", ".join(f"{name} {number:,}" for name, number in count.runtimes.items()),
            count.meaning,
        ]
        for verdict, count in segment.verdicts.items()
    ]
    packs = segment.pack_bytes
    said = (
        f"packs: {packs.least:,} bytes at least, {packs.median:,} the median, {packs.most:,} at most\n" if packs else ""
    )
    return Group(
        table(title, ["part", "bytes", "bytes a model"], sizes),
        table("", ["verdict", "models", "runtimes", "meaning"], verdicts),
        said + "runtimes: " + ", ".join(f"{name} {number:,}" for name, number in segment.runtimes.items()) + "\n",
        table(
            "",
            ["array", "dtype", "shape", "first byte", "end"],
            [[each.name, each.dtype, list(each.shape), each.start, each.end] for each in segment.arrays],
        ),
    )


def model_view(model: "ModelDescription") -> Any:
    """One model as a table of its properties."""
    entry = model.entry
    rows: list[list[object]] = [
        ["version", str(entry.version)],
        ["runtime", entry.runtime],
        ["verdict", entry.verdict],
        ["row", str(model.row)],
        ["bytes in this file", f"{model.bytes:,}"],
        ["bytes of the artifact", f"{entry.size:,}"],
        ["heap when loaded", size_text(entry.heap)],
        ["digest of the artifact", entry.digest],
        ["trained through", entry.trained_through],
        ["trained at", entry.trained_at],
        ["classes", ", ".join(map(str, entry.classes))],
        ["slot", str(entry.slot)],
        ["lies alone", entry.place and f"in bundle {entry.place.bundle} at {entry.place.offset:,}"],
        *([] if model.pack is None else _pack_rows(model.pack)),
    ]
    for at, known in entry.codes:
        rows.append([f"codes of input {at}", ", ".join(f"{value} {code}" for value, code in known)])
    rows.append(["damage", model.fault or _soundness(model)])
    return table(entry.key or "(whole group)", ["", ""], rows)


def _soundness(model: "ModelDescription") -> str:
    if model.pack is not None:
        return "none: its checksum is right and its pack is sound"
    if not model.bytes and not model.reached:
        return "not looked for: it lies in another file, name its home with --home"
    return "none: its SHA-256 is right"


def _pack_rows(pack: "PackDescription") -> list[list[object]]:
    outputs = ", ".join(pack.outputs) or "the raw numbers"
    return [
        ["family", pack.family],
        ["parts", f"{pack.parts:,}, {pack.nodes:,} internal nodes in all" if pack.nodes else f"{pack.parts:,}"],
        ["raw numbers", f"{pack.raw}, {pack.leaf} a leaf"],
        ["begin with", ", ".join(map(str, pack.starts)) or "0"],
        ["divided by", str(pack.divisor) if pack.divisor else None],
        ["transform", f"{pack.transform}, factor {pack.scale}" if "sigmoid" in pack.transform else pack.transform],
        ["inputs", _numbers(pack.inputs)],
        ["refuses", f"{', '.join(pack.refuses)} in {_numbers(pack.looked_at)}" if pack.refuses else None],
        [
            "outputs",
            outputs + (f"; classes {_numbers(pack.classes)} of the group's" if pack.classes else ""),
        ],
    ]


def _numbers(numbers: tuple[int, ...]) -> str:
    return ", ".join(map(str, numbers))


def _models_view(models: list[dict[str, Any]]) -> Any:
    columns = ["key", "version", "runtime", "verdict", "bytes", "trained through"]
    return table("", columns, [[model["key"] or "(whole group)", *list(model.values())[1:]] for model in models])


def verification_view(found: "Verification") -> Any:
    """What was checked, and every fault up to a number."""
    from rich.console import Group

    said = f"index: good; {found.packs:,} packs and {found.stored:,} stored models checked, {len(found.faults):,} bad"
    if found.elsewhere:
        said += f"; {found.elsewhere:,} large models lie elsewhere: name their home with --home"
    rows = [[fault.row, fault.key, fault.what] for fault in found.faults[:LISTED_FAULTS]]
    more = len(found.faults) - len(rows)
    shown = [table("", ["row", "key", "damage"], rows)] if rows else []
    return Group(said, *shown, *([f"and {more:,} more; --json names them all"] if more else []))
