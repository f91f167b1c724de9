"""However a bulk is split, what comes back is as if it had not been."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gateway.upstream.splitting import Joined, keys_by, part_of, refused
from registry.errors import PartitionNotFoundError
from workers.client import ModelUse, ScoreAnswer, ScoreCall
from workers.errors import WorkersUnreachableError
from workers.features import Features


def answered(call):
    """Every row's score is its first input plus a thousand times its key's number."""
    numbers = np.array([int(key[0]) for key in call.keys])
    problems = {at: PartitionNotFoundError(key[0]) for at, key in enumerate(call.keys) if key[0] == "3"}
    scores = call.features.matrix[:, :1] + 1000.0 * numbers[call.key_rows][:, None]
    uses = [None if at in problems else ModelUse(key[0], 1, 1, 0, None) for at, key in enumerate(call.keys)]
    return ScoreAnswer(scores, uses, problems)


@given(data=st.data(), keys=st.integers(1, 8), rows=st.integers(1, 30))
def test_a_bulk_split_in_any_way_is_answered_as_the_whole(data, keys, rows):
    owners = data.draw(st.lists(st.sampled_from("abc"), min_size=keys, max_size=keys))
    key_rows = np.array(data.draw(st.lists(st.integers(0, keys - 1), min_size=rows, max_size=rows)), dtype=np.int32)
    texts = [str(row) for row in range(rows)]
    features = Features(np.arange(2.0 * rows).reshape(rows, 2), {1: texts}, {0: np.arange(rows)})
    call = ScoreCall("g", 1, [(str(n),) for n in range(keys)], key_rows, features, 0, frozenset())
    joined = Joined(call)
    for chosen in keys_by(owners).values():
        part = part_of(call, chosen)
        assert [part.call.features.text[1][at] for at in range(len(part.rows))] == [texts[row] for row in part.rows]
        assert part.call.features.exact[0].tolist() == part.rows.tolist()
        joined.add(part, answered(part.call))
    whole, found = answered(call), joined.answer(lambda: 1)
    used = np.isin(np.arange(keys), key_rows)
    assert found.scores.tobytes() == whole.scores.tobytes()
    assert [use for use, is_used in zip(found.models, used, strict=True) if is_used] == [
        use for use, is_used in zip(whole.models, used, strict=True) if is_used
    ]
    assert found.problems.keys() == whole.problems.keys()


def test_a_part_that_nobody_answers_refuses_its_own_keys_and_loses_no_other():
    call = ScoreCall("g", 1, [("0",), ("1",)], np.array([0, 1, 0], np.int32), Features(np.ones((3, 1))), 0, frozenset())
    joined = Joined(call)
    joined.add(part_of(call, [0]), answered(part_of(call, [0]).call))
    joined.refuse(part_of(call, [1]), WorkersUnreachableError("gone"))
    found = joined.answer(lambda: 1)
    assert found.scores.ravel().tolist()[::2] == [1.0, 1.0]
    assert np.isnan(found.scores[1, 0])
    assert [*found.problems] == [1]
    assert refused(found.problems, 2) is None


def test_what_another_worker_answers_replaces_what_the_first_could_not():
    call = ScoreCall("g", 1, [("0",), ("3",)], np.array([0, 1, 0], np.int32), Features(np.ones((3, 1))), 0, frozenset())
    joined = Joined(call)
    joined.add(part_of(call, [0, 1]), answered(call))
    assert list(joined.answer(lambda: 1).problems) == [1]
    use = ModelUse("3", 1, 1, 0, None)
    joined.add(part_of(call, [1]), ScoreAnswer(np.array([[7.0]]), (use,), {}))
    found = joined.answer(lambda: 1)
    assert (found.problems, found.models[1], found.scores[:, 0].tolist()) == ({}, use, [1.0, 7.0, 1.0])


def test_a_bulk_that_fails_for_one_reason_throughout_is_refused_with_it():
    gone = WorkersUnreachableError("gone")
    assert refused({0: gone, 1: gone}, 2) is gone
    assert refused({0: gone, 1: PartitionNotFoundError("none")}, 2) is None
