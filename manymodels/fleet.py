"""Whole fleets at once: the Parquet files of a training job go up one by one, and each is watched to its end.

Nothing is kept on this side. Sending the same file again while its import is unfinished finds that import, and rows
whose bytes are already the newest version count as unchanged: repeating the call is how an interrupted one resumes.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

from manymodels.errors import ImportFailedError, SourceNotFoundError

if TYPE_CHECKING:
    from manymodels.models import ModelCalls
    from manymodels.records import Import

SHOWN_REJECTS: Final = 10


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an import of one or more files is.

    Attributes:
        path: the file; `index` (from 0) of `files`.
        record: of its import.
        releasing: whether it is imported, and the release of what it brought is being built.
    """

    path: Path
    index: int
    files: int
    record: "Import"
    releasing: bool = False


def parquet_files(source: Path) -> list[Path]:
    """The files to import: the file itself, or all `*.parquet` below a folder in order of name, hidden ones left out.

    Raises:
        SourceNotFoundError: if there is none.
    """
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise SourceNotFoundError(f"{source} does not exist: give a Parquet file or a folder of Parquet files")
    files = sorted(
        path
        for path in source.rglob("*.parquet")
        if path.is_file() and not any(part.startswith((".", "_")) for part in path.relative_to(source).parts)
    )
    if not files:
        raise SourceNotFoundError(f"{source} holds no .parquet file")
    return files


def import_files(
    client: "ModelCalls",
    group: str,
    source: Path,
    *,
    runtime: str | None = None,
    on_error: str = "fail",
    progress: Callable[[Progress], None] | None = None,
    pause: Callable[[float], None] = time.sleep,
) -> Iterator["Import"]:
    """Import file after file; yields each import's last record, when the release it led to (if any) is built.

    Raises:
        ImportFailedError: at the first file of which nothing was published; files before it stay imported.
        ReleaseRefusedError: if the release could not be built.
        SourceNotFoundError: if there is nothing to import.
    """
    files = parquet_files(source)
    for index, path in enumerate(files):
        tell = _teller(progress, path, index, len(files))
        with path.open("rb") as file:
            started = client.start_import(group, file, runtime=runtime, on_error=on_error)
        record = started
        for record in _watched(client, group, started, pause):
            tell(record, False)
        if record.state == "failed":
            raise failure(client, group, path, record)
        if record.release is not None:
            tell(record, True)
            client.built_release(group, record.release, pause=pause)
            tell(record, False)
        yield record


def _teller(
    progress: Callable[[Progress], None] | None, path: Path, index: int, files: int
) -> Callable[["Import", bool], None]:
    def tell(record: "Import", releasing: bool) -> None:
        if progress is not None:
            progress(Progress(path, index, files, record, releasing))

    return tell


def _watched(client: "ModelCalls", group: str, record: "Import", pause: Callable[[float], None]) -> Iterator["Import"]:
    """The record again and again until the import ends, asked for ever less often (20 ms to half a second)."""
    wait = 0.02
    yield record
    while not record.ended:
        pause(wait)
        wait = min(wait * 1.5, 0.5)
        record = client.import_record(group, record.number)
        yield record


def failure(client: "ModelCalls", group: str, path: Path, record: "Import") -> ImportFailedError:
    """The error of a failed import, with its first rejected rows."""
    rejects = tuple(islice(client.rejects(group, record.number), SHOWN_REJECTS))
    said = (record.error or {}).get("detail") or f"{record.rejected} rows were rejected"
    lines = [f"{path}: import {record.number} failed, nothing was published: {said}"]
    lines += [f"  row {each.row} ({each.key or 'no key'}): {each.detail} ({each.code})" for each in rejects]
    if rejects:
        lines.append("correct these rows, or take the rest with on_error='skip'")
    return ImportFailedError("\n".join(lines), record, rejects)
