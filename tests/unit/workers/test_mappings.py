"""As many packs are mapped as the budget allows; what is unmapped stays readable for whoever still holds its pin."""

import ctypes
import gc
import threading
import weakref
from pathlib import Path
from random import Random

import numpy as np
import pytest

from tests.support import segments
from tests.support.packs import GROUP, numbers
from tests.support.rewrites import Parts
from workers.errors import SegmentDamagedError
from workers.mappings import Mappings, Pin
from workers.segments.packs import PackFile
from workers.segments.reader import Segment

PAGE = 4096


@pytest.fixture(scope="module")
def whole() -> bytes:
    return numbers().data


@pytest.fixture
def shelf(tmp_path, whole):
    """Open segments with packs, by number."""

    def opened(number: int) -> Segment:
        path = tmp_path / f"segment-{number}"
        if not path.exists():
            path.write_bytes(whole)
        return Segment.open(path)

    return opened


@pytest.fixture(scope="module")
def size(whole) -> int:
    """Bytes of one segment's packs."""
    return len(Parts(whole).arrays["packs"])


def mapped_files(folder: Path) -> list[str]:
    """Names of the folder's files whose packs this process has mapped; an index is mapped from the file's start."""
    lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    places = [(Path(line[5]).name, int(line[2], 16)) for line in lines if len(line) > 5 and str(folder) in line[5]]
    return sorted(name for name, offset in places if offset)


def bytes_at(packs: PackFile, base: int) -> bytes:
    return ctypes.string_at(base, packs.size)


def test_a_mapping_holds_the_packs_as_they_lie_in_the_file(shelf, whole, size):
    segment = shelf(0)
    mappings = Mappings(1 << 20)
    base = mappings.map(segment.packs)
    assert base % PAGE == 0
    assert bytes_at(segment.packs, base) == Parts(whole).arrays["packs"]
    assert mappings.map(segment.packs) == base == segment.packs.base
    assert mappings.stats() == (size, 1 << 20, 1, 1, 0)


def test_the_least_recently_used_goes_when_the_budget_is_reached(shelf, size, tmp_path):
    one, two, three = (shelf(number) for number in range(3))
    mappings = Mappings(2 * size)
    for segment in (one, two):
        mappings.map(segment.packs)
    one.packs.used = mappings.count  # as whoever asks for an address notes it
    two.packs.used = mappings.count - 1
    mappings.map(three.packs)
    assert (bool(one.packs.base), bool(two.packs.base), bool(three.packs.base)) == (True, False, True)
    assert mappings.stats() == (2 * size, 2 * size, 2, 3, 1)
    gc.collect()
    assert mapped_files(tmp_path) == ["segment-0", "segment-2"]
    mappings.map(two.packs)
    assert (bool(one.packs.base), bool(two.packs.base), bool(three.packs.base)) == (False, True, True)


@pytest.mark.parametrize("short", [1, PAGE, 1 << 30])
def test_a_segment_larger_than_the_budget_stays_alone(shelf, size, short):
    one, two = shelf(0), shelf(1)
    mappings = Mappings(max(size - short, 0))
    mappings.map(one.packs)
    assert (mappings.stats().segments, mappings.stats().bytes) == (1, size)
    mappings.map(two.packs)
    assert (one.packs.base, bool(two.packs.base)) == (0, True)
    assert mappings.stats().segments == 1


def test_what_is_unmapped_stays_readable_under_the_pin_of_that_time(shelf, size, whole, tmp_path):
    one, two = shelf(0), shelf(1)
    mappings = Mappings(size)
    pin = mappings.pin
    base = mappings.map(one.packs)
    mappings.map(two.packs)
    assert (one.packs.base, one.packs.mapping) == (0, None)
    assert mappings.pin is not pin
    gc.collect()
    assert mapped_files(tmp_path) == ["segment-0", "segment-1"]
    assert bytes_at(one.packs, base) == Parts(whole).arrays["packs"]
    del pin
    gc.collect()
    assert mapped_files(tmp_path) == ["segment-1"]


