from hashlib import blake2b

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import (
    GroupInvalidError,
    KeyFieldMissingError,
    KeyFieldUnknownError,
    KeyTooLongError,
    KeyTypeError,
)
from registry.keys import (
    MAX_VALUE_BYTES,
    RESERVED_FIELDS,
    SLOTS,
    KeySchema,
    PartitionKey,
    key_id,
    key_text,
    shard_of,
    slot_of,
)
from registry.rows import stored_key
from tests.support.registries import at_level

SCHEMA = KeySchema(("store", "brand", "region"), ("region", "store"), (("brand", "region"), ("brand",), ()))
ODD = ("/", "=", ";", "%2F", "%", "..", " ", "🍊", "a/brand=b", "&", "?", "#", "+", "\n", "\x00", "é", "~", "'", '"')

texts = st.sampled_from(ODD) | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
keys = st.tuples(texts, texts, texts)
levels = st.integers(0, len(SCHEMA.fallback))


@given(keys, levels)
def test_the_canonical_form_reads_back_as_the_same_key(values, level):
    key = at_level(SCHEMA, values, level)
    assert SCHEMA.parse_text(key.text) == key
    assert stored_key(key.text) == key
    assert SCHEMA.parse_partial(key.as_dict()) == key


@given(keys, levels, keys, levels)
def test_different_keys_have_different_texts_and_identities(one, one_level, other, other_level):
    first, second = at_level(SCHEMA, one, one_level), at_level(SCHEMA, other, other_level)
    assert (first == second) == (first.text == second.text) == (first.id == second.id)


@given(keys)
def test_the_canonical_form_is_plain_ascii_without_separators_in_values(values):
    text = SCHEMA.key(values).text
    assert text.isascii()
    assert text.isprintable()
    assert text.count("/") == 2
    assert text.count("=") == 3


@given(keys)
def test_the_order_in_which_fields_are_given_does_not_matter(values):
    given_back = dict(reversed(SCHEMA.key(values).pairs))
    assert SCHEMA.parse(given_back) == values


@given(keys)
def test_identity_is_blake2b_128_of_the_canonical_form(values):
    key = SCHEMA.key(values)
    assert key.id == key_id(key.text) == blake2b(key.text.encode(), digest_size=16).digest()


def test_the_canonical_form_never_changes():
    """What is stored is found by it for ever, so it is written down here."""
    key = KeySchema(("store", "brand")).key(("2", "tropicana 1/2=é"))
    assert key.text == "store=2/brand=tropicana%201%2F2%3D%C3%A9"
    assert key.id.hex() == "1db9c6245572358d0be10426666a84c1"
    assert PartitionKey(()).text == ""


@given(keys, texts)
def test_the_slot_depends_on_the_shard_by_fields_alone(values, other):
    changed = (values[0], other, values[2])
    assert SCHEMA.slot(SCHEMA.key(values)) == SCHEMA.slot(SCHEMA.key(changed))


@given(st.binary(min_size=16, max_size=16))
def test_a_slot_is_the_first_twelve_bits(identity):
    assert slot_of(identity) == int.from_bytes(identity, "big") >> (128 - 12)


@pytest.mark.parametrize("shards", [1, 2, 3, 7, 64, 1000, 4095, 4096])
def test_shards_are_runs_of_slots_of_nearly_equal_length(shards):
    cut = [shard_of(slot, shards) for slot in range(SLOTS)]
    assert cut == sorted(cut)
    lengths = [cut.count(shard) for shard in range(shards)]
    assert sum(lengths) == SLOTS
    assert max(lengths) - min(lengths) <= 1


@given(st.integers(0, SLOTS - 1), st.sampled_from([1, 2, 4, 8, 16, 256, 1024]))
def test_doubling_the_shards_splits_each_in_two(slot, shards):
    assert shard_of(slot, shards * 2) // 2 == shard_of(slot, shards)


@given(st.integers())
def test_an_integer_is_its_decimal_text(number):
    assert key_text(number, "store") == str(number)


