"""Whatever becomes of a segment with packs, or of a pack whose checksums are true: no crash, no hang, no other answer.

Packs that mean harm are given to the kernel in a process of their own, which may die of them: then the case that
killed it is told by seed and number: `packs` or `segments` of `tests.support.hostile`, given the folder and called with
`Random("seed/number")`, repeats it.
"""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry.keys import key_id
from tests.support.damage import LIES, flipped, header_text, with_header
from tests.support.packs import Written, choices, numbers
from tests.support.readings import read_all
from tests.support.rewrites import METAS, Parts
from workers.errors import SegmentDamagedError
from workers.packing.checks import SOUND, check
from workers.packing.layout import HEAD_WORDS, MOST_WORDS, Head, bits
from workers.packing.verdicts import PACKED
from workers.segments.reader import Segment

ROOT = Path(__file__).parents[3]
SEED = "2026-11"
PACK_CASES, SEGMENT_CASES = 12_000, 1_000
DEADLINE = 120.0  # seconds; a tenth is enough on a quiet machine
QUIET = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


class Whole(NamedTuple):
    """A segment, what it answers, and its parts."""

    written: Written
    answers: dict[bytes, Any]
    parts: Parts

    @property
    def data(self) -> bytes:
        return self.written.data


@pytest.fixture(scope="module")
def wholes(tmp_path_factory) -> list[Whole]:
    path = tmp_path_factory.mktemp("whole") / "segment"
    found = []
    for written in (numbers(), choices()):
        path.write_bytes(written.data)
        found.append(Whole(written, read_all(path, written.signature), Parts(written.data)))
        path.unlink()
    return found


@pytest.fixture(params=[0, 1], ids=["numbers", "choices"])
def whole(request, wholes) -> Whole:
    return wholes[request.param]


def answers_of(tmp_path: Path, whole: Whole, data: bytes) -> dict[bytes, Any] | None:
    """What a file answers, None if it is refused."""
    path = tmp_path / "segment"
    path.unlink(missing_ok=True)
    path.write_bytes(data)
    try:
        return read_all(path, whole.written.signature)
    except SegmentDamagedError:
        return None


def refused(tmp_path: Path, whole: Whole, data: bytes) -> list[bytes]:
    """The models of a damaged file that are refused, all where the file is; the others answer as before."""
    found = answers_of(tmp_path, whole, data)
    if found is None:
        return list(whole.answers)
    assert list(found) == list(whole.answers), "a model was lost without a word"
    assert all(found[one] in (None, whole.answers[one]) for one in found), "another answer"
    return [one for one, answer in found.items() if answer is None]


def in_frames_alone(whole: Whole, damaged: bytes) -> bool:
    """Whether only frames differ: they may then hold the same bytes in other words, which their digests tell."""
    return damaged[: whole.parts.header.stored_at] == whole.data[: whole.parts.header.stored_at]


def test_what_is_written_is_what_is_read(whole, tmp_path):
    assert None not in whole.answers.values()
    assert whole.parts.signed() == whole.data
    assert refused(tmp_path, whole, whole.data) == []
    verdicts = {entry.verdict for entry, _ in whole.answers.values()}
    assert verdicts == {PACKED, "runtime"}


def test_a_file_cut_short_anywhere_is_refused_at_open(whole, tmp_path):
    path = tmp_path / "segment"
    path.write_bytes(whole.data)
    header = whole.parts.header
    edges = {0, 8, len(header.spelled), header.index_end, header.stored_at, len(whole.data)}
    lengths = {edge + by for edge in edges for by in (-1, 0, 1)} | set(range(0, len(whole.data), 13))
    for length in sorted(lengths & set(range(len(whole.data))), reverse=True):
        os.truncate(path, length)
        with pytest.raises(SegmentDamagedError):
            Segment.open(path)


def test_a_bit_flipped_in_header_or_index_is_refused_at_open(whole, tmp_path):
    path = tmp_path / "segment"
    random = Random(1)
    for position in {*range(0, whole.parts.header.index_end, 17), whole.parts.header.index_end - 1}:
        path.write_bytes(flipped(whole.data, 8 * position + random.randrange(8)))
        with pytest.raises(SegmentDamagedError):
            Segment.open(path)


def test_a_bit_flipped_in_a_pack_refuses_that_model_alone(whole, tmp_path):
    random = Random(2)
    header = whole.parts.header
    for _ in range(100):
        bit = random.randrange(8 * header.index_end, 8 * header.stored_at)
        assert len(refused(tmp_path, whole, flipped(whole.data, bit))) == 1


