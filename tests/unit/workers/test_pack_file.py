"""The packs of one file: where each lies, what is read of it, when it counts as checked, and whether it is in memory."""

import ctypes
import errno
import mmap
import os
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from registry.errors import ArtifactDamagedError
from tests.support.packs import choices
from tests.support.rewrites import Parts
from tests.support.segments import entry_of, segment_bytes
from workers.errors import SegmentDamagedError
from workers.packed import check_pack
from workers.packing import layout
from workers.packing.layout import MOST_WORDS, TREES, NotPackableError, Pack, assembled
from workers.packing.verdicts import PACKED
from workers.packing.wire import read, written
from workers.segments.packs import resident
from workers.segments.reader import Segment
from workers.segments.writer import SegmentModel

WRITTEN = choices()
SHAPE = WRITTEN.signature.shape


@pytest.fixture
def parts() -> Parts:
    return Parts(WRITTEN.data)


def opened(tmp_path: Path, data: bytes = WRITTEN.data) -> Segment:
    (tmp_path / "segment").write_bytes(data)
    return Segment.open(tmp_path / "segment")


def rows(segment: Segment, *, packed: bool = True) -> list[int]:
    return [row for row in range(len(segment)) if bool(segment.packs.length(row)) == packed]


def test_each_pack_lies_and_is_read_where_the_index_says(tmp_path, parts):
    segment = opened(tmp_path)
    packs = segment.packs
    packs.map()
    for row in range(len(segment)):
        start, end = parts.pack(row)
        expected = bytes(parts.arrays["packs"][start:end])
        assert packs.length(row) == end - start
        assert packs.offset(row) == (start if expected else -1)
        assert packs.read(row) == expected
        assert packs.checksum(row) == int(parts.numbers("pack_checksum")[row])
        if expected:
            assert (packs.base + packs.offset(row)) % 64 == 0
            assert ctypes.string_at(packs.base + packs.offset(row), end - start) == expected


def test_a_pack_counts_as_checked_once_it_was_found_sound(tmp_path):
    segment = opened(tmp_path)
    packs = segment.packs
    packs.map()
    assert not any(packs.checked)
    one = rows(segment)[0]
    check_pack(packs, one, packs.base, SHAPE, "k")
    assert [row for row in range(len(segment)) if packs.checked[row]] == [one]


@pytest.mark.parametrize("shape", [(1, 4, 3), (2, 3, 3), (2, 5, 3), (2, 4, 2), (2, 4, 4), (2, 1, 0)])
def test_a_pack_of_another_signature_is_refused(tmp_path, shape):
    segment = opened(tmp_path)
    segment.packs.map()
    for row in rows(segment):
        with pytest.raises(SegmentDamagedError, match="sound"):
            check_pack(segment.packs, row, segment.packs.base, shape, "k")
    assert not any(segment.packs.checked)


def test_a_damaged_pack_is_refused_and_never_counts_as_checked(tmp_path, parts):
    row = rows(opened(tmp_path))[-1]
    data = bytearray(WRITTEN.data)
    data[parts.header.index_end + parts.pack(row)[1] - 1] ^= 1  # padding is covered as well
    segment = opened(tmp_path, bytes(data))
    packs = segment.packs
    packs.map()
    for _ in range(2):
        with pytest.raises(SegmentDamagedError, match="checksum"):
            check_pack(packs, row, packs.base, SHAPE, "k")
    assert not packs.checked[row]


def test_a_pack_that_the_disk_does_not_give_is_damaged(tmp_path, monkeypatch):
    def broken(*_asked):
        raise OSError(errno.EIO, "input/output error")

    segment = opened(tmp_path)
    monkeypatch.setattr(os, "pread", broken)
    with pytest.raises(SegmentDamagedError, match="cannot be read"):
        segment.packs.read(rows(segment)[0])


def test_unmapping_takes_the_address_and_hands_over_the_mapping(tmp_path):
    segment = opened(tmp_path)
    packs = segment.packs
    packs.map()
    base = packs.base
    kept = packs.unmap()
    assert (packs.base, packs.mapping) == (0, None)
    assert ctypes.string_at(base, packs.size) == kept.tobytes()
    packs.map()
    assert packs.base


def test_a_mapping_cannot_be_written_to(tmp_path):
    segment = opened(tmp_path)
    packs = segment.packs
    packs.map()
    with pytest.raises(ValueError, match="read-only"):
        packs.mapping[0] = 1


def test_a_pack_larger_than_any_may_be_is_neither_made_nor_read_nor_opened(tmp_path):
    none = np.empty(0, dtype=np.int64)
    with pytest.raises(NotPackableError, match="larger"):
        assembled(layout.Parts(TREES, 1, 0, none, np.zeros(MOST_WORDS, dtype=np.int64), none))
    words = np.zeros(MOST_WORDS + 8, dtype=np.int64)
    words[0] = len(words)
    with pytest.raises(ArtifactDamagedError, match="larger"):
        read(written(Pack(words)))
    entry = replace(entry_of(0), verdict=PACKED)
    for most, sound in ((MOST_WORDS, True), (MOST_WORDS + 8, False)):
        data = segment_bytes([SegmentModel(entry, 8 * most, partial(bytes, 8 * most))])
        with nullcontext() if sound else pytest.raises(SegmentDamagedError, match="contradicts"):
            opened(tmp_path, data)


PAGES = 600


@pytest.fixture
def cold(tmp_path):
    """A mapped file whose pages were dropped from memory, and its address."""
    path = tmp_path / "cold"
    path.write_bytes(os.urandom(PAGES * mmap.PAGESIZE))
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)  # only what is on the disk can be dropped
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    mapping = mmap.mmap(descriptor, 0, mmap.MAP_SHARED, mmap.PROT_READ)
    os.close(descriptor)
    mapping.madvise(mmap.MADV_RANDOM)  # a page that is read brings no others
    words = np.frombuffer(mapping, dtype=np.uint8)
    if resident(words.ctypes.data, mmap.PAGESIZE):
        pytest.skip("this file system keeps its pages in memory")
    return words


def test_dropped_pages_are_not_resident_until_they_are_read(cold):
    start = cold.ctypes.data
    last = start + (PAGES - 1) * mmap.PAGESIZE
    assert not resident(start, PAGES * mmap.PAGESIZE)
    assert not resident(last, 8)
    assert cold[(PAGES - 1) * mmap.PAGESIZE] >= 0
    assert resident(last, mmap.PAGESIZE)
    assert not resident(start, PAGES * mmap.PAGESIZE)
    assert int(cold[:: mmap.PAGESIZE].sum()) > 0
    assert resident(start, PAGES * mmap.PAGESIZE)


def test_every_page_that_a_range_touches_counts(cold):
    page = mmap.PAGESIZE
    middle = cold.ctypes.data + 300 * page
    assert cold[300 * page] >= 0
    assert resident(middle, page)
    assert resident(middle + page - 1, 1)
    assert not resident(middle - 1, 2)
    assert not resident(middle + page - 1, 2)


def test_an_address_that_is_not_mapped_is_not_resident():
    mapping = mmap.mmap(-1, 2 * mmap.PAGESIZE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(mapping))
    mapping[:] = b"x" * len(mapping)
    assert resident(address, len(mapping))
    assert not resident(8 * mmap.PAGESIZE, mmap.PAGESIZE)  # below what Linux ever maps
