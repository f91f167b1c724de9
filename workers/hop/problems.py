"""Problems across the hop: a code names the class, so that a gateway tells a caller what a worker told it."""

from collections.abc import Iterator
from functools import cache
from typing import Final

from registry.errors import Problem
from workers.errors import WorkerError

_UNKNOWN: Final = WorkerError


def problem_named(code: str, detail: str, field: str | None = None) -> Problem:
    """The problem of this code; one that this version does not know is a `WorkerError` that repeats what it said."""
    kind = _kinds().get(code)
    if kind is None:
        return _UNKNOWN(f"{code}: {detail}", field=field)
    return kind(detail, field=field)


@cache
def _kinds() -> dict[str, type[Problem]]:
    return {kind.code: kind for kind in _below(Problem)}


def _below(kind: type[Problem]) -> Iterator[type[Problem]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _below(child)