def test_a_bit_flipped_in_a_frame_refuses_that_model_alone(whole, tmp_path):
    random = Random(2)
    found = [
        len(refused(tmp_path, whole, flipped(whole.data, random.randrange(8 * at, 8 * len(whole.data)))))
        for at in [whole.parts.header.stored_at] * 50
    ]
    assert max(found) == 1
    assert sum(found) > 40  # a few bits of a zstd frame say nothing: without them it holds the very same bytes


@QUIET
@given(data=st.data())
def test_bits_flipped_anywhere_never_make_another_answer(wholes, tmp_path, data):
    whole = data.draw(st.sampled_from(wholes))
    bits_ = data.draw(st.sets(st.integers(0, 8 * len(whole.data) - 1), min_size=1, max_size=6))
    damaged = flipped(whole.data, *bits_)
    assert refused(tmp_path, whole, damaged) or in_frames_alone(whole, damaged)


@QUIET
@given(data=st.data())
def test_runs_of_bytes_swapped_zeroed_or_repeated_never_make_another_answer(wholes, tmp_path, data):
    whole = data.draw(st.sampled_from(wholes))
    length = data.draw(st.sampled_from((1, 8, 64, 4096)))
    starts = st.integers(0, (len(whole.data) - length) // 8).map(lambda at: 8 * at)
    one, other = data.draw(starts), data.draw(starts)
    damaged = bytearray(whole.data)
    run = whole.data[one : one + length]
    match data.draw(st.sampled_from(("swap", "zero", "repeat"))):
        case "swap" if abs(one - other) >= length:
            damaged[one : one + length] = whole.data[other : other + length]
            damaged[other : other + length] = run
        case "zero":
            damaged[one : one + length] = bytes(length)
        case _:
            damaged[other : other + length] = run
    if bytes(damaged) == whole.data:
        assert refused(tmp_path, whole, bytes(damaged)) == []
    else:
        assert refused(tmp_path, whole, bytes(damaged)) or in_frames_alone(whole, bytes(damaged))


@pytest.mark.parametrize(
    ("honest", "lie"),
    [
        *LIES,
        (b'"pack_format":"1"', b'"pack_format":"2"'),
        (b'"pack_format":"1"', b'"pack_format":1'),
        (b'"verdicts":"packed,unknown', b'"verdicts":"unknown,packed'),
        (b'"packs":{"dtype":"I64"', b'"packs":{"dtype":"F64"'),
        (b'"packs":{"dtype":"I64","shape":[', b'"packs":{"dtype":"I64","shape":[1'),
        (b'"packs":{"dtype":"I64","shape":[', b'"packs":{"dtype":"I64","shape":[-'),
        (b'"padding":{"dtype":"U8","shape":[', b'"padding":{"dtype":"U8","shape":[1'),
        (b'"packs":', b'"stacks":'),
    ],
)
def test_another_version_or_a_header_that_lies_is_refused(whole, tmp_path, honest, lie):
    text = header_text(whole.data)
    assert honest in text
    lied = text.replace(honest, lie)
    for said in (lied, lied[: len(text)].ljust(len(text))):
        assert answers_of(tmp_path, whole, with_header(whole.data, said)) is None


@pytest.mark.parametrize("meta", METAS, ids=json.dumps)
def test_what_is_said_of_a_model_must_be_said_as_a_writer_says_it(whole, tmp_path, meta):
    parts = Parts(whole.data)
    row = int(np.flatnonzero(np.diff(parts.numbers("pack_bounds")))[-1])
    entry = list(whole.answers.values())[row][0]
    if isinstance(meta, list) and meta and meta[0] == "k":
        meta = [entry.key, *meta[1:]]
    parts.put_meta(row, json.dumps(meta).encode())
    assert refused(tmp_path, whole, parts.signed()) == [key_id(entry.key)]


def run_hostile(what: str, folder: Path, given_: Any, cases: int) -> dict[str, int]:
    """Run cases in a process of their own; answers what became of them."""
    (folder / what).write_bytes(pickle.dumps(given_))
    words = [sys.executable, "-m", "tests.support.hostile", what, str(folder), SEED, str(cases)]
    try:
        ended = subprocess.run(words, cwd=ROOT, capture_output=True, timeout=DEADLINE, check=False)
    except subprocess.TimeoutExpired:
        pytest.fail(f"case {SEED}/{_case(folder)} of {what} did not end")
    said = ended.stderr.decode()[-2000:]
    assert ended.returncode == 0, f"case {SEED}/{_case(folder)} of {what} ended with {ended.returncode}: {said}"
    told = json.loads(ended.stdout)
    assert not told["failed"], f"seed {SEED}: {told['failed']}"
    return told["became"]


def _case(folder: Path) -> int:
    return int.from_bytes((folder / "case").read_bytes(), "little") if (folder / "case").exists() else -1


def real_packs(wholes: list[Whole]) -> list[tuple[int, int, int, list[int]]]:
    found = []
    for whole in wholes:
        for row in range(whole.parts.header.models):
            start, end = whole.parts.pack(row)
            words = np.frombuffer(bytes(whole.parts.arrays["packs"][start:end]), dtype=np.int64).tolist()
            found += [(*whole.written.signature.shape, words)] if words else []
    return found


def test_a_pack_that_the_check_lets_pass_keeps_the_kernel_within_its_bounds(wholes, tmp_path):
    became = run_hostile("packs", tmp_path, real_packs(wholes), PACK_CASES)
    # Were nearly all of one sort, the cases would prove nothing.
    assert became["sound"] > PACK_CASES // 10
    assert became["refused"] > PACK_CASES // 10


def test_a_segment_that_lies_under_true_checksums_is_refused_or_answers(wholes, tmp_path):
    given_ = [(whole.written.signature, whole.data) for whole in wholes]
    became = run_hostile("segments", tmp_path, given_, SEGMENT_CASES)
    assert min(became["refused"], became["damaged"], became["answered"]) > SEGMENT_CASES // 20


def checked(words: np.ndarray, width: int = 4, columns: int = 1, classes: int = 0) -> int:
    return check(words.ctypes.data, len(words), width, columns, classes)


def chain(parts: int, nodes: int) -> np.ndarray:
    """A pack whose trees are all one and the same, and as deep as it has nodes."""
    first = HEAD_WORDS + parts
    size = -(-(first + 3 * nodes + 1) // 8) * 8
    words = np.zeros(size, dtype=np.int64)
    words[:HEAD_WORDS] = [size, 0, parts, 1, 1, 0, bits(1.0), 0, 0, 0, HEAD_WORDS, 0, HEAD_WORDS, size, size, 0]
    words[HEAD_WORDS:first] = first | nodes << 32
    words[first : first + 2 * nodes : 2] = bits(np.inf)
    words[first + 1 : first + 2 * nodes : 2] = np.append(np.arange(1, nodes), 0xFFFF) | 0xFFFF << 16
    return words


def test_trees_that_lie_on_one_another_are_refused():
    """A file of a megabyte would else take seconds to check and as long for each row."""
    assert checked(chain(1, 9)) == SOUND
    assert checked(chain(2, 9)) != SOUND
    assert checked(chain(40_000, 32_000)) != SOUND


def test_a_pack_of_more_words_than_offsets_can_name_is_refused_by_its_first_word():
    words = np.full(8, MOST_WORDS + 8)
    assert check(words.ctypes.data, MOST_WORDS + 8, 4, 1, 0) != SOUND


@pytest.mark.parametrize(
    "outputs", [[(2, 1, 0)], [(1, 3, 1)], [(2, 1, 0), (1, 3, 0)], [(2, 2, 0), (2, 2, 2)], [(2, 1, 1)]]
)
def test_a_projection_that_leaves_a_column_unwritten_is_refused(wholes, outputs):
    """Such a column would answer what lay in memory before: another caller's scores."""
    words = next(np.array(pack) for *_, pack in real_packs(wholes[1:]) if pack[3] == 3)
    assert checked(words, *wholes[1].written.signature.shape) == SOUND
    at = words[14]
    targets = words[at + 2 : at + 5].copy()
    words[15] = len(outputs)
    words[at : at + len(outputs)] = [kind << 48 | wide << 24 | column for kind, wide, column in outputs]
    words[at + len(outputs) : at + len(outputs) + 3] = targets
    assert checked(words, *wholes[1].written.signature.shape) != SOUND


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("size", value) for value in (0, 8, 40, 56, -48, 1 << 40)],
        *[("family", value) for value in (-1, 99)],
        *[("parts", value) for value in (-1, 48, 1 << 62)],
        *[("raw", value) for value in (-1, 0, 2, 257, 1 << 62)],
        *[("leaf", value) for value in (-1, 0, 2, 1 << 62)],
        *[("transform", value) for value in (-1, 99)],
        *[("divisor", value) for value in (-1, -(1 << 63))],
        *[("reads", value) for value in (-1, 48, 1 << 62)],
        *[("inputs_at", value) for value in (-1, 0, 49, 1 << 62)],
        *[("starts_at", value) for value in (-1, 1, 15, 48, 1 << 62)],
        *[("parts_at", value) for value in (-1, 0, 15, 48, 1 << 62)],
        *[("sets_at", value) for value in (-1, 0, 15, 49, 1 << 62)],
        *[("outputs", value) for value in (-1, 1, 2, 1 << 62)],
    ],
)
def test_a_head_that_contradicts_its_pack_is_refused(field, value):
    words = chain(1, 9)
    assert (len(words), checked(words)) == (48, SOUND)
    words[Head._fields.index(field)] = value
    assert checked(words) != SOUND
