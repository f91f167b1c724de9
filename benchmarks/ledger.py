"""Open-loop loads from outside: how one is started, and what came of each of its requests."""

import json
from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.processes import run


class Entry(NamedTuple):
    """A request: when it left, how long it took, and what was wrong; in seconds."""

    at: float
    took: float
    wrong: str | None


LEFT: Final = attrgetter("at")


class Asked(NamedTuple):
    """What is asked of whom: ports that take turns, a path, a file of bodies, and the first prediction of each body."""

    ports: Sequence[int]
    path: str
    bodies: Path
    expected: Path

    def arguments(self, rate: float, burst: int) -> list[str]:
        """Of `benchmarks.open_load`, at so many requests a second, so many at once."""
        given = ["--ports", ",".join(map(str, self.ports)), "--path", self.path]
        given += ["--bodies", str(self.bodies), "--expected", str(self.expected)]
        return [*given, "--rate", str(rate), "--burst", str(burst)]


def entries(said: str | bytes) -> list[Entry]:
    """The ledger that a load has printed, in the order in which its requests left."""
    return sorted((Entry(*json.loads(line)) for line in said.splitlines()), key=LEFT)


def outcomes(asked: Asked, *, rate: float, burst: int, seconds: float) -> list[Entry]:
    """What came of a load of so many seconds, in the order in which its requests left, counted from the first."""
    found = entries(run("open_load", [*asked.arguments(rate, burst), "--count", str(int(rate * seconds))]))
    return [entry._replace(at=entry.at - found[0].at) for entry in found]
