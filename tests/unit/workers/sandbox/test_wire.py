"""Whatever bytes come out of a sandbox, they are numbers of the right shape or a refusal."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from registry.signature import Signature
from tests.support import models
from workers.errors import ArtifactInvalidError, PredictionFailedError
from workers.features import Features
from workers.runtimes.runtime import Binding
from workers.sandbox import inside, wire

SIGNATURE = Signature.from_json(
    {"inputs": [{"name": "price"}, {"name": "feat"}], "outputs": [{"name": "sales"}]},
)
CATALOG = b"workers.runtimes.catalog:runtime"


@given(st.binary(max_size=100), st.integers(0, 5), st.integers(1, 3))
def test_any_bytes_are_scores_of_the_right_shape_or_a_refusal(answer, rows, width):
    found = wire.read_scores(answer, rows, width)
    if isinstance(found, wire.Refused):
        assert len(found.problem.detail) <= wire.MOST_DETAIL
    else:
        assert found.shape == (rows, width)
        assert found.tobytes() == answer[1:]
    assert isinstance(wire.is_loaded(answer), wire.Refused) or answer == wire.loaded()


@given(st.integers(0, 4), st.integers(1, 3), st.data())
def test_scores_arrive_as_they_were(rows, width, data):
    numbers = data.draw(st.lists(st.floats(), min_size=rows * width, max_size=rows * width))
    scores = np.array(numbers).reshape(rows, width)
    assert wire.read_scores(wire.scores(scores), rows, width).tobytes() == scores.tobytes()


def test_scores_that_are_not_contiguous_arrive_as_they_were():
    scores = np.arange(12.0).reshape(3, 4)[:, ::2]
    assert wire.read_scores(wire.scores(scores), 3, 2).tolist() == scores.tolist()


def test_a_refusal_names_what_was_wrong():
    told = wire.is_loaded(wire.refusal(ArtifactInvalidError("no such format"), tight=True))
    assert isinstance(told.problem, ArtifactInvalidError)
    assert (told.problem.detail, told.tight) == ("no such format", True)
    told = wire.read_scores(wire.refusal(ZeroDivisionError("oh \ud800"), tight=False), 1, 1)
    assert isinstance(told.problem, PredictionFailedError)
    assert told.problem.detail == "the model broke: ZeroDivisionError: oh ?"


def test_a_refusal_cannot_name_a_problem_that_no_model_has():
    told = wire.is_loaded(b'r["store_away", "", false]')
    assert type(told.problem) is PredictionFailedError


def test_a_child_does_as_it_is_told_and_forgets_what_is_dropped():
    tiny = [models.lightgbm_regressor(seed) for seed in range(2)]

    def load(number, dropped=()):
        data = tiny[number].data
        order = wire.LoadOrder(number, "lightgbm", data, Binding(SIGNATURE), dropped)
        return list(inside.load(CATALOG, wire.written(order)))

    def predict(*numbers):
        orders = [wire.predict_order(number, Features(np.array([[1.0, 2.0]]))) for number in numbers]
        return [
            wire.read_scores(answer, 1, 1)
            for message in inside.predict(CATALOG, wire.written(orders))
            for answer in wire.parted(message)
        ]

    assert load(0) == [wire.loaded()]
    assert load(1) == [wire.loaded()]
    expected = [model.native.predict([[1.0, 2.0]])[0] for model in tiny]
    assert [found.item() for found in predict(0, 1)] == expected
    assert load(0, dropped=[1]) == [wire.loaded()]
    kept, dropped = predict(0, 1)
    assert kept.item() == expected[0]
    assert isinstance(dropped, wire.Refused)
    inside._models.clear()


def test_bytes_that_are_no_model_are_refused_as_in_the_worker_itself():
    order = wire.LoadOrder(1, "onnx", b"junk", Binding(SIGNATURE), ())
    [answer] = inside.load(CATALOG, wire.written(order))
    assert isinstance(wire.is_loaded(answer).problem, ArtifactInvalidError)
