"""Where a model comes from, as far as the process that registers it can tell.

Provenance is text to text. What the caller says wins; what can be seen from here (the time, the git commit, the
versions of the libraries that made the model) is added to it.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def gathered(
    given: Mapping[str, object], *, libraries: Iterable[str], folder: Path, trained_at: datetime | None
) -> dict[str, str]:
    """What is known of a model's making; `given` wins, times become RFC 3339 text, None leaves an entry out."""
    found: dict[str, object] = {
        "trained_at": trained_at,
        "commit": git_commit(folder),
        "libraries": library_versions(libraries),
        **given,
    }
    return {name: as_text(value) for name, value in found.items() if value is not None and value != ""}


def as_text(value: object) -> str:
    """Text of one entry; a datetime as RFC 3339 in UTC (one without an offset is UTC)."""
    if isinstance(value, datetime):
        moment = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        return moment.isoformat().replace("+00:00", "Z")
    return value.isoformat() if isinstance(value, date) else str(value)


def library_versions(names: Iterable[str]) -> str:
    """`python 3.11.7, lightgbm 4.6.0`: this Python and those of the libraries that are installed."""
    found = [f"python {sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"]
    for name in names:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


@cache
def git_commit(folder: Path) -> str | None:
    """The commit checked out in a folder, with `-dirty` behind it if tracked files differ; None outside of git."""
    git = shutil.which("git")
    if git is None:
        return None
    commit = _said(git, folder, "rev-parse", "HEAD")
    if commit is None:
        return None
    changed = _said(git, folder, "status", "--porcelain", "--untracked-files=no")
    return f"{commit}-dirty" if changed else commit


def _said(git: str, folder: Path, *arguments: str) -> str | None:
    try:
        run = subprocess.run(  # noqa: S603 - fixed arguments, no shell
            [git, "-C", str(folder), *arguments], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return run.stdout.strip() if run.returncode == 0 else None
