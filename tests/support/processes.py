"""Processes of this machine, as /proc tells of them."""

from pathlib import Path


def descendants(pid: int) -> set[int]:
    """Ids of all living processes that a process started, and those that they started."""
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and (found := _stat(int(folder.name))) is not None:
            parents[int(folder.name)] = found[1]
    family = {pid}
    while more := {child for child, parent in parents.items() if parent in family} - family:
        family |= more
    return family - {pid}


def living(pids: set[int]) -> set[int]:
    """Those of the processes that still run; a zombie does not."""
    return {pid for pid in pids if (found := _stat(pid)) is not None and found[0] != "Z"}


def _stat(pid: int) -> tuple[str, int] | None:
    """State and parent of a process, None if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return fields[0], int(fields[1])