@pytest.mark.parametrize("value", [1.0, 1.5, float("nan"), True, False, None, "", [], {}, ["a"], b"a"])
def test_what_is_neither_text_nor_an_integer_is_a_type_error(value):
    with pytest.raises(KeyTypeError) as caught:
        key_text(value, "store")
    assert (caught.value.code, caught.value.field) == ("key_type", "store")


@pytest.mark.parametrize("value", ["\ud800", "a\udfff"])
def test_text_that_is_no_unicode_is_a_type_error(value):
    with pytest.raises(KeyTypeError):
        key_text(value, "store")


def test_the_limit_counts_bytes():
    assert key_text("é" * (MAX_VALUE_BYTES // 2), "store")
    with pytest.raises(KeyTooLongError) as caught:
        key_text("é" * (MAX_VALUE_BYTES // 2) + "x", "store")
    assert caught.value.field == "store"


def test_an_integer_too_long_to_print_is_refused():
    with pytest.raises(KeyTooLongError):
        key_text(10**5000, "store")


@pytest.mark.parametrize("lacking", SCHEMA.fields)
def test_a_missing_field_is_named(lacking):
    given_back = {field: "x" for field in SCHEMA.fields if field != lacking}
    with pytest.raises(KeyFieldMissingError) as caught:
        SCHEMA.parse(given_back)
    assert caught.value.field == lacking


def test_an_unknown_field_is_named():
    for call in (SCHEMA.parse, SCHEMA.parse_partial):
        with pytest.raises(KeyFieldUnknownError) as caught:
            call({"store": "1", "brand": "b", "region": "r", "city": "c"})
        assert caught.value.field == "city"


def test_a_partial_key_must_be_a_declared_fallback_level():
    assert SCHEMA.parse_partial({"region": "r", "brand": "b"}).text == "brand=b/region=r"
    assert SCHEMA.parse_partial({}).text == ""
    with pytest.raises(KeyFieldMissingError):
        SCHEMA.parse_partial({"region": "r"})
    with pytest.raises(KeyFieldMissingError):
        KeySchema(("store",)).parse_partial({})


@pytest.mark.parametrize(
    "text",
    [
        "store",
        "store=1/store=2/brand=b",
        "=",
        "/",
        "store=1//brand=b",
        "store=/brand=b/region=r",
        "store=%FF/brand=b/region=r",
    ],
)
def test_a_text_that_is_no_key_is_refused(text):
    with pytest.raises((KeyTypeError, KeyFieldUnknownError)):
        SCHEMA.parse_text(text)


def test_the_levels_of_a_key_drop_fields_in_the_declared_order():
    values = ("1", "b", "r")
    assert [SCHEMA.text_at(values, level) for level in range(4)] == [
        "store=1/brand=b/region=r",
        "brand=b/region=r",
        "brand=b",
        "",
    ]


@pytest.mark.parametrize(
    ("fields", "shard_by", "fallback", "at"),
    [
        ((), (), (), "key"),
        (("a", "a"), (), (), "key"),
        (tuple("abcdefghi"), (), (), "key"),
        (("1a",), (), (), "key"),
        (("a b",), (), (), "key"),
        (("é",), (), (), "key"),
        (("",), (), (), "key"),
        (("a" * 64,), (), (), "key"),
        (("a", "b"), ("c",), (), "shard_by"),
        (("a", "b"), ("a", "a"), (), "shard_by"),
        (("a", "b"), (), (("c",),), "fallback"),
        (("a", "b"), (), (("a",), ("a",)), "fallback"),
        (("a", "b"), (), (("b", "a"),), "fallback"),
        (("a", "b"), (), ((), ()), "fallback"),
        *(((name,), (), (), "key") for name in sorted(RESERVED_FIELDS)),
    ],
)
def test_a_definition_that_breaks_a_rule_is_refused_naming_the_part(fields, shard_by, fallback, at):
    with pytest.raises(GroupInvalidError) as caught:
        KeySchema(fields, shard_by, fallback)
    assert caught.value.field == at


def test_fields_of_a_subset_stand_in_the_groups_order():
    schema = KeySchema(("a", "b", "c"), ("c", "a"), (("c", "b"),))
    assert (schema.shard_by, schema.fallback) == (("a", "c"), (("b", "c"),))
