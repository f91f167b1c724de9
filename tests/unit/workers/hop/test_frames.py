"""What crosses the hop is what was said, and what is no frame is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import PartitionNotFoundError
from workers.client import ModelUse, ScoreAnswer, ScoreCall
from workers.errors import HopInvalidError, ReleaseNotReadyError, WorkerError
from workers.features import Features
from workers.hop.frames import COLD, AnswerFrames, Cold, answer_frame, call_frame, framed, frames, read_call
from workers.hop.problems import problem_named

NUMBERS = st.floats(width=64)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


def call(features, keys=(("2", "tropicana"),), key_rows=None, disabled=frozenset()):
    return ScoreCall("oj-sales", 7, keys, key_rows, features, 1, disabled)


def through(said, disabled=()):
    [(head, numbers)] = frames(call_frame(said, disabled))
    return read_call(head, numbers)


@given(cells=st.lists(NUMBERS, min_size=1, max_size=12))
def test_one_row_of_plain_numbers_arrives_as_it_was(cells):
    found = through(call(Features(None, cells=cells)))
    assert (found.group, found.release, found.keys, found.max_level) == ("oj-sales", 7, [("2", "tropicana")], 1)
    assert np.array(found.features.cells).tobytes() == np.array(cells).tobytes()


@given(data=st.data(), rows=st.integers(1, 6), width=st.integers(1, 4))
def test_rows_of_many_keys_with_text_and_large_integers_arrive_as_they_were(data, rows, width):
    matrix = np.array(data.draw(st.lists(NUMBERS, min_size=rows * width, max_size=rows * width))).reshape(rows, width)
    text = {0: data.draw(st.lists(TEXTS | st.none(), min_size=rows, max_size=rows))}
    exact = {width - 1: np.array(data.draw(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=rows, max_size=rows)))}
    key_rows = np.array(data.draw(st.lists(st.integers(0, 1), min_size=rows, max_size=rows)), dtype=np.int32)
    found = through(call(Features(matrix, text, exact), [("1", "a"), ("2", "")], key_rows))
    assert found.features.matrix.tobytes() == matrix.tobytes()
    assert (found.features.text, found.keys) == (text, [("1", "a"), ("2", "")])
    assert found.features.exact[width - 1].tolist() == exact[width - 1].tolist()
    assert found.key_rows.tolist() == key_rows.tolist()


def test_of_the_identities_on_hold_only_those_that_matter_go_along():
    said = call(Features(None, cells=[1.0]), disabled=frozenset({b"a" * 16, b"b" * 16}))
    assert through(said, {b"a" * 16}).disabled == {b"a" * 16}


@given(data=st.data())
def test_a_damaged_call_is_refused_or_is_a_call(data):
    said = call(Features(np.ones((2, 3))), [("1", "a"), ("2", "b")], np.array([0, 1], dtype=np.int32))
    body = bytearray(call_frame(said))
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        for head, numbers in frames(bytes(body)):
            found = read_call(head, numbers)
            assert found.features.matrix.size == len(found.features) * found.features.width
            assert found.key_rows is None or found.key_rows.max() < len(found.keys)
    except HopInvalidError:
        pass


@pytest.mark.parametrize(
    "head",
    [
        [], {}, "x", [1] * 11,
        ["g", 1, 0, [["a"], ["b"]], 1, 1, False, False, 0, 0, 0],
        ["g", 1, 0, [["a"]], 0, 1, False, False, 0, 0, 0],
        ["g", 1, 0, [["a"]], 2**62, 4, False, False, 0, 0, 0],
        ["g", 1, 0, [["a"]], 1, 1, False, True, 0, 0, 0],
        ["g", 1, 0, [["a"]], 1, 1, False, False, [[3, ["x"]]], 0, 0],
        ["g", 1, 0, [["a"]], 1, 1, False, False, [[0, ["x", "y"]]], 0, 0],
        ["g", 1, 0, [["a"]], 1, 1, False, False, 0, 0, ["zz"]],
        ["g", True, 0, [["a"]], 1, 1, False, False, 0, 0, 0],
        ["g", 1, 0, [[1]], 1, 1, False, False, 0, 0, 0],
    ],
)  # fmt: skip
def test_a_call_that_does_not_fit_its_numbers_is_refused(head):
    [(spelled, numbers)] = frames(framed(head, bytes(8)))
    with pytest.raises(HopInvalidError):
        read_call(spelled, numbers)


def test_a_row_that_names_no_key_of_its_call_is_refused():
    said = call(Features(np.ones((2, 1))), [("1", "a"), ("2", "b")], np.array([0, 2], dtype=np.int32))
    with pytest.raises(HopInvalidError, match="key"):
        through(said)


def test_an_answer_arrives_as_it_was():
    use = ModelUse("store=2", 3, 7, 1, "2026-11-01")
    answer = ScoreAnswer(np.array([[1.5], [np.nan]]), (use, None), {1: PartitionNotFoundError("none")})
    [(head, numbers)] = frames(answer_frame(answer, 7))
    found = AnswerFrames().read(head, numbers)
    assert found.scores.tobytes() == answer.scores.tobytes()
    assert list(found.models) == [use, None]
    assert [(at, type(problem), problem.detail) for at, problem in found.problems.items()] == [
        (1, PartitionNotFoundError, "none")
    ]


def test_answers_of_one_model_share_what_names_it():
    use, reader = ModelUse("store=2", 3, 7, 0, None), AnswerFrames()
    found = []
    for value in (1.0, 2.0):
        [(head, numbers)] = frames(answer_frame(ScoreAnswer(np.array([[value]]), (use,), {}), 7))
        found.append(reader.read(head, numbers))
    assert [answer.scores.item() for answer in found] == [1.0, 2.0]
    assert found[0].models[0] is found[1].models[0]


def test_a_refusal_and_a_cold_model_arrive_as_such():
    reader = AnswerFrames()
    [(head, numbers)] = frames(answer_frame(ReleaseNotReadyError("not yet"), 7))
    assert isinstance(reader.read(head, numbers), ReleaseNotReadyError)
    [(head, numbers)] = frames(COLD)
    assert isinstance(reader.read(head, numbers), Cold)


def test_a_problem_of_a_later_version_is_told_in_its_own_words():
    found = problem_named("brand_new", "said by a newer worker")
    assert type(found) is WorkerError
    assert found.detail == "brand_new: said by a newer worker"


@pytest.mark.parametrize("body", [b"x", bytes(8) + b"x", b"\xff" * 8, framed([1]) + b"\0"])
def test_a_body_that_does_not_end_where_a_frame_ends_is_refused(body):
    with pytest.raises(HopInvalidError):
        list(frames(body))
