import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry.errors import CursorInvalidError, KeyFieldUnknownError
from registry.keys import MAX_VALUE_BYTES
from registry.pages import write_cursor
from registry.versions import add_versions, list_heads
from tests.support.registries import NOW, SCHEMA, Registry, artifact, at_level

VALUES = (
    "1",
    "11",
    "a",
    "A",
    "1/brand=a",
    "a=b",
    "50%",
    "%2F",
    "_",
    "a_b",
    "axb",
    "..",
    " ",
    "🍊",
    "1-2",
    "1.5",
    "~",
    "'",
    '"',
)
values = st.sampled_from(VALUES) | st.text(min_size=1, max_size=6).filter(
    lambda text: text.isprintable() and len(text.encode(errors="ignore")) <= MAX_VALUE_BYTES
)


def texts(registry: Registry, **asked) -> list[str]:
    with registry.database.read() as conn:
        return [version.key.text for version in list_heads(conn, "oj", **asked).items]


def walk(registry: Registry, limit: int, **asked) -> list[str]:
    """All keys of a listing, page by page."""
    found: list[str] = []
    cursor = None
    while True:
        with registry.database.read() as conn:
            page = list_heads(conn, "oj", limit=limit, cursor=cursor, **asked)
        found += [version.key.text for version in page.items]
        cursor = page.cursor
        if cursor is None:
            return found
        assert len(page.items) == limit


def test_a_listing_shows_the_newest_version_of_each_key_in_key_order(registry):
    registry.add_all({"store=2/brand=a": "x", "store=1/brand=b": "y", "store=1/brand=a": "z", "brand=a": "f", "": "w"})
    registry.add("store=1/brand=a", "z2")
    with registry.database.read() as conn:
        items = list_heads(conn, "oj").items
    assert [(item.key.text, item.number) for item in items] == [
        ("", 1),
        ("brand=a", 1),
        ("store=1/brand=a", 2),
        ("store=1/brand=b", 1),
        ("store=2/brand=a", 1),
    ]


def test_deleted_keys_are_not_listed(registry):
    registry.add_all({"store=1/brand=a": "x", "store=2/brand=a": "y"})
    registry.delete("store=1/brand=a")
    assert texts(registry) == ["store=2/brand=a"]


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 20])
def test_pages_together_are_the_whole_listing(registry, limit):
    keys = {f"store={n}/brand=b{n % 3}": f"m{n}" for n in range(20)}
    registry.add_all(keys)
    assert walk(registry, limit) == sorted(keys)


def test_a_last_page_that_is_just_full_has_no_cursor(registry):
    registry.add_all({"store=1/brand=a": "x", "store=2/brand=a": "y"})
    with registry.database.read() as conn:
        assert list_heads(conn, "oj", limit=2).cursor is None


def test_pages_stay_right_while_keys_come_and_go(registry):
    registry.add_all({f"store={n}/brand=a": f"m{n}" for n in range(1, 7)})
    with registry.database.read() as conn:
        first = list_heads(conn, "oj", limit=3)
    registry.delete("store=3/brand=a")  # the last one shown
    registry.delete("store=4/brand=a")
    registry.add("store=0/brand=a", "before")
    registry.add("store=7/brand=a", "after")
    with registry.database.read() as conn:
        second = list_heads(conn, "oj", limit=3, cursor=first.cursor)
    assert [item.key.text for item in second.items] == ["store=5/brand=a", "store=6/brand=a", "store=7/brand=a"]


@pytest.mark.parametrize("cursor", ["", "x", "!!!!", "AAAA", "é", write_cursor(b"0" * 16), write_cursor(b"0" * 15)])
def test_a_cursor_of_nobodys_is_refused(registry, cursor):
    registry.add("store=1/brand=a", "x")
    with registry.database.read() as conn, pytest.raises(CursorInvalidError) as caught:
        list_heads(conn, "oj", cursor=cursor)
    assert caught.value.field == "cursor"


def test_a_cursor_stays_short_for_the_longest_keys(registry):
    key = SCHEMA.key(("é" * 256, "🍊" * 128))
    with registry.database.write() as conn:
        add_versions(conn, "oj", [artifact(key, "x"), artifact(SCHEMA.key(("ê", "a")), "y")], NOW)
        assert len(list_heads(conn, "oj", limit=1).cursor or "") < 40


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    stored=st.lists(st.tuples(values, values), min_size=1, max_size=12, unique=True),
    store=st.none() | values,
    brand=st.none() | values,
)
def test_a_key_field_filter_finds_exactly_the_keys_with_that_value(registry, stored, store, brand):
    """Whatever the values hold: separators, wildcards, other cases, emoji."""
    with registry.database.write() as conn:
        keys = [SCHEMA.key(pair) for pair in stored] + [at_level(SCHEMA, pair, 1) for pair in stored]
        add_versions(conn, "oj", [artifact(key, key.text) for key in keys], NOW)
        where = {field: value for field, value in (("store", store), ("brand", brand)) if value is not None}
        found = {item.key for item in list_heads(conn, "oj", where=where, limit=1000).items}
        everything = {item.key for item in list_heads(conn, "oj", limit=1000).items}
    wanted = set(where.items())
    assert found == {key for key in everything if wanted <= set(key.pairs)}


def test_a_filter_on_no_key_field_is_refused(registry):
    with registry.database.read() as conn, pytest.raises(KeyFieldUnknownError) as caught:
        list_heads(conn, "oj", where={"city": "x"})
    assert caught.value.field == "city"


def test_a_tag_filter_finds_the_newest_versions_that_carry_all_tags(registry):
    registry.add("store=1/brand=a", "x", tags={"region": "nw", "tier": "1"})
    registry.add("store=2/brand=a", "x", tags={"region": "nw", "tier": "2"})
    registry.add("store=3/brand=a", "x", tags={"region": "NW"})
    registry.add("store=4/brand=a", "x", tags={"region": "nw"})
    registry.add("store=4/brand=a", "x2", tags={"region": "se"})  # moved on
    registry.add("store=5/brand=a", "x", tags={"region": "nw"})
    registry.delete("store=5/brand=a")
    assert texts(registry, tags={"region": "nw"}) == ["store=1/brand=a", "store=2/brand=a"]
    assert texts(registry, tags={"region": "nw", "tier": "2"}) == ["store=2/brand=a"]
    assert texts(registry, tags={"region": "se"}) == ["store=4/brand=a"]
    assert texts(registry, tags={"region": "nw"}, where={"store": "1"}) == ["store=1/brand=a"]
    assert texts(registry, tags={"none": "x"}) == []


@pytest.mark.parametrize("name", ['a"b', "a.b", "$", "a'b", "a b", "%", "🍊", "tags"])
def test_any_tag_name_and_value_can_be_asked_for(registry, name):
    registry.add("store=1/brand=a", "x", tags={name: name})
    registry.add("store=2/brand=a", "x", tags={name: "other"})
    assert texts(registry, tags={name: name}) == ["store=1/brand=a"]


def test_pages_of_a_tag_filter_together_are_the_whole_listing(registry):
    for n in range(12):
        registry.add(f"store={n}/brand=a", f"m{n}", tags={"half": str(n % 2)})
    assert walk(registry, 2, tags={"half": "1"}) == sorted(f"store={n}/brand=a" for n in range(1, 12, 2))


@pytest.mark.parametrize(("asked", "given_back"), [(0, 1), (-5, 1), (5000, 3)])
def test_the_limit_is_held_to_its_bounds(registry, asked, given_back):
    registry.add_all({f"store={n}/brand=a": f"m{n}" for n in range(3)})
    assert len(texts(registry, limit=asked)) == given_back
