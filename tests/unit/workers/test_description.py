"""A pack is described from whatever bytes it has: nothing follows a number out of them, and nothing takes long."""

import time
from random import Random

import numpy as np
import orjson
import pytest

from tests.support.mutations import as_bytes, made_up, mutated
from tests.support.packs import choices, numbers
from tests.support.rewrites import Parts, rewritten
from workers.errors import SegmentDamagedError
from workers.packing.checks import SOUND, check
from workers.packing.description import describe_pack, shape_claimed
from workers.segments.description import describe_segment
from workers.segments.reader import Segment
from workers.segments.verification import verify


@pytest.fixture(scope="module", params=[numbers, choices])
def written(request):
    return request.param()


def packs(written) -> list[bytes]:
    parts = Parts(written.data)
    places = [parts.pack(row) for row in range(parts.header.models)]
    return [bytes(parts.arrays["packs"][start:end]) for start, end in places if end > start]


def test_a_pack_names_the_columns_and_classes_of_its_signature(written):
    for pack in packs(written):
        width, columns, classes = written.signature.shape
        assert shape_claimed(pack, width) == (width, columns, classes)


def test_a_pack_of_labels_alone_claims_the_classes_it_names():
    pack = next(pack for pack in packs(choices()) if len(pack) > 2000)  # one over all classes
    words = np.frombuffer(pack, dtype=np.int64).copy()
    words[15] = 1
    words[words[14] + 1 : words[14] + 4] = (0, 1, 2)
    assert shape_claimed(words.tobytes(), 2) == (2, 1, 3)
    assert check(words.ctypes.data, len(words), 2, 1, 3) == SOUND


def test_any_words_are_described_or_told_to_be_too_short(written):
    shape = written.signature.shape
    for number in range(600):
        random = Random(number)
        words = np.frombuffer(random.choice(packs(written)), dtype=np.int64).tolist()
        case = mutated(random, words, shape[0]) if number % 2 else made_up(random, *shape)
        pack = as_bytes(case)
        found = describe_pack(pack)
        assert (found is None) == (len(pack) < 128)
        if found is not None:
            assert orjson.dumps(found)
            inputs, columns, classes = shape_claimed(pack, shape[0])
            held = np.frombuffer(pack, dtype=np.int64)
            check(held.ctypes.data, len(held), inputs, columns, classes)


def test_trees_that_lie_on_one_another_are_not_all_looked_at(written):
    words = np.zeros(65_536, dtype=np.int64)
    words[:16] = [len(words), 0, 30_000, 1, 1, 0, 0, 0, 0, 0, 16, 0, 16, len(words), len(words), 0]
    words[16:30_016] = 30_016 | 15_000 << 32
    started = time.process_time()
    assert describe_pack(words.tobytes()) is not None
    assert time.process_time() - started < 2.0


def test_any_segment_that_opens_is_described_and_verified(written, tmp_path):
    for number in range(150):
        path = tmp_path / "segment"
        path.unlink(missing_ok=True)
        path.write_bytes(rewritten(Random(number), written.data, written.signature.shape[0]))
        try:
            segment = Segment.open(path)
        except SegmentDamagedError:
            continue
        assert orjson.dumps(describe_segment(segment))
        found = verify(segment)
        assert found.packs + found.stored + found.elsewhere == len(segment)
        assert orjson.dumps(found)
