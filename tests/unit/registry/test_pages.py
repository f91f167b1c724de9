from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import CursorInvalidError
from registry.pages import cut_page, read_cursor, write_cursor


@given(st.binary(min_size=1, max_size=40))
def test_a_cursor_stands_for_its_place(place):
    cursor = write_cursor(place)
    assert read_cursor(cursor, len(place)) == place
    assert cursor.isascii()
    assert not set(cursor) & set("+/=&?# ")


@given(st.text(max_size=40))
def test_any_other_text_is_refused_or_has_the_right_length(text):
    with suppress(CursorInvalidError):
        assert len(read_cursor(text, 16)) == 16


@pytest.mark.parametrize(("found", "items", "more"), [([], 0, False), ([1, 2], 2, False), ([1, 2, 3], 2, True)])
def test_one_item_more_than_the_limit_says_that_there_is_a_next_page(found, items, more):
    page = cut_page(found, 2, lambda item: bytes([item]))
    assert len(page.items) == items
    assert (page.cursor is not None) == more
