"""A segment answers exactly what was written, or refuses; nothing in between."""

import gc
import hashlib
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from registry.artifacts.bundle import BundleReader, write_bundle
from registry.artifacts.folder import FolderStore
from registry.artifacts.frames import compress
from registry.keys import key_id
from tests.support.segments import WHOLE, artifact, entry_of, models, opened, segment_bytes
from workers.errors import SegmentDamagedError
from workers.segments.layout import MAX_HEADER, read_header
from workers.segments.reader import Segment
from workers.segments.writer import SegmentModel, trained_seconds, write_segment


@pytest.mark.parametrize("count", [0, 1, 2, 200])
def test_every_model_is_found_with_all_that_was_said_of_it(tmp_path: Path, count: int) -> None:
    segment = opened(tmp_path / "segment", segment_bytes(models(count)))
    assert len(segment) == count
    for number in range(count):
        expected = entry_of(number)
        row = segment.find(key_id(expected.key))
        assert segment.entry(row) == expected
        assert segment.identity(row) == key_id(expected.key)
        assert segment.read(row) == artifact(number)
        assert segment.frame(row) == compress(artifact(number))
        assert segment.length(row) == len(segment.frame(row))


def test_the_header_names_group_and_shard(tmp_path: Path) -> None:
    header = opened(tmp_path / "segment", WHOLE).header
    assert (header.group, header.shard, header.shards, header.models) == ("oj-sales", 3, 8, 12)


def test_a_key_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    segment = opened(tmp_path / "segment", WHOLE)
    assert segment.find(key_id("store=999/brand=none")) == -1
    assert segment.find(bytes(16)) == -1
    assert segment.find(b"\xff" * 16) == -1


def test_keys_that_share_their_first_64_bits_are_told_apart(tmp_path: Path) -> None:
    segment = opened(tmp_path / "segment", WHOLE)
    for row in range(len(segment)):
        identity = segment.identity(row)
        near = identity[:15] + bytes([identity[15] ^ 1])
        assert segment.find(near) == -1


def test_the_order_models_are_given_in_does_not_matter() -> None:
    assert segment_bytes(models(30)[::-1]) == segment_bytes(models(30))


def test_two_models_of_one_key_are_refused() -> None:
    with pytest.raises(ValueError, match="one key"):
        segment_bytes([*models(3), *models(1)])


def test_a_frame_of_another_length_than_announced_is_refused() -> None:
    wrong = SegmentModel(entry_of(1), 5, lambda: b"123456")
    with pytest.raises(ValueError, match="announced 5"):
        segment_bytes([wrong])


def test_one_frame_is_in_memory_at_a_time() -> None:
    fetched: list[str] = []

    def fetch(name: str) -> Callable[[], bytes]:
        def frame() -> bytes:
            fetched.append(name)
            return compress(b"model")

        return frame

    lazy = [SegmentModel(entry_of(n), len(compress(b"model")), fetch(str(n))) for n in range(3)]
    chunks = write_segment(lazy, group="g", shard=0, shards=1)
    next(chunks)
    next(chunks)
    assert fetched == []
    next(chunks)
    assert len(fetched) == 1


def test_the_safetensors_library_opens_a_segment(tmp_path: Path) -> None:
    (tmp_path / "segment").write_bytes(WHOLE)
    with safe_open(tmp_path / "segment", framework="np") as file:
        metadata = file.metadata()
        assert (metadata["format"], metadata["kind"], metadata["group"]) == ("2", "models", "oj-sales")
        assert (metadata["shard"], metadata["shards"]) == ("3", "8")
        segment = Segment.open(tmp_path / "segment")
        high = file.get_tensor("identity_high")
        assert high.dtype == np.uint64
        assert [int(value) for value in high] == [int.from_bytes(segment.identity(i)[:8], "big") for i in range(12)]
        bounds, stored = file.get_tensor("frame_bounds"), file.get_tensor("stored").tobytes()
        assert [stored[bounds[i] : bounds[i + 1]] for i in range(12)] == [segment.frame(i) for i in range(12)]
        assert file.get_tensor("digest").shape == (12, 32)


