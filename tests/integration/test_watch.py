"""The watcher over real databases: what becomes current, when, and what stays when something is away."""

import asyncio
import shutil
import sqlite3
import threading

import pytest

from discovery.errors import SnapshotUnavailableError, WatchersFullError
from discovery.snapshot import Revision
from discovery.watch import LONGEST_RETRY, REREAD_SECONDS, SnapshotWatcher
from registry.database import Database
from registry.deployments import flip, unwant, want
from registry.holds import put_hold
from registry.records import Deployment
from tests.support.houses import Adopter, House, worker


@pytest.fixture
def house(tmp_path):
    house = House(tmp_path / "home", busy_seconds=0.05)
    yield house
    house.close()


@pytest.fixture
def watch(house):
    """Watchers that only poll when told to, each with a view of the members of its own."""
    opened = []

    def open_watcher(adopt=None, member=None, **options):
        membership = house.open_membership()
        if member is not None:
            membership.join(worker(member))
        options = {"interval": 3600.0, "now": house.now, "clock": house.clock} | options
        opened.append(SnapshotWatcher(house.database, house.store, membership, adopt, member_id=member, **options))
        return opened[-1]

    yield open_watcher
    for watcher in opened:
        watcher.stop()


def make_live(house, number, name="oj"):
    with house.database.write() as connection:
        flip(connection, name, {"blue": Deployment("blue", number, 100)}, if_match=None, author="", now=house.now())


def disable(house, picture, until=None):
    key = picture.groups["oj"].schema.parse_partial({"store": "2", "brand": "tropicana"})
    with house.database.write() as connection:
        put_hold(
            connection, "oj", key, action="disable", version=None, reason="odd", author="", until=until, now=house.now()
        )


def serving(picture):
    return picture.groups["oj"].deployments["blue"].release.number


def serve(house, releases=1):
    house.group()
    for _ in range(releases):
        house.release()
    make_live(house, 1)


def test_a_change_is_current_after_the_next_poll(house, watch):
    watcher = watch()
    assert watcher.current is None
    first = watcher.refresh()
    house.group()
    assert watcher.current is first
    second = watcher.refresh()
    assert watcher.current is second
    assert list(second.groups) == ["oj"]
    assert second.revision.number > first.revision.number


def test_a_poll_without_a_change_keeps_the_same_object(house, watch):
    serve(house)
    watcher = watch()
    assert watcher.refresh() is watcher.refresh()


def test_the_thread_polls_by_itself_and_wakes_long_polls(house, watch):
    watcher = watch(interval=0.005)
    watcher.start()
    since = watcher.current.revision

    async def wait():
        waiting = asyncio.create_task(watcher.wait(since, 60))
        await asyncio.get_running_loop().run_in_executor(None, house.group)
        return await waiting

    assert list(asyncio.run(wait()).groups) == ["oj"]


def test_a_snapshot_is_adopted_before_it_is_current(house, watch):
    adopter, current_then = Adopter(), []
    watcher = watch(adopter)
    adopter.before = lambda _: current_then.append(watcher.current)
    first = watcher.refresh()
    serve(house)
    second = watcher.refresh()
    assert current_then == [None, first]
    assert adopter.seen == [first, second]


def test_an_adoption_that_fails_keeps_the_last_snapshot_and_is_tried_again(house, watch):
    adopter = Adopter()
    watcher = watch(adopter)
    serve(house, 2)
    first = watcher.refresh()
    make_live(house, 2)

    def fail(_):
        raise MemoryError

    adopter.before = fail
    assert watcher.refresh() is first
    assert watcher.refresh() is first
    assert watcher.failures == 2
    adopter.before = lambda _: None
    assert serving(watcher.refresh()) == 2


