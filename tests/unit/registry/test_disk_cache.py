"""What of a distant store is kept on this disk, and what goes when there is no more room."""

import hashlib
import os
import threading
from contextlib import ExitStack

import pytest

from registry.artifacts.disk_cache import GRACE_SECONDS, DiskCache, hold
from registry.errors import ArtifactDamagedError, ArtifactMissingError, StorageFullError
from tests.support.clocks import ManualClock
from tests.support.disks import small_disk

SIZE = 1000


@pytest.fixture
def clock():
    return ManualClock(1_000_000.0)


@pytest.fixture
def cache(tmp_path, clock):
    """Room for three objects of `SIZE` bytes."""
    return DiskCache(tmp_path, 3 * SIZE, now=clock)


def content(number):
    return bytes([number]) * SIZE


def digest(number):
    return hashlib.sha256(content(number)).hexdigest()


def bring(cache, clock, *numbers):
    """Bring objects one after another, each long after the one before."""
    for number in numbers:
        clock.sleep(GRACE_SECONDS + 1)
        cache.bring(digest(number), lambda number=number: [content(number)], lambda: SIZE)


def kept(cache, numbers=range(10)):
    there = {found.digest for found in cache.files.objects()}
    return [number for number in numbers if digest(number) in there]


def test_what_was_brought_is_found(cache, clock):
    assert cache.find(digest(1)) is None
    bring(cache, clock, 1)
    assert cache.find(digest(1)).read_bytes() == content(1)


def test_what_is_here_is_not_fetched_again(cache, clock):
    bring(cache, clock, 1)
    assert cache.bring(digest(1), lambda: pytest.fail("fetched again"), lambda: SIZE).read_bytes() == content(1)


def test_the_least_recently_used_goes_first(cache, clock):
    bring(cache, clock, 1, 2, 3)
    clock.sleep(GRACE_SECONDS + 1)
    cache.find(digest(1))
    bring(cache, clock, 4)
    assert kept(cache) == [1, 3, 4]


def test_finding_an_object_does_not_make_it_another_file(cache, clock):
    bring(cache, clock, 1)
    before = cache.find(digest(1)).stat()
    clock.sleep(100)
    after = cache.find(digest(1)).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_what_somebody_holds_open_stays(cache, clock):
    bring(cache, clock, 1, 2, 3)
    descriptor = os.open(cache.find(digest(1)), os.O_RDONLY)
    hold(descriptor)
    bring(cache, clock, 4)
    assert kept(cache) == [1, 3, 4]
    os.close(descriptor)
    bring(cache, clock, 5)
    assert kept(cache) == [3, 4, 5]


def test_what_was_just_asked_for_stays_until_it_can_be_opened(cache, clock):
    bring(cache, clock, 1, 2, 3)
    clock.sleep(GRACE_SECONDS + 1)
    for number in (1, 2, 3):
        cache.find(digest(number))
    cache.bring(digest(4), lambda: [content(4)], lambda: SIZE)
    assert kept(cache) == [1, 2, 3, 4]
    clock.sleep(GRACE_SECONDS + 1)
    assert cache.make_room() == SIZE


def test_an_object_larger_than_the_budget_is_kept_alone(cache, clock):
    bring(cache, clock, 1, 2)
    clock.sleep(GRACE_SECONDS + 1)
    large = b"x" * (4 * SIZE)
    name = hashlib.sha256(large).hexdigest()
    assert cache.bring(name, lambda: [large], lambda: len(large)).stat().st_size == 4 * SIZE
    assert kept(cache) == []


@pytest.fixture
def on_small_disk(tmp_path, clock):
    """A cache on a disk of a megabyte, under a budget that it cannot hold."""
    with small_disk(tmp_path / "disk", 1 << 20) as disk:
        yield DiskCache(disk.path / "cache", 1 << 30, now=clock)


def block(number):
    return bytes([number]) * (200 << 10)


def bring_block(cache, clock, number):
    clock.sleep(GRACE_SECONDS + 1)
    name = hashlib.sha256(block(number)).hexdigest()
    return cache.bring(name, lambda: [block(number)], lambda: len(block(number)))


def test_on_a_disk_that_is_smaller_than_the_budget_the_least_recently_used_goes(on_small_disk, clock):
    for number in range(12):
        assert bring_block(on_small_disk, clock, number).stat().st_size == len(block(number))
    assert 2 <= len(list(on_small_disk.files.objects())) <= 5
    assert list(on_small_disk.files.staged_names()) == []


def test_what_no_room_can_be_made_for_is_refused_and_leaves_nothing(on_small_disk, clock):
    paths = [bring_block(on_small_disk, clock, number) for number in range(5)]
    with ExitStack() as open_:
        for path in paths:
            hold(open_.enter_context(path.open("rb")).fileno())
        with pytest.raises(StorageFullError):
            bring_block(on_small_disk, clock, 9)
        assert list(on_small_disk.files.staged_names()) == []
        assert all(path.exists() for path in paths)
    assert bring_block(on_small_disk, clock, 9).read_bytes() == block(9)


def test_a_write_that_a_full_disk_refused_finds_room_when_it_is_tried_again(on_small_disk, clock):
    for number in range(4):
        bring_block(on_small_disk, clock, number)
    clock.sleep(GRACE_SECONDS + 1)
    with pytest.raises(StorageFullError):
        on_small_disk.files.put([block(8), block(9)])
    on_small_disk.make_room_for_next()
    assert on_small_disk.files.put([block(8), block(9)]).size == 2 * len(block(8))


def test_what_arrives_with_another_digest_is_not_kept(cache):
    with pytest.raises(ArtifactDamagedError, match="arrived with"):
        cache.bring(digest(1), lambda: [content(2)], lambda: SIZE)
    assert kept(cache) == []


def test_a_fetch_that_breaks_off_leaves_nothing(cache):
    def broken():
        yield content(1)[:10]
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        cache.bring(digest(1), broken, lambda: SIZE)
    assert kept(cache) == []
    assert list(cache.files.staged_names()) == []


def test_however_many_ask_at_once_one_fetches(cache):
    fetched, begun, go_on = [], threading.Event(), threading.Event()

    def fetch():
        fetched.append(1)
        begun.set()
        assert go_on.wait(30)
        yield content(1)

    paths = []
    threads = [
        threading.Thread(target=lambda: paths.append(cache.bring(digest(1), fetch, lambda: SIZE))) for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    assert begun.wait(30)
    go_on.set()
    for thread in threads:
        thread.join(30)
    assert len(paths) == 20
    assert len(set(paths)) == len(fetched) == 1


@pytest.mark.parametrize("name", ["", "../x", "a" * 63, "A" * 64])
def test_a_name_that_is_no_digest_is_refused(cache, name):
    with pytest.raises(ArtifactMissingError):
        cache.find(name)
