"""Bundles give back exactly what was put in, or say why not."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.artifacts.bundle import OPEN_BUNDLES, BundleReader, read_slice, write_bundle, write_frames
from registry.artifacts.folder import FolderStore
from registry.artifacts.frames import compress, decompress, verified
from registry.errors import ArtifactDamagedError, ArtifactMissingError
from registry.records import BundleSlice

LIMIT = 1 << 20


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path)


def test_every_artifact_comes_back_from_one_object(store: FolderStore) -> None:
    models = [b"tree\n" * i + bytes([i]) for i in range(50)]
    slices = write_bundle(store, models)
    assert [read_slice(store, place, LIMIT) for place in slices] == models
    assert len(list(store.objects())) == 1
    assert len({place.bundle for place in slices}) == 1


def test_slices_lie_side_by_side_without_a_gap(store: FolderStore) -> None:
    slices = write_bundle(store, [b"a" * 100, b"b" * 10_000, b""])
    assert [place.offset for place in slices] == [0, slices[0].length, slices[0].length + slices[1].length]
    assert store.path(slices[0].bundle).stat().st_size == sum(place.length for place in slices)


def test_no_artifacts_make_no_object(store: FolderStore) -> None:
    assert write_bundle(store, []) == []
    assert write_frames(store, []) == []
    assert list(store.objects()) == []


def test_a_source_that_breaks_midway_leaves_no_object(store: FolderStore) -> None:
    def failing() -> Iterator[bytes]:
        yield b"one"
        raise ValueError("broken source")

    with pytest.raises(ValueError, match="broken source"):
        write_bundle(store, failing())
    assert list(store.objects()) == []


def test_a_frame_is_read_as_it_lies(store: FolderStore) -> None:
    frame = compress(b"model" * 100)
    (place,) = write_frames(store, [frame])
    with BundleReader(store) as bundles:
        assert bundles.frame(place) == frame


def test_an_artifact_over_the_limit_is_refused_before_it_is_decompressed(store: FolderStore) -> None:
    (place,) = write_bundle(store, [b"\0" * 2_000_000])
    assert place.length < 1_000
    with pytest.raises(ArtifactDamagedError, match="2000000"):
        read_slice(store, place, 1_999_999)
    assert len(read_slice(store, place, 2_000_000)) == 2_000_000


def test_a_frame_without_a_declared_size_is_refused() -> None:
    frame = zstandard.ZstdCompressor(write_content_size=False).compress(b"model" * 100)
    with pytest.raises(ArtifactDamagedError):
        decompress(frame, LIMIT)


@pytest.mark.parametrize("extra", [b"x", compress(b"more")])
def test_bytes_after_the_frame_are_refused(extra: bytes) -> None:
    with pytest.raises(ArtifactDamagedError):
        decompress(compress(b"model") + extra, LIMIT)


def test_a_frame_that_claims_a_huge_size_is_refused() -> None:
    honest = compress(b"x" * 70_000)
    liar = honest[:4] + bytes([0xE0]) + (2**62).to_bytes(8, "little") + honest[9:]
    for limit in (LIMIT, 2**63):
        with pytest.raises(ArtifactDamagedError):
            decompress(liar, limit)


def test_a_slice_outside_its_bundle_is_refused(store: FolderStore) -> None:
    (place,) = write_bundle(store, [b"model"])
    for wrong in (
        replace(place, offset=-1),
        replace(place, length=0),
        replace(place, length=-5),
        replace(place, length=place.length + 1),
        replace(place, offset=2**62),
        replace(place, length=2**62),
    ):
        with pytest.raises(ArtifactDamagedError):
            read_slice(store, wrong, LIMIT)


def test_a_missing_bundle_is_said_to_be_missing(store: FolderStore) -> None:
    with pytest.raises(ArtifactMissingError):
        read_slice(store, BundleSlice("0" * 64, 0, 10), LIMIT)


def test_a_reader_of_more_bundles_than_it_keeps_open_reads_them_all(store: FolderStore) -> None:
    places = [write_bundle(store, [f"bundle {number}".encode()])[0] for number in range(2 * OPEN_BUNDLES)]
    before = len(list(Path("/proc/self/fd").iterdir()))
    with BundleReader(store) as reader:
        for number, place in [*enumerate(places), *enumerate(places)]:
            assert reader.read(place, LIMIT) == f"bundle {number}".encode()
        assert len(list(Path("/proc/self/fd").iterdir())) == before + OPEN_BUNDLES
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_verified_hands_on_only_the_named_bytes() -> None:
    assert verified(b"model", hashlib.sha256(b"model").hexdigest()) == b"model"
    with pytest.raises(ArtifactDamagedError):
        verified(b"model!", hashlib.sha256(b"model").hexdigest())


@given(raw=st.binary(max_size=300), at=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@settings(max_examples=300, deadline=None)
def test_a_flipped_bit_in_a_frame_is_refused_or_harmless(raw: bytes, at: float, bit: int) -> None:
    frame = bytearray(compress(raw))
    frame[int(at * len(frame))] ^= 1 << bit
    digest = hashlib.sha256(raw).hexdigest()
    try:
        found = verified(decompress(bytes(frame), LIMIT), digest)
    except ArtifactDamagedError:
        return
    assert found == raw


@given(raw=st.binary(min_size=1, max_size=300), keep=st.floats(0, 1, exclude_max=True))
@settings(max_examples=200, deadline=None)
def test_a_truncated_frame_is_refused(raw: bytes, keep: float) -> None:
    frame = compress(raw)
    with pytest.raises(ArtifactDamagedError):
        decompress(frame[: int(keep * len(frame))], LIMIT)