def test_a_group_that_cannot_be_mapped_stays_live_as_it_was_while_others_move_on(house, watch):
    adopter = Adopter()
    watcher = watch(adopter)
    serve(house, 2)
    watcher.refresh()
    adopter.broken = {("oj", 2)}
    make_live(house, 2)
    house.group("milk")
    shown = watcher.refresh()
    assert serving(shown) == 1
    assert "milk" in shown.groups
    assert [release.number for release in adopter.seen[-1].groups["oj"].wanted] == [1, 2]
    assert watcher.failures == 1
    adopter.broken = set()
    house.clock.sleep(LONGEST_RETRY)
    mended = watcher.refresh()
    assert serving(mended) == 2
    assert mended.revision.number > shown.revision.number
    assert [release.number for release in watcher.refresh().groups["oj"].wanted] == [2]


def test_what_is_mapped_is_announced_and_what_is_no_longer_wanted_is_taken_back(house, watch):
    serve(house, 2)
    watcher = watch(Adopter(), "a")
    watcher.refresh()
    assert house.membership.prepared("oj", 1) == {"a"}
    with house.database.write() as connection:
        want(connection, "oj", 2, house.now() + 10)
    watcher.refresh()
    assert house.membership.prepared("oj", 2) == {"a"}
    with house.database.write() as connection:
        unwant(connection, "oj", 2)
    watcher.refresh()
    assert house.membership.prepared("oj", 2) == frozenset()
    assert house.membership.prepared("oj", 1) == {"a"}


def test_what_could_not_be_mapped_is_not_announced(house, watch):
    serve(house)
    adopter = Adopter()
    adopter.broken = {("oj", 1)}
    watcher = watch(adopter, "a")
    watcher.refresh()
    assert house.membership.prepared("oj", 1) == frozenset()
    adopter.broken = set()
    house.clock.sleep(LONGEST_RETRY)
    watcher.refresh()
    assert house.membership.prepared("oj", 1) == {"a"}


def test_a_hold_that_ends_is_noticed_without_any_write(house, watch):
    serve(house)
    watcher = watch()
    disable(house, watcher.refresh(), until=house.now() + 5)
    held = watcher.refresh()
    assert len(held.groups["oj"].disabled) == 1
    house.now.sleep(4.9)
    assert watcher.refresh() is held
    house.now.sleep(0.1)
    after = watcher.refresh()
    assert after.groups["oj"].disabled == frozenset()
    assert after.revision.number > held.revision.number


def test_a_member_that_falls_silent_makes_a_greater_revision_for_every_process(house, watch):
    house.membership.join(worker("a"))
    one, other = watch(), watch()
    before = one.refresh()
    assert other.refresh().revision == before.revision
    for _ in range(16):
        house.clock.sleep(0.1)
        one.refresh()
    suspected = one.current
    assert [member.state for member in suspected.members] == ["suspect"]
    assert suspected.revision.number > before.revision.number
    other.refresh()
    assert other.current.revision == suspected.revision


def test_processes_that_saw_different_things_under_one_number_agree_under_a_greater_one(house, watch):
    """The first reader began to look earlier, so it suspects the silent member earlier."""
    house.membership.join(worker("a"))
    early, late = watch(), watch()
    early.refresh()
    for _ in range(10):
        house.clock.sleep(0.1)
        early.refresh()
    late.refresh()
    for _ in range(40):
        house.clock.sleep(0.1)
        early.refresh()
        late.refresh()
        if early.current.revision == late.current.revision and early.current.members != late.current.members:
            apart = early.current.revision
    assert early.refresh().revision == late.refresh().revision
    assert early.current.members == late.current.members
    assert early.current.revision.number > apart.number


def test_revisions_of_one_process_only_grow(house, watch):
    house.membership.join(worker("a"))
    watcher, seen = watch(), []
    serve(house, 3)
    for number in range(1, 40):
        house.clock.sleep(0.2)
        if number % 7 == 0:
            house.membership.renew("a", state="alive", stats={})
        if number % 5 == 0:
            make_live(house, 1 + number % 3)
        shown = watcher.refresh()
        if not seen or shown is not seen[-1]:
            seen.append(shown)
    numbers = [shown.revision.number for shown in seen]
    assert numbers == sorted(set(numbers))
    assert len(numbers) >= 8


def test_a_wall_clock_that_jumps_changes_no_member(house, watch):
    house.membership.join(worker("a"))
    watcher = watch()
    before = watcher.refresh()
    for jump in (86_400.0, -10 * 86_400.0):
        house.now.sleep(jump)
        assert watcher.refresh() is before


