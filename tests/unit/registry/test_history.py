import pytest

from registry.errors import VersionNotFoundError
from registry.live_periods import LivePeriod, contents_of, live_periods
from registry.versions import history
from tests.support.registries import NOW, Registry

A, B = "store=1/brand=a", "store=2/brand=b"


def live(registry: Registry, text: str) -> dict[int, list[tuple[int, float, float | None]]]:
    with registry.database.read() as conn:
        return {
            item.version.number: [
                (period.release, period.start - NOW, period.end and period.end - NOW) for period in item.live
            ]
            for item in history(conn, "oj", registry.key(text))
        }


def test_history_says_when_each_version_was_live(registry):
    registry.add(A, "a1")
    registry.flip(registry.release(), NOW + 1)
    registry.add(A, "a2")
    registry.flip(registry.release(), NOW + 2)
    registry.add(A, "a3")
    assert live(registry, A) == {3: [], 2: [(2, 2, None)], 1: [(1, 1, 2)]}


def test_releases_that_leave_the_key_alone_prolong_its_span(registry):
    registry.add(A, "a1")
    registry.flip(registry.release(), NOW + 1)
    for n in range(3):
        registry.add(B, f"b{n}")
        registry.flip(registry.release(), NOW + 2 + n)
    assert live(registry, A) == {1: [(1, 1, None)]}


def test_a_rollback_gives_a_version_a_second_span(registry):
    registry.add(A, "a1")
    registry.flip(registry.release(), NOW + 1)
    registry.add(A, "a2")
    registry.flip(registry.release(), NOW + 2)
    registry.flip(1, NOW + 3)
    assert live(registry, A) == {2: [(2, 2, 3)], 1: [(1, 1, 2), (1, 3, None)]}


def test_a_key_without_any_version_has_no_history(registry):
    with registry.database.read() as conn, pytest.raises(VersionNotFoundError):
        history(conn, "oj", registry.key(A))


def test_a_release_holds_what_it_or_its_nearest_base_changed():
    bases = {1: None, 2: 1, 3: 1, 4: 3, 5: None}
    assert contents_of(bases, {1: 10, 3: 30}) == {1: 10, 2: 10, 3: 30, 4: 30, 5: None}


def test_spans_of_two_deployments_are_told_apart():
    held = {1: 10, 2: 20}
    periods = [
        LivePeriod("blue", 1, 0.0, 5.0),
        LivePeriod("green", 2, 1.0, 2.0),
        LivePeriod("green", 2, 2.0, 6.0),
        LivePeriod("blue", 1, 5.0, None),
        LivePeriod("blue", 2, 7.0, 8.0),
    ]
    assert live_periods(held, periods) == {
        10: (LivePeriod("blue", 1, 0.0, None),),
        20: (LivePeriod("green", 2, 1.0, 6.0), LivePeriod("blue", 2, 7.0, 8.0)),
    }