def test_a_pin_keeps_what_was_unmapped_since_and_nothing_older(shelf, size, whole, tmp_path):
    mappings = Mappings(size)
    found = [shelf(number) for number in range(4)]
    pins: list[Pin] = []
    bases = []
    for segment in found:
        bases.append(mappings.map(segment.packs))
        pins.append(mappings.pin)
    for oldest in range(3):
        del pins[0]  # the one that was current when segment `oldest` went
        assert mapped_files(tmp_path) == [f"segment-{number}" for number in range(oldest + 1, 4)]
        for segment, base in list(zip(found, bases, strict=True))[oldest + 1 :]:
            assert bytes_at(segment.packs, base) == Parts(whole).arrays["packs"]


def test_the_oldest_pin_of_a_great_many_can_be_let_go():
    """Each pin keeps the next, so the last reference to the first frees them all, one out of the other."""
    oldest = pin = Pin()
    for _ in range(300_000):
        pin = pin.followed(())
    unmapped = np.empty(1)
    pin.followed((unmapped,))
    kept = weakref.ref(unmapped)
    del pin, unmapped
    assert kept() is not None
    del oldest
    assert kept() is None


def test_a_segment_that_nobody_holds_is_mapped_no_more(shelf, size, tmp_path):
    segment = shelf(0)
    mappings = Mappings(1 << 20)
    mappings.map(segment.packs)
    del segment
    gc.collect()
    assert (mapped_files(tmp_path), mappings.stats().bytes, mappings.stats().segments) == ([], 0, 0)


def test_a_file_cut_short_after_it_was_opened_is_refused_at_mapping(shelf, tmp_path):
    segment = shelf(0)
    mappings = Mappings(1 << 20)
    with (tmp_path / "segment-0").open("r+b") as file:
        file.truncate(segment.header.stored_at - 1)
    with pytest.raises(SegmentDamagedError, match="cut short"):
        mappings.map(segment.packs)
    assert (segment.packs.base, mappings.stats().segments, mappings.stats().mapped) == (0, 0, 0)
    ends = [segment.packs.offset(row) + segment.packs.length(row) for row in range(len(segment))]
    with pytest.raises(SegmentDamagedError, match=f"{GROUP}.* gave"):
        segment.packs.read(ends.index(segment.packs.size))


def test_a_deleted_file_can_still_be_mapped(shelf, whole, tmp_path):
    segment = shelf(0)
    (tmp_path / "segment-0").unlink()
    base = Mappings(1 << 20).map(segment.packs)
    assert bytes_at(segment.packs, base) == Parts(whole).arrays["packs"]


def test_threads_that_map_and_read_at_once_read_what_was_written(shelf, size, whole, tmp_path):
    """A budget of two segments for five, so that what one thread reads another has unmapped all the time."""
    found = [shelf(number) for number in range(5)]
    mappings = Mappings(2 * size)
    packs = bytes(Parts(whole).arrays["packs"])
    wrong: list[str] = []

    def read(seed: int) -> None:
        random = Random(seed)
        try:
            for _ in range(400):
                pin = mappings.pin
                segment = random.choice(found)
                base = segment.packs.base or mappings.map(segment.packs)
                segment.packs.used = mappings.count
                if bytes_at(segment.packs, base) != packs:
                    wrong.append("other bytes")
                del pin
        except Exception as error:  # noqa: BLE001 - told below
            wrong.append(repr(error))

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    stats = mappings.stats()
    assert stats.segments == 2
    assert (stats.bytes, stats.mapped - stats.unmapped) == (2 * size, 2)
    assert stats.unmapped > 0
    gc.collect()
    assert len(mapped_files(tmp_path)) == 2


def test_threads_that_map_one_segment_at_once_map_it_once(shelf):
    segment = shelf(0)
    mappings = Mappings(1 << 20)
    barrier = threading.Barrier(8)
    bases: list[int] = []

    def take() -> None:
        barrier.wait()
        bases.append(mappings.map(segment.packs))

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(set(bases)), mappings.stats().mapped) == (1, 1)


def test_a_segment_without_packs_has_nothing_to_map(tmp_path):
    segment = segments.opened(tmp_path / "segment", segments.WHOLE)
    assert segment.packs.size == 0
    assert {segment.packs.offset(row) for row in range(len(segment))} == {-1}
