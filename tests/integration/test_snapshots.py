import threading

import pytest

from discovery.snapshots import read_snapshot
from registry.deployments import flip, unwant, want
from registry.groups import delete_group
from registry.holds import drop_hold, put_hold
from registry.records import Deployment
from tests.support.houses import House, worker

KEY = {"store": "2", "brand": "tropicana"}


@pytest.fixture
def house(tmp_path):
    house = House(tmp_path / "home")
    yield house
    house.close()


def read(house, previous=None):
    return read_snapshot(house.database, house.store, house.membership, previous, house.now())


def make_live(house, number, name="oj"):
    with house.database.write() as connection:
        flip(connection, name, {"blue": Deployment("blue", number, 100)}, if_match=None, author="", now=house.now())


def disable(house, name="oj", until=None):
    with house.database.write() as connection:
        key = read(house).groups[name].schema.parse_partial(KEY)
        put_hold(
            connection,
            name,
            key,
            action="disable",
            version=None,
            reason="odd",
            author="me",
            until=until,
            now=house.now(),
        )
    return key


def test_an_empty_house_is_an_empty_picture(house):
    picture = read(house)
    assert picture.groups == {}
    assert picture.members == ()
    assert picture.expires is None


def test_a_live_release_is_shown_with_its_manifest_and_when_it_was_promoted(house):
    house.group()
    house.release()
    house.now.sleep(60)
    make_live(house, 1)
    view = read(house).groups["oj"]
    release = view.deployments["blue"].release
    assert release.number == 1
    assert release.promoted == house.now()
    assert release.manifest.release == 1
    assert house.store.path(release.manifest_digest).read_bytes() == release.manifest.to_bytes()
    assert view.wanted == (release,)
    assert view.deployments["blue"].traffic == 100


def test_a_wanted_release_is_to_be_mapped_and_is_not_live(house):
    house.group()
    house.release()
    with house.database.write() as connection:
        want(connection, "oj", 1, house.now() + 10)
    view = read(house).groups["oj"]
    assert view.deployments == {}
    assert [release.number for release in view.wanted] == [1]
    assert view.wanted[0].promoted is None
    with house.database.write() as connection:
        unwant(connection, "oj", 1)
    assert read(house).groups["oj"].wanted == ()


def test_a_wish_ends_by_its_own_time(house):
    house.group()
    house.release()
    with house.database.write() as connection:
        want(connection, "oj", 1, house.now() + 10)
    house.now.sleep(11)
    assert read(house).groups["oj"].wanted == ()


def test_unchanged_groups_and_manifests_are_the_same_objects(house):
    for name in ("milk", "oj"):
        house.group(name)
        house.release(name)
        make_live(house, 1, name)
    before = read(house)
    disable(house, "oj")
    after = read(house, before)
    assert after.groups["milk"] is before.groups["milk"]
    assert after.groups["oj"] is not before.groups["oj"]
    manifests = [picture.groups["oj"].deployments["blue"].release.manifest for picture in (before, after)]
    assert manifests[0] is manifests[1]
    assert not after.same_picture(before)
    assert read(house, after).same_picture(after)


def test_a_disabled_key_is_shown_until_its_hold_ends_by_time_alone(house):
    house.group()
    key = disable(house, until=house.now() + 5)
    picture = read(house)
    assert picture.groups["oj"].disabled == {key.id}
    assert picture.expires == house.now() + 5
    house.now.sleep(5)
    later = read(house, picture)
    assert later.groups["oj"].disabled == frozenset()
    assert later.expires is None


def test_a_dropped_hold_is_gone(house):
    house.group()
    key = disable(house)
    assert read(house).expires is None
    with house.database.write() as connection:
        drop_hold(connection, "oj", key)
    assert read(house).groups["oj"].disabled == frozenset()


def test_every_change_that_is_shown_makes_a_greater_revision(house):
    revisions = [read(house).revision]

    def grew():
        revisions.append(read(house).revision)
        assert revisions[-1].epoch == revisions[-2].epoch
        return revisions[-1].number > revisions[-2].number

    house.group()
    assert grew()
    house.release()
    with house.database.write() as connection:
        want(connection, "oj", 1, house.now() + 10)
    assert grew()
    make_live(house, 1)
    assert grew()
    disable(house)
    assert grew()
    house.membership.join(worker("a"))
    assert grew()
    house.membership.renew("a", state="alive", stats={})
    assert not grew()
    with house.database.write() as connection:
        delete_group(connection, "oj", confirm="oj")
    assert grew()


@pytest.mark.parametrize("how", ["lost", "damaged"])
def test_a_live_release_whose_manifest_is_not_whole_leaves_the_former_one_and_other_groups_in_place(house, how):
    for name in ("milk", "oj"):
        house.group(name)
        house.release(name)
        make_live(house, 1, name)
    before = read(house)
    lost = house.release("oj")
    if how == "lost":
        house.store.delete(lost.manifest)
    else:
        house.damage(lost.manifest)
    make_live(house, 2, "oj")
    make_live(house, house.release("milk").number, "milk")
    after = read(house, before)
    assert after.groups["oj"].deployments["blue"].release.number == 1
    assert [release.number for release in after.groups["oj"].wanted] == [1]
    assert after.groups["milk"].deployments["blue"].release.number == 2
    assert read(house).groups["oj"].deployments == {}


def test_a_picture_read_while_groups_come_and_go_is_never_a_mixture(house):
    """Two groups are always flipped together; no reader may ever see them apart."""
    for name in ("a", "b"):
        house.group(name)
        for _ in range(2):
            house.release(name)
    stop = threading.Event()

    def write():
        number = 1
        while not stop.is_set():
            with house.database.write() as connection:
                for name in ("a", "b"):
                    target = {"blue": Deployment("blue", number, 100)}
                    flip(connection, name, target, if_match=None, author="", now=house.now())
            number = 3 - number

    for name in ("a", "b"):
        make_live(house, 1, name)
    writer = threading.Thread(target=write)
    writer.start()
    try:
        picture = None
        for _ in range(50):
            picture = read(house, picture)
            live = {view.deployments["blue"].release.number for view in picture.groups.values()}
            assert len(live) == 1
    finally:
        stop.set()
        writer.join()
