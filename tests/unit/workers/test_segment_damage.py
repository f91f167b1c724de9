"""Whatever happens to a segment file: it is refused, or it answers what was written."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry.keys import key_id
from tests.support.damage import LIES, flipped, header_text, with_header
from tests.support.rewrites import Parts, joined
from tests.support.segments import WHOLE, artifact, entry_of, opened
from workers.errors import SegmentDamagedError
from workers.segments.layout import MAX_HEADER, StoredEntry, read_header
from workers.segments.reader import Segment


def answers(segment: Segment) -> dict[str, tuple[StoredEntry, bytes]]:
    found = {}
    for number in range(12):
        key = entry_of(number).key
        row = segment.find(key_id(key))
        assert row >= 0, "a key was lost without a word"
        try:
            found[key] = (segment.entry(row), segment.read(row))
        except SegmentDamagedError:
            continue
    return found


def check_refused_or_right(path: Path, data: bytes) -> None:
    try:
        segment = opened(path, data)
    except SegmentDamagedError:
        return
    for key, (entry, raw) in answers(segment).items():
        number = int(key.split("/")[0].removeprefix("store="))
        assert entry == entry_of(number)
        assert raw == artifact(number)


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "segment"
    path.write_bytes(WHOLE)
    for length in reversed(range(len(WHOLE))):
        os.truncate(path, length)
        with pytest.raises(SegmentDamagedError):
            Segment.open(path)


def test_bytes_after_the_end_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SegmentDamagedError):
        opened(tmp_path / "segment", WHOLE + b"\0")


def test_every_flipped_byte_is_refused_or_harmless(tmp_path: Path) -> None:
    for position in range(len(WHOLE)):
        damaged = bytearray(WHOLE)
        damaged[position] ^= 0xFF
        check_refused_or_right(tmp_path / "segment", bytes(damaged))


@given(bits=st.lists(st.integers(0, len(WHOLE) * 8 - 1), min_size=1, max_size=5))
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_flipped_bits_are_refused_or_harmless(tmp_path: Path, bits: list[int]) -> None:
    check_refused_or_right(tmp_path / "segment", flipped(WHOLE, *bits))


def test_damage_to_one_model_leaves_the_others_answering(tmp_path: Path) -> None:
    header = read_header(WHOLE[: 8 + MAX_HEADER], len(WHOLE))
    damaged = bytearray(WHOLE)
    damaged[header.index_end + 12] ^= 0xFF
    segment = opened(tmp_path / "segment", bytes(damaged))
    assert len(answers(segment)) == 11
    with pytest.raises(SegmentDamagedError):
        segment.read(0)


@given(data=st.binary(max_size=200))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_other_file_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(SegmentDamagedError):
        opened(tmp_path / "segment", data)


HEADER = read_header(WHOLE[: 8 + MAX_HEADER], len(WHOLE))
TEXT = header_text(WHOLE)


@pytest.mark.parametrize(
    ("honest", "lie"),
    [
        *LIES,
        (b'"version":{"dtype":"I32","shape":[12]', b'"version":{"dtype":"I32","shape":[13]'),
        (b'"version":{"dtype":"I32","shape":[12]', b'"version":{"dtype":"I32","shape":[99999999999999999999]'),
        (b'"version":{"dtype":"I32","shape":[12]', b'"version":{"dtype":"I32","shape":[-12]'),
        (b'"version":{"dtype":"I32","shape":[12]', b'"version":{"dtype":"I32","shape":[1e400]'),
        (b'"version":{"dtype":"I32","shape":[12]', b'"version":{"dtype":"I32","shape":[true]'),
        (b'"version":{"dtype":"I32","shape":[12]', b'"version":{"dtype":"I32","shape":[]'),
        (b'"version":{"dtype":"I32","shape":[12]', b'"version":{"dtype":"I32","shape":null'),
        (b'"data_offsets":[0,96]', b'"data_offsets":[0,9999999999]'),
        (b'"data_offsets":[0,96]', b'"data_offsets":[-96,0]'),
        (b'"dtype":"U64"', b'"dtype":"F64"'),
        (b'"shard":"3"', b'"shard":"three"'),
        (b'"shard":"3"', b'"shard":"4"'),
        (b'"shard":"3"', b'"shard":null'),
        (b'"runtimes":"lightgbm,onnx,sklearn"', b'"runtimes":"onnx,lightgbm,sklearn"'),
        (b'"group":"oj-sales"', b'"group":"xj-sales"'),
    ],
)
def test_a_header_that_lies_is_refused(tmp_path: Path, honest: bytes, lie: bytes) -> None:
    assert honest in TEXT
    with pytest.raises(SegmentDamagedError):
        opened(tmp_path / "segment", with_header(WHOLE, TEXT.replace(honest, lie)))


@pytest.mark.parametrize(
    "text", [b"", b"{}", b"[]", b"null", b"1", b'{"__metadata__":null}', b"\xff" * 64, b"[" * 5000]
)
def test_a_header_that_is_no_header_is_refused(tmp_path: Path, text: bytes) -> None:
    with pytest.raises(SegmentDamagedError):
        opened(tmp_path / "segment", with_header(WHOLE, text))


@pytest.mark.parametrize("length", [0, 7, MAX_HEADER + 1, 2**62, 2**64 - 1])
def test_a_header_length_that_lies_is_refused(tmp_path: Path, length: int) -> None:
    with pytest.raises(SegmentDamagedError):
        opened(tmp_path / "segment", length.to_bytes(8, "little") + WHOLE[8:])


def test_another_format_is_named_in_the_refusal(tmp_path: Path) -> None:
    with pytest.raises(SegmentDamagedError, match="'3' is not read by this version"):
        opened(tmp_path / "segment", with_header(WHOLE, TEXT.replace(b'"format":"2"', b'"format":"3"')))


def with_value(name: str, position: int, value: bytes) -> bytes:
    parts = Parts(WHOLE)
    parts.arrays[name][position : position + len(value)] = value
    return joined(parts.header, parts.arrays)


def test_the_checksum_of_an_honest_index_is_true() -> None:
    assert with_value("identity_high", 0, b"") == WHOLE


@pytest.mark.parametrize(
    ("name", "position", "value"),
    [
        ("identity_high", 0, b"\xff" * 8),
        ("frame_bounds", 0, (1).to_bytes(8, "little")),
        ("frame_bounds", 8, (2**63).to_bytes(8, "little")),
        ("frame_bounds", 8 * 12, (10**9).to_bytes(8, "little")),
        ("meta_bounds", 8 * 5, (2**64 - 1).to_bytes(8, "little")),
        ("meta_bounds", 8 * 12, (1).to_bytes(8, "little")),
        ("size", 0, (2**40).to_bytes(8, "little")),
        ("runtime", 3, b"\x03"),
        ("version", 0, (-1).to_bytes(4, "little", signed=True)),
        ("slot", 0, (4096).to_bytes(2, "little")),
    ],
)
def test_an_index_that_lies_under_a_true_checksum_is_refused(
    tmp_path: Path, name: str, position: int, value: bytes
) -> None:
    with pytest.raises(SegmentDamagedError, match="contradicts itself"):
        opened(tmp_path / "segment", with_value(name, position, value))


@pytest.mark.parametrize(
    ("name", "position", "value"),
    [
        ("meta", 0, b"[]"),
        ("meta", 0, b"\xff\xff"),
        ("meta", 2, b"X"),  # another key than its identity says
        ("digest", 0, bytes(32)),
        ("size", 0, (1).to_bytes(8, "little")),
    ],
)
def test_a_model_that_lies_under_a_true_checksum_is_refused_when_read(
    tmp_path: Path, name: str, position: int, value: bytes
) -> None:
    segment = opened(tmp_path / "segment", with_value(name, position, value))
    with pytest.raises(SegmentDamagedError):
        segment.read(0)
    assert len(segment.read(1)) > 0


@pytest.mark.parametrize("meta", [b"7", b"[1,2,3,4,5]", b'["k",null,null,[],[1,2]]', b'["k",null,null,3,null]'])
def test_a_meta_of_another_shape_is_refused(tmp_path: Path, meta: bytes) -> None:
    start, _ = HEADER.spans["meta_bounds"]
    index = WHOLE[len(HEADER.spelled) : HEADER.index_end]
    first = int.from_bytes(index[start + 8 : start + 16], "little")
    padded = meta.ljust(first)
    segment = opened(tmp_path / "segment", with_value("meta", 0, padded))
    with pytest.raises(SegmentDamagedError):
        segment.entry(0)
