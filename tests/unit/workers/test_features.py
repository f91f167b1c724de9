"""Rows of portions, put together, are the rows of the whole."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from workers.features import Features, joined
from workers.packing.kernel import order_by_key


def test_joined_rows_keep_texts_and_whole_numbers_beyond_float64():
    plain = Features(np.array([[1.0, np.nan], [np.inf, 2.0]]), {1: ["a", None]})
    exact = Features(np.array([[2.0**53, np.nan]]), {1: ["b"]}, {0: np.array([2**53 + 1])})
    whole = joined([plain, exact])
    assert whole.text == {1: ["a", None, "b"]}
    assert whole.exact[0].tolist() == [1, 0, 2**53 + 1]  # what is infinite is read from the matrix alone
    assert np.array_equal(whole.matrix, np.concatenate((plain.matrix, exact.matrix)), equal_nan=True)
    assert whole.matrix.flags.c_contiguous


def test_one_portion_is_the_whole():
    one = Features(np.zeros((2, 1)))
    assert joined([one]) is one


@given(st.lists(st.integers(0, 9), max_size=60))
def test_rows_are_ordered_by_key_and_within_a_key_as_they_came(key_rows):
    rows = np.array(key_rows, dtype=np.int32)
    order = np.empty(len(rows), dtype=np.int64)
    order_by_key(rows, np.zeros(11, dtype=np.int64), order)
    assert order.tolist() == np.argsort(rows, kind="stable").tolist()