def test_arrays_are_aligned_to_their_items() -> None:
    header = read_header(WHOLE[: 8 + MAX_HEADER], len(WHOLE))
    first = len(header.spelled)
    assert first % 8 == 0
    assert all((first + header.spans[name][0]) % 8 == 0 for name in ("identity_high", "frame_bounds", "trained"))


def test_an_open_segment_outlives_its_file_and_leaves_no_descriptor(tmp_path: Path) -> None:
    gc.collect()  # what other tests left behind
    before = len(list(Path("/proc/self/fd").iterdir()))
    segment = opened(tmp_path / "segment", WHOLE)
    (tmp_path / "segment").unlink()
    assert segment.read(0) == artifact(int(segment.entry(0).key.split("/")[0].removeprefix("store=")))
    assert len(list(Path("/proc/self/fd").iterdir())) > before
    del segment
    gc.collect()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_refused_segment_leaves_no_descriptor(tmp_path: Path) -> None:
    (tmp_path / "segment").write_bytes(WHOLE[:-1])
    (tmp_path / "other").write_bytes(WHOLE[:2000] + bytes([WHOLE[2000] ^ 1]) + WHOLE[2001:])
    gc.collect()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for name in ("segment", "other"):
        with pytest.raises(SegmentDamagedError):
            Segment.open(tmp_path / name)
    gc.collect()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_many_threads_read_one_segment_at_once(tmp_path: Path) -> None:
    segment = opened(tmp_path / "segment", segment_bytes(models(60)))
    wrong: list[int] = []

    def read_all(step: int) -> None:
        for i in range(300):
            number = (i * step) % 60
            if segment.read(segment.find(key_id(entry_of(number).key))) != artifact(number):
                wrong.append(number)

    threads = [threading.Thread(target=read_all, args=(step,)) for step in (1, 7, 11, 13)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_segment_names_the_runtimes_its_models_need(tmp_path: Path) -> None:
    assert opened(tmp_path / "all", segment_bytes(models(12))).runtimes == {"lightgbm", "onnx", "sklearn"}
    assert opened(tmp_path / "one", segment_bytes(models(1))).runtimes == {"lightgbm"}


def test_a_large_model_lies_alone_in_its_bundle(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "artifacts")
    raw = os.urandom(5_000)
    (place,) = write_bundle(store, [raw])
    large = replace(
        entry_of(99),
        key="store=99/brand=x",
        digest=hashlib.sha256(raw).hexdigest(),
        size=5_000,
        place=place,
        verdict="large",
    )
    data = segment_bytes([*models(5), SegmentModel.alone(large)])
    assert len(data) < len(segment_bytes(models(5))) + 1_000
    (tmp_path / "segment").write_bytes(data)
    segment = Segment.open(tmp_path / "segment", store)
    row = segment.find(key_id(large.key))
    assert segment.entry(row) == large
    assert (segment.length(row), segment.frame(row)) == (0, b"")
    assert segment.read(row) == raw
    assert segment.verdicts == {"unknown": 5, "large": 1}
    assert [len(segment.read(i)) for i in range(6) if i != row]
    store.delete(place.bundle)
    with pytest.raises(SegmentDamagedError):
        segment.read(row)
    with pytest.raises(SegmentDamagedError):
        Segment.open(tmp_path / "segment").read(row)


def test_a_frame_is_copied_from_a_bundle_as_it_lies(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "artifacts")
    places = write_bundle(store, [artifact(n) for n in range(12)])
    with BundleReader(store) as bundles:
        copied = [SegmentModel.at(entry_of(n), bundles, place) for n, place in enumerate(places)]
        assert segment_bytes(copied) == WHOLE


@pytest.mark.parametrize(
    ("through", "at", "seconds"),
    [
        ("1970-01-02", None, 86_400.0),
        ("1970-01-02T00:00:00+01:00", "2000-01-01", 82_800.0),
        (None, "1970-01-01T00:00:01Z", 1.0),
        ("last tuesday", "1970-01-01T00:00:01.5Z", 1.5),
        (None, None, None),
        ("never", "", None),
    ],
)
def test_how_far_the_training_data_reaches(through: str | None, at: str | None, seconds: float | None) -> None:
    found = trained_seconds(replace(entry_of(1), trained_through=through, trained_at=at))
    assert found == seconds if seconds is not None else np.isnan(found)
