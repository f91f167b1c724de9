"""Everything a home holds as one comparable value: what a refused request must leave as it was."""

import sqlite3
from contextlib import closing
from typing import Any

from registry.home import Home

# A task that failed is kept for whoever waits for it, and pruned later; the counters of rows count it.
RECORDS = frozenset({"tasks", "sqlite_sequence"})


def state_of(home: Home, *, without: frozenset[str] = RECORDS) -> dict[str, Any]:
    """Every table of the registry and, as `files`, every file of the artifact store, but for those of `without`."""
    with closing(sqlite3.connect(home.root / "registry.db")) as conn:
        tables = {name for (name,) in conn.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        found: dict[str, Any] = {
            name: sorted(map(repr, conn.execute(f'SELECT * FROM "{name}"'))) for name in sorted(tables - without)
        }
    if "files" not in without:
        files = [path for folder in ("objects", "staged") for path in (home.artifacts / folder).rglob("*")]
        found["files"] = sorted((path.relative_to(home.artifacts).as_posix(), path.stat().st_size) for path in files)
    return found
