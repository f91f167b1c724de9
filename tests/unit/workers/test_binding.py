import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.signature import InputSpec, OutputSpec, Signature
from workers.errors import SignatureMismatchError
from workers.runtimes.binding import bind_count, bind_inputs

names = st.lists(
    st.text(st.characters(min_codepoint=33, max_codepoint=1000), min_size=1, max_size=8),
    min_size=1,
    max_size=12,
    unique=True,
)


def signature(inputs):
    return Signature(tuple(InputSpec(name) for name in inputs), (OutputSpec("y"),))


@given(names, st.data())
def test_any_subset_in_any_order_is_bound_by_name(inputs, data):
    read = data.draw(st.lists(st.sampled_from(inputs), min_size=1, unique=True))
    bound = bind_inputs(read, signature(inputs))
    assert [inputs[position] for position in bound] == read


@given(names, st.data())
def test_one_unknown_name_is_refused_and_named(inputs, data):
    read = [*data.draw(st.permutations(inputs)), "no such input"]
    with pytest.raises(SignatureMismatchError, match="no such input") as refused:
        bind_inputs(read, signature(inputs))
    assert refused.value.field == "no such input"


@pytest.mark.parametrize("pattern", ["Column_{}", "f{}", "feature_{}", "feature{}", "x{}"])
@pytest.mark.parametrize("first", [0, 1])
def test_made_up_names_bind_by_position_with_equal_count(pattern, first):
    made_up = [pattern.format(number) for number in range(first, first + 3)]
    assert bind_inputs(made_up, signature(["a", "b", "c"])) == (0, 1, 2)
    with pytest.raises(SignatureMismatchError, match="3 unnamed features"):
        bind_inputs(made_up, signature(["a", "b"]))


def test_names_that_look_made_up_but_are_the_signatures_own_bind_by_name():
    assert bind_inputs(["x1", "x0"], signature(["x0", "x1", "x2"])) == (1, 0)


@pytest.mark.parametrize("read", [["x0", "f1"], ["x0", "x2"], ["x2", "x3"], ["x1", "x0"]])
def test_names_that_only_resemble_made_up_ones_are_unknown(read):
    with pytest.raises(SignatureMismatchError, match="no input of the signature"):
        bind_inputs(read, signature(["a", "b"]))


def test_a_feature_named_twice_is_refused():
    with pytest.raises(SignatureMismatchError, match="'a' twice"):
        bind_inputs(["a", "b", "a"], signature(["a", "b"]))


def test_unnamed_features_are_all_inputs_in_order():
    assert bind_count(2, signature(["a", "b"])) == (0, 1)
    with pytest.raises(SignatureMismatchError, match="1 unnamed features"):
        bind_count(1, signature(["a", "b"]))