def test_a_change_that_was_not_counted_is_found_all_the_same(house, watch):
    serve(house)
    watcher = watch()
    disable(house, watcher.refresh())
    with house.database.write() as connection:
        connection.exec_driver_sql("UPDATE revision SET number = number - 1")
    house.clock.sleep(REREAD_SECONDS)
    assert len(watcher.refresh().groups["oj"].disabled) == 1


def test_a_locked_registry_delays_writers_and_no_reader(house, watch):
    serve(house)
    watcher = watch(Adopter(), "a")
    before = watcher.refresh()
    holder = sqlite3.connect(house.home.root / "registry.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    assert watcher.refresh() is before
    assert watcher.failures == 0
    holder.close()


def test_the_last_snapshot_stays_while_databases_are_away_and_the_next_comes_when_they_are_back(house, watch):
    serve(house, 2)
    watcher = watch(Adopter(), "a")
    before = watcher.refresh()
    for name in ("registry.db", "leases.db"):
        blocker = sqlite3.connect(house.home.root / name, isolation_level=None)
        blocker.execute("PRAGMA locking_mode=EXCLUSIVE")
        house.close()
        blocker.execute("PRAGMA journal_mode=DELETE")
        blocker.execute("BEGIN EXCLUSIVE")
        assert watcher.refresh() is before
        assert watcher.failures > 0
        blocker.execute("ROLLBACK")
        blocker.close()
        assert watcher.refresh() is before
    make_live(house, 2)
    assert serving(watcher.refresh()) == 2


def test_without_a_first_snapshot_there_is_none_to_answer(house, watch):
    shutil.move(house.home.root / "registry.db", house.home.root / "away.db")
    watcher = watch()
    with pytest.raises(SnapshotUnavailableError):
        watcher.refresh()
    with pytest.raises(SnapshotUnavailableError):
        asyncio.run(watcher.wait(None, 0))


def test_long_polls_answer_at_once_to_whoever_is_not_up_to_date(house, watch):
    house.group()
    watcher = watch()
    current = watcher.refresh()
    epoch, number = current.revision.epoch, current.revision.number
    for since in (None, Revision(epoch, number - 1), Revision(epoch, number + 1), Revision("other", number)):
        assert asyncio.run(watcher.wait(since, 60)) is current


def test_a_long_poll_ends_with_its_time(house, watch):
    watcher = watch()
    current = watcher.refresh()
    assert asyncio.run(watcher.wait(current.revision, 0.01)) is current


@pytest.mark.parametrize("end", ["stop", "end_waits"])
def test_long_polls_end_when_the_process_drains(house, watch, end):
    watcher = watch()
    current = watcher.refresh()

    async def wait():
        waiting = [asyncio.create_task(watcher.wait(current.revision, 60)) for _ in range(20)]
        await asyncio.sleep(0)
        getattr(watcher, end)()
        return [*await asyncio.gather(*waiting), await watcher.wait(current.revision, 60)]

    assert all(answer is current for answer in asyncio.run(wait()))


def test_more_long_polls_than_allowed_are_refused(house, watch):
    watcher = watch(max_waiters=2)
    current = watcher.refresh()

    async def scenario():
        waiting = [asyncio.create_task(watcher.wait(current.revision, 60)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(WatchersFullError):
            await watcher.wait(current.revision, 60)
        assert await watcher.wait(None, 60) is current
        watcher.end_waits()
        await asyncio.gather(*waiting)

    asyncio.run(scenario())


def test_refreshes_from_many_threads_while_the_thread_polls_show_every_revision_once_and_in_order(house, watch):
    house.database.close()
    house.database = Database(house.home.registry_url)  # many write: each waits for its turn
    adopter = Adopter()
    watcher = watch(adopter, interval=0.001)
    watcher.start()
    serve(house, 2)

    def work(number):
        for turn in range(10):
            make_live(house, 1 + (number + turn) % 2)
            watcher.refresh()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    numbers = [snapshot.revision.number for snapshot in adopter.seen]
    assert numbers == sorted(numbers)
