"""What the command line prints: tables for people, JSON for machines, errors on stderr with a hint what to do."""

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import orjson

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

PIPE_WIDTH: Final = 160

_HINTS: Final[Mapping[str, str]] = {
    "group_not_found": "`manymodels group list` names the groups; `manymodels group create` makes one",
    "group_exists": "choose another name, or look at the one that exists with `manymodels group show`",
    "partition_not_found": "`manymodels models GROUP` lists the keys that have a model",
    "nothing_live": "build a release with `manymodels release GROUP` and make it live with `manymodels promote GROUP`",
    "release_not_found": "`manymodels releases GROUP` lists them",
    "release_state": "`manymodels releases GROUP` shows which releases are ready",
    "version_not_found": "`manymodels history GROUP KEY` lists a key's versions",
    "hold_not_found": "`manymodels holds GROUP` lists the holds that stand",
    "confirmation_required": "repeat the group's name with --confirm",
    "key_field_missing": "`manymodels group show GROUP` lists the key fields; give each as field=value",
    "key_field_unknown": "`manymodels group show GROUP` lists the key fields; give each as field=value",
    "overloaded": "the server is busy: try again in a moment",
    "database_busy": "another process writes for long, or the database is away or without room: try again in a moment",
}


def console(*, stderr: bool = False) -> "Console":
    """A console on stdout or stderr that takes text as it is; what goes to a file or pipe is given room."""
    from rich.console import Console

    terminal = (sys.stderr if stderr else sys.stdout).isatty()
    width = None if terminal or "COLUMNS" in os.environ else PIPE_WIDTH
    return Console(stderr=stderr, markup=False, highlight=False, emoji=False, width=width)


def print_json(value: Any) -> None:
    """One JSON document and a line break on stdout."""
    sys.stdout.write(as_json(value).decode() + "\n")
    sys.stdout.flush()


def as_json(value: Any) -> bytes:
    """JSON of results, records and plain values."""
    return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z, default=str)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> "RenderableType":
    """A table of plain texts under a title, if any; numbers stand to the right, None is a dash, long texts fold."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    cells = [list(row) for row in rows]
    made = Table(box=SIMPLE_HEAD, pad_edge=False, show_header=any(columns))
    for index, name in enumerate(columns):
        numbers = bool(cells) and all(isinstance(row[index], int | float | None) for row in cells)
        made.add_column(name, justify="right" if numbers else "left", overflow="fold", no_wrap=numbers)
    for row in cells:
        made.add_row(*(Text(_shown(cell)) for cell in row))
    return Group(Text(title, style="bold"), made) if title else made


def say_error(error: Exception, *, for_machines: bool = False) -> None:
    """Tell on stderr what is wrong and what to do."""
    code = getattr(error, "code", None)
    hint = _HINTS.get(code) if isinstance(code, str) else None
    if for_machines:
        sys.stderr.write(_problem(error, hint).decode() + "\n")
        return
    out = console(stderr=True)
    out.print(f"error: {error}" + _code_of(error), style="red", soft_wrap=True)
    if hint:
        out.print(f"hint: {hint}", soft_wrap=True)


def size_text(size: float) -> str:
    """Bytes in the unit that reads best: `1.5 MB`."""
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def age_text(seconds: float) -> str:
    """An age in its largest unit: `3 h`."""
    for limit, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= limit:
            return f"{seconds // limit:.0f} {unit}"
    return f"{seconds:.0f} s"


def _shown(cell: object) -> str:
    if cell is None or cell == "":
        return "-"
    return f"{cell:,}" if isinstance(cell, int) and not isinstance(cell, bool) else str(cell)


def _code_of(error: Exception) -> str:
    """The code of a problem raised in this process; an `ApiError` says its own."""
    from registry.errors import Problem

    return f" ({error.code})" if isinstance(error, Problem) else ""


def _problem(error: Exception, hint: str | None) -> bytes:
    said = {
        "code": getattr(error, "code", None) or type(error).__name__,
        "detail": getattr(error, "detail", None) or str(error),
        **{name: getattr(error, name, None) for name in ("status", "field", "row", "request_id")},
        "hint": hint,
    }
    return as_json({"error": {name: value for name, value in said.items() if value is not None}})
