import pytest

from registry.deployments import Flip, flip, get_deployments, unwant, want, wanted
from registry.errors import (
    DeploymentInvalidError,
    PreconditionFailedError,
    ReleaseNotFoundError,
    ReleaseStateError,
)
from registry.records import Deployment
from registry.revision import read_revision
from registry.versions import newest
from tests.support.registries import NOW, Registry

A, B, C = "store=1/brand=a", "store=2/brand=b", "store=3/brand=c"


def is_withdrawn(registry: Registry, text: str) -> bool:
    with registry.database.read() as conn:
        version = newest(conn, "oj", registry.key(text))
    assert version is not None
    return version.withdrawn


@pytest.fixture
def rolled_back(registry: Registry) -> Registry:
    """Release 1 has A; release 2 brought a new A and the first B, went live, and was rolled back."""
    registry.add(A, "a1")
    registry.flip(registry.release())
    registry.add_all({A: "a2", B: "b1"})
    registry.flip(registry.release())
    assert registry.flip(1) == Flip("rollback", 2)
    return registry


def test_the_first_flip_is_a_promotion(registry):
    registry.add(A, "a1")
    assert registry.flip(registry.release()) == Flip("promote", 0)
    with registry.database.read() as conn:
        found = get_deployments(conn, "oj")
    assert found.deployments == {"blue": Deployment("blue", 1, 100)}
    assert found.promoted == {"blue": NOW}


def test_a_rollback_withdraws_what_the_abandoned_release_introduced(rolled_back):
    assert is_withdrawn(rolled_back, A)
    assert is_withdrawn(rolled_back, B)


def test_a_rollback_suspends_auto_release_until_the_next_promotion(rolled_back):
    assert rolled_back.now_group().suspended
    rolled_back.add(C, "c1")
    rolled_back.flip(rolled_back.release())
    assert not rolled_back.now_group().suspended


def test_after_a_rollback_a_hotfix_of_another_key_brings_nothing_abandoned_back(rolled_back):
    rolled_back.add(C, "c1")
    full = rolled_back.release()
    assert rolled_back.held(full) == {A: 1, C: 1}
    named = rolled_back.release(named=[(C, 1)])
    assert rolled_back.held(named) == {A: 1, C: 1}


def test_nothing_abandoned_comes_back_later_either(rolled_back):
    for n in range(3):
        rolled_back.add(C, f"c{n}")
        number = rolled_back.release()
        rolled_back.flip(number)
        assert rolled_back.held(number) == {A: 1, C: n + 1}


def test_posting_a_withdrawn_newest_digest_returns_the_same_still_withdrawn_version(rolled_back):
    again = rolled_back.add(A, "a2")
    assert not again.created
    assert (again.version.number, again.version.withdrawn) == (2, True)


def test_naming_a_withdrawn_version_brings_it_back_and_clears_the_mark(rolled_back):
    number = rolled_back.release(named=[(A, 2)])
    assert rolled_back.held(number) == {A: 2}
    assert not is_withdrawn(rolled_back, A)
    assert is_withdrawn(rolled_back, B)


def test_a_newer_version_of_an_abandoned_key_is_released(rolled_back):
    rolled_back.add(A, "a3")
    assert rolled_back.held(rolled_back.release()) == {A: 3}


def test_promoting_the_abandoned_release_again_restores_what_it_contains(rolled_back):
    assert rolled_back.flip(2) == Flip("promote", 0)
    assert not is_withdrawn(rolled_back, A)
    assert not is_withdrawn(rolled_back, B)
    assert not rolled_back.now_group().suspended
    rolled_back.add(C, "c1")
    assert rolled_back.held(rolled_back.release()) == {A: 2, B: 1, C: 1}


def test_rolling_back_again_withdraws_again(rolled_back):
    rolled_back.flip(2)
    assert rolled_back.flip(1) == Flip("rollback", 2)
    assert is_withdrawn(rolled_back, A)


def test_a_version_named_after_a_rollback_is_withdrawn_by_the_rollback_of_its_release(rolled_back):
    number = rolled_back.release(named=[(A, 2)])
    rolled_back.flip(number)
    assert rolled_back.flip(1) == Flip("rollback", 1)
    assert is_withdrawn(rolled_back, A)
    assert rolled_back.held(rolled_back.release()) == {A: 1}


def test_a_rollback_over_several_releases_withdraws_all_of_them(registry):
    for n in range(4):
        registry.add(f"store={n}/brand=a", f"m{n}")
        registry.flip(registry.release())
    assert registry.flip(1) == Flip("rollback", 3)
    registry.add(C, "c1")
    assert registry.held(registry.release()) == {"store=0/brand=a": 1, C: 1}


def test_a_rollback_to_the_middle_keeps_what_lies_below(registry):
    for n in range(4):
        registry.add(f"store={n}/brand=a", f"m{n}")
        registry.flip(registry.release())
    registry.flip(2)
    assert [is_withdrawn(registry, f"store={n}/brand=a") for n in range(4)] == [False, False, True, True]


def test_versions_that_no_release_introduced_are_not_withdrawn(rolled_back):
    rolled_back.add_all({B: "b2", C: "c1"})
    rolled_back.flip(2)
    rolled_back.flip(1)
    assert not is_withdrawn(rolled_back, B)
    assert rolled_back.held(rolled_back.release()) == {A: 1, B: 2, C: 1}


