"""A report adds up, names a few, and stops a release exactly where its gates say."""

import pytest

from registry.errors import ArtifactDamagedError
from registry.manifest import Manifest, SegmentRef
from registry.signature import InputSpec, OutputSpec, Signature
from workers.builder.report import (
    NAMED,
    Counts,
    Failure,
    broken_gates,
    changed_shards,
    failure_json,
    report_json,
    stale_before,
)

SIGNATURE = Signature((InputSpec("price"),), (OutputSpec("sales"),))


def manifest(*segments: tuple[int, str]) -> Manifest:
    refs = tuple(SegmentRef(shard, digest, 10, 1) for shard, digest in segments)
    return Manifest("g", 1, 4, ("store",), ("store",), SIGNATURE, refs)


def test_counts_of_segments_add_up_and_name_the_first_few() -> None:
    part = Counts(added=1, lost=2, failed=1, lost_keys=("a", "b"), failures=(Failure("k", "code", "why"),))
    total = sum([part] * 15, start=Counts())
    assert (total.added, total.lost, total.failed, total.carried) == (15, 30, 15, 0)
    assert total.lost_keys == ("a", "b") * (NAMED // 2)
    assert len(total.failures) == 15


@pytest.mark.parametrize(
    ("gates", "broken"),
    [
        ({}, ()),
        ({"max_lost": 3}, ()),
        ({"max_lost": 2}, ("max_lost",)),
        ({"max_failed": 0}, ("max_failed",)),
        ({"max_failed": 1}, ()),
        ({"max_stale_days": 7}, ("max_stale_days",)),
        ({"max_lost": 0, "max_failed": 0, "max_stale_days": 1}, ("max_lost", "max_failed", "max_stale_days")),
    ],
)
def test_a_gate_stops_a_release_past_its_number(gates: dict[str, int], broken: tuple[str, ...]) -> None:
    assert broken_gates(Counts(lost=3, failed=1, stale=1), gates) == broken


def test_undated_models_are_not_stale() -> None:
    assert broken_gates(Counts(undated=5), {"max_stale_days": 1}) == ()


def test_stale_is_older_than_the_gates_days_or_the_usual_ones() -> None:
    assert stale_before(10 * 86_400.0, {}, 3) == 7 * 86_400.0
    assert stale_before(10 * 86_400.0, {"max_stale_days": 9}, 3) == 86_400.0


def test_changed_shards_are_those_with_another_segment_or_none() -> None:
    base = manifest((-1, "f"), (0, "a"), (1, "b"), (2, "c"))
    assert changed_shards(base, manifest((-1, "f"), (0, "a"), (1, "x"), (3, "d"))) == 3
    assert changed_shards(base, base) == 0
    assert changed_shards(None, base) == 4


def test_a_report_says_everything_in_json() -> None:
    counts = Counts(
        added=1,
        lost=1,
        failed=1,
        verdicts={"large": 2, "packed": 5, "differs": 3},
        lost_keys=("store=1",),
        failures=(Failure("store=2", "gone", "why"),),
    )
    report = report_json(counts, shards=4, changed=2, broken=("max_lost",))
    assert report["stored_native"] == {"differs": 3, "large": 2}
    assert report["packed"] == 5
    assert report["names"] == {
        "lost": ["store=1"],
        "stale": [],
        "failed": [{"key": "store=2", "code": "gone", "detail": "why"}],
    }
    assert report["blocked_by"] == ["max_lost"]
    assert {"added", "changed", "carried", "lost", "stale", "undated", "failed"} <= report.keys()
    assert (report["shards"], report["changed_shards"]) == (4, 2)


def test_a_build_that_failed_says_why() -> None:
    problem = ArtifactDamagedError("the base is damaged")
    assert failure_json(problem) == {"error": {"code": "artifact_damaged", "detail": "the base is damaged"}}
