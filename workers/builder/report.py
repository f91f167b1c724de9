"""What a release's report counts and names, and the gates that stop a release on it. Pure functions."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final, Self

from registry.errors import Problem
from registry.manifest import Manifest
from workers.packing.verdicts import PACKED

NAMED: Final = 20  # keys named for each finding; the counts are complete
SECONDS_A_DAY: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Failure:
    """A change whose artifact could not be used; the key kept the base's version, if it had one."""

    key: str
    code: str
    detail: str

    @classmethod
    def of(cls, key: str, problem: Problem) -> "Failure":
        """From the problem that was met."""
        return cls(key, problem.code, problem.detail)


@dataclass(frozen=True, slots=True)
class Counts:
    """What happened to models in one segment or in a whole release; counts of parts add up.

    Attributes:
        added, changed, carried: models that are new, in another version, or as in the base.
        lost: models of the base that the release lacks.
        failed: changes whose bytes are missing or damaged.
        stale, undated: models trained too long ago, or with no readable date.
        verdicts: how many models are packed, and how many stay native for each reason.
        repaired: segments of the base that were damaged and written anew from the bundles.
        lost_keys, stale_keys, failures: the first few of each.
    """

    added: int = 0
    changed: int = 0
    carried: int = 0
    lost: int = 0
    failed: int = 0
    stale: int = 0
    undated: int = 0
    repaired: int = 0
    lost_keys: tuple[str, ...] = ()
    stale_keys: tuple[str, ...] = ()
    failures: tuple[Failure, ...] = ()
    verdicts: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: Self) -> "Counts":
        sums: dict[str, Any] = {}
        for item in fields(self):
            mine, theirs = getattr(self, item.name), getattr(other, item.name)
            if isinstance(mine, Mapping):
                sums[item.name] = {name: mine.get(name, 0) + theirs.get(name, 0) for name in mine | theirs}
            else:
                sums[item.name] = (mine + theirs)[:NAMED] if isinstance(mine, tuple) else mine + theirs
        return Counts(**sums)


def stale_before(now: float, gates: Mapping[str, int], stale_days: int) -> float:
    """The moment (seconds since 1970) before which training data is stale: the gate's days, or the usual ones."""
    return now - gates.get("max_stale_days", stale_days) * SECONDS_A_DAY


def broken_gates(counts: Counts, gates: Mapping[str, int]) -> tuple[str, ...]:
    """The gates that this release does not pass, by name."""
    found = {"max_lost": counts.lost, "max_failed": counts.failed}
    broken = [name for name, count in found.items() if name in gates and count > gates[name]]
    if "max_stale_days" in gates and counts.stale:
        broken.append("max_stale_days")
    return tuple(broken)


def changed_shards(base: Manifest | None, manifest: Manifest) -> int:
    """How many shards have another segment than in the base, or none any more; the fallback segment counts as one."""
    before = {} if base is None else {ref.shard: ref.digest for ref in base.segments}
    after = {ref.shard: ref.digest for ref in manifest.segments}
    return sum(before.get(shard) != after.get(shard) for shard in before.keys() | after.keys())


def report_json(counts: Counts, *, shards: int, changed: int, broken: tuple[str, ...]) -> dict[str, Any]:
    """The report as the release row keeps it and callers see it."""
    native = {verdict: count for verdict, count in counts.verdicts.items() if verdict != PACKED}
    return {
        "added": counts.added,
        "changed": counts.changed,
        "carried": counts.carried,
        "lost": counts.lost,
        "stale": counts.stale,
        "undated": counts.undated,
        "failed": counts.failed,
        "repaired": counts.repaired,
        "packed": counts.verdicts.get(PACKED, 0),
        "stored_native": native,
        "shards": shards,
        "changed_shards": changed,
        "blocked_by": list(broken),
        "names": {
            "lost": list(counts.lost_keys),
            "stale": list(counts.stale_keys),
            "failed": [{"key": one.key, "code": one.code, "detail": one.detail} for one in counts.failures],
        },
    }


def failure_json(problem: Problem) -> dict[str, Any]:
    """The report of a release that could not be built."""
    return {"error": {"code": problem.code, "detail": problem.detail}}