def test_a_release_built_before_the_rollback_does_not_save_what_it_shares_with_the_abandoned(registry):
    registry.add(A, "a1")
    registry.flip(registry.release())
    registry.add(A, "a2")
    registry.release()  # 2, never promoted
    registry.release()  # 3, the same changes
    registry.flip(3)
    registry.flip(1)
    assert is_withdrawn(registry, A)
    registry.add(B, "b1")
    assert registry.held(registry.release()) == {A: 1, B: 1}


def test_a_rollback_across_branches_withdraws_what_the_target_does_not_hold(registry):
    registry.add(A, "a1")
    registry.flip(registry.release())  # 1
    registry.add(A, "a2")
    registry.flip(registry.release())  # 2 on 1
    registry.add(B, "b1")
    registry.release(named=[(B, 1)], base=1)  # 3 on 1
    registry.add(C, "c1")
    registry.flip(registry.release(named=[(C, 1)], base=2))  # 4 on 2
    assert registry.flip(3) == Flip("rollback", 2)  # what 4 and 2 brought
    assert [is_withdrawn(registry, text) for text in (A, B, C)] == [True, False, True]
    registry.add(A, "a2 again")
    registry.add(C, "c1")
    assert registry.held(registry.release()) == {A: 3, B: 1}


def test_what_goes_live_is_never_withdrawn(rolled_back):
    """A release upon an abandoned base holds withdrawn versions until it is promoted."""
    rolled_back.add(C, "c1")
    number = rolled_back.release(named=[(C, 1)], base=2)
    assert is_withdrawn(rolled_back, A)
    rolled_back.flip(number)
    assert not is_withdrawn(rolled_back, A)
    assert not is_withdrawn(rolled_back, B)


def test_a_withdrawn_tombstone_leaves_the_key_alone(registry):
    registry.add_all({A: "a1", B: "b1"})
    registry.flip(registry.release())
    registry.delete(A)
    registry.flip(registry.release())
    registry.flip(1)
    registry.add(B, "b2")
    assert registry.held(registry.release()) == {A: 1, B: 2}


def test_flipping_to_what_is_live_changes_nothing(rolled_back):
    before = rolled_back.now_group()
    with rolled_back.database.read() as conn:
        revision, etag = read_revision(conn), get_deployments(conn, "oj").etag
    assert rolled_back.flip(1) == Flip("same", 0)
    assert rolled_back.now_group() == before
    with rolled_back.database.read() as conn:
        assert (read_revision(conn), get_deployments(conn, "oj").etag) == (revision, etag)


def test_a_flip_on_an_outdated_decision_is_refused_and_changes_nothing(registry):
    registry.add(A, "a1")
    registry.release()
    with registry.database.read() as conn:
        before = get_deployments(conn, "oj").etag
    registry.flip(1, if_match=before)
    registry.add(A, "a2")
    registry.release()
    with pytest.raises(PreconditionFailedError):
        registry.flip(2, if_match=before)
    assert registry.live() == 1
    with registry.database.read() as conn:
        after = get_deployments(conn, "oj").etag
    assert registry.flip(2, if_match=after).kind == "promote"


def test_only_a_ready_release_can_go_live(registry):
    registry.add(A, "a1")
    registry.begin()
    with pytest.raises(ReleaseStateError, match="building"):
        registry.flip(1)
    registry.finish(1, blocked=True)
    with pytest.raises(ReleaseStateError, match="blocked"):
        registry.flip(1)
    with pytest.raises(ReleaseNotFoundError):
        registry.flip(7)
    assert registry.live() is None


@pytest.mark.parametrize(
    "deployments",
    [
        {},
        {"green": Deployment("green", 1, 100)},
        {"blue": Deployment("blue", 1, 50), "green": Deployment("green", 1, 50)},
        {"blue": Deployment("blue", 1, 90)},
        {"blue": Deployment("green", 1, 100)},
    ],
)
def test_the_one_deployment_is_blue_with_all_the_traffic(registry, deployments):
    registry.release()
    with registry.database.write() as conn, pytest.raises(DeploymentInvalidError):
        flip(conn, "oj", deployments, if_match=None, author="", now=NOW)


def test_every_change_that_a_snapshot_shows_grows_the_revision(registry):
    registry.release()
    registry.release()

    def number() -> int:
        with registry.database.read() as conn:
            return read_revision(conn)[1]

    def grows(change) -> bool:
        before = number()
        with registry.database.write() as conn:
            change(conn)
        return number() > before

    blue = {"blue": Deployment("blue", 1, 100)}
    assert grows(lambda conn: want(conn, "oj", 1, NOW + 5))
    assert grows(lambda conn: unwant(conn, "oj", 1))
    assert not grows(lambda conn: unwant(conn, "oj", 1))
    assert grows(lambda conn: flip(conn, "oj", blue, if_match=None, author="", now=NOW))


def test_a_wish_ends_by_its_time_and_by_being_taken_back(registry):
    registry.release()
    registry.release()
    with registry.database.write() as conn:
        want(conn, "oj", 2, NOW + 10)
        want(conn, "oj", 1, NOW + 5)
        want(conn, "oj", 1, NOW + 20)
    with registry.database.write() as conn:
        assert wanted(conn, "oj", NOW) == [1, 2]
        assert wanted(conn, "oj", NOW + 10) == [1]
        unwant(conn, "oj", 1)
        assert wanted(conn, "oj", NOW) == [2]


def test_only_a_ready_release_can_be_wanted(registry):
    registry.begin()
    with registry.database.write() as conn:
        with pytest.raises(ReleaseStateError):
            want(conn, "oj", 1, NOW + 10)
        with pytest.raises(ReleaseNotFoundError):
            want(conn, "oj", 2, NOW + 10)
