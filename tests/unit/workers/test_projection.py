import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.signature import InputSpec, OutputSpec, Signature
from workers.errors import PredictionFailedError, SignatureMismatchError
from workers.runtimes.projection import Projection, class_targets


def signature(*outputs):
    return Signature((InputSpec("x"),), outputs)


def filled(projection, rows=2, **native):
    scores = np.full((rows, projection.width), np.nan)
    projection.fill(scores, **native)
    return scores.tolist()


def test_numbers_fill_value_outputs_side_by_side():
    projection = Projection(signature(OutputSpec("low"), OutputSpec("pair", width=2)), 3)
    assert projection.identity
    assert filled(projection, values=np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])) == [[1, 2, 3], [4, 5, 6]]
    with pytest.raises(SignatureMismatchError, match="have 3 columns, the model answers 2"):
        Projection(signature(OutputSpec("low"), OutputSpec("pair", width=2)), 2)


GROUP = ("a", "b", "c", "d")


@given(st.lists(st.sampled_from(GROUP), min_size=1, unique=True), st.data())
def test_probabilities_are_scattered_over_the_groups_classes(classes, data):
    native = np.array([data.draw(st.lists(st.floats(0, 1), min_size=len(classes), max_size=len(classes)))])
    projection = Projection(signature(OutputSpec("p", "probabilities", GROUP)), 0, classes)
    (row,) = filled(projection, rows=1, probabilities=native)
    assert row == [native[0, classes.index(name)] if name in classes else 0.0 for name in GROUP]


def test_a_label_is_the_groups_index_of_the_likeliest_class_first_of_equals():
    projection = Projection(signature(OutputSpec("c", "label", GROUP)), 0, ("d", "b"))
    native = np.array([[0.4, 0.6], [0.5, 0.5]])
    assert filled(projection, probabilities=native) == [[1.0], [3.0]]
    assert filled(projection, labels=np.array([0, 1])) == [[3.0], [1.0]]


def test_probabilities_that_are_not_finite_have_no_likeliest_class():
    projection = Projection(signature(OutputSpec("c", "label", GROUP)), 0, ("d", "b"))
    with pytest.raises(PredictionFailedError, match="not finite"):
        filled(projection, probabilities=np.full((2, 2), np.nan))


def test_classes_are_told_apart_by_type_but_whole_floats_are_integers():
    assert class_targets([1.0, 0.0], (0, 1)) == (1, 0)
    assert class_targets([np.int64(1)], (0, 1)) == (1,)
    assert class_targets([np.bool_(True)], (False, True)) == (1,)
    for classes, group in (([True], (0, 1)), (["1"], (0, 1)), ([1], ("0", "1")), ([0.5], (0, 1))):
        with pytest.raises(SignatureMismatchError, match="none of the group's"):
            class_targets(classes, group)


def test_a_class_named_twice_and_no_classes_at_all_are_refused():
    with pytest.raises(SignatureMismatchError, match="twice"):
        class_targets([1.0, 1], (0, 1))
    with pytest.raises(SignatureMismatchError, match="does not classify"):
        class_targets([], (0, 1))
