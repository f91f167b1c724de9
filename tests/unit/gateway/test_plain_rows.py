"""Plain bulks are read without a parser: what is read so is what the parser would have read, to the bit."""

import json
import struct
from random import Random

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.data.bulk_rows import read_json_bulk
from gateway.data.plain_rows import read_plain
from gateway.data.portions import LEAST_BYTES, PORTION_BYTES
from gateway.data.rows import RowReader
from gateway.errors import TooManyRowsError
from registry.errors import Problem
from tests.support.views import view

SIGNATURE = {
    "inputs": [
        {"name": "price"},
        {"name": "stock", "dtype": "int64", "nullable": True},
        {"name": "share", "dtype": "float32", "nullable": True},
        {"name": "promo", "dtype": "bool"},
        {"name": "feat", "default": 0.5},
        {"name": "place", "dtype": "int64", "from_key": "store"},
    ],
    "outputs": [{"name": "sales"}],
}
COLUMNS = ["store", "promo", "price", "brand", "stock", "share"]
PLAIN = '["2", true, 3.25, "tropicana", 17, 0.1]'

NUMBERS = (
    "0",
    "7",
    "-3",
    "0.5",
    "-12.25",
    "1e3",
    "2.5E-3",
    "1e+2",
    "123456789012345",
    "1.7976931348623157e308",
    "5e-324",
)
ODD_NUMBERS = (
    "-0",
    "-0.0",
    "01",
    "1.",
    ".5",
    "+1",
    "1e",
    "1e400",
    "9007199254740993",
    "18446744073709551616",
    "NaN",
    "0x1",
)
ODD_NUMBERS += ("0.1000000000000000055511151231257827", "1" * 400, "1.5e", "--1", "1-1", "Infinity", "1e-400", "00")
KEYS = ('"2"', '"dominicks"', "5", '"a b"', '"x]],["', '"5"', "123456789012345678", '"~"')
ODD_KEYS = (
    '""',
    '"\\u0041"',
    '"\u20ac"',
    "1.0",
    "-0",
    "007",
    "true",
    '"a\x7fb"',
    '"a\tb"',
    '"' + "k" * 513 + '"',
    "null",
    "1e2",
)
FLAGS = ("true", "false")
ODD = ("null", "tru", "True", '"1"', "[1]", "{}", "", "1,2", '"\\""', "nul", "falsey", "0 1")


def outcome(raw, plain, *, limit=100_000):
    """All that reading a bulk says, or its refusal."""
    seen = view(SIGNATURE)
    try:
        rows = read_json_bulk(seen, RowReader(seen.signature), raw, limit, plain=plain)
    except Problem as problem:
        return problem.code, problem.detail, problem.field, problem.row
    return (
        rows.total,
        [rows.keys[k] for k in rows.key_rows.tolist()],
        rows.places.tolist(),
        bits(rows.features.matrix),
        {row: (problem.code, problem.detail, problem.field) for row, problem in rows.errors.items()},
        rows.max_level,
        rows.explain,
    )


def bits(matrix):
    """The bits of all cells, any NaN being the same."""
    return np.where(np.isnan(matrix), np.nan, matrix).view(np.uint64).tolist()


def counting():
    """`read_plain`, and a list of whether it read each bulk it was given."""
    read = []

    def plain(*given):
        found = read_plain(*given)
        read.append(found is not None)
        return found

    return plain, read


def body(rows, *, blank="", columns=COLUMNS, **more):
    """A bulk of rows that are text already, long enough to be cut."""
    padding = [PLAIN] * (LEAST_BYTES // len(PLAIN) + 1)
    head = json.dumps({"columns": columns, **more})[:-1]
    data = f"{blank},{blank}".join([*rows, *padding])
    return f'{head}, "data"{blank}:{blank}[{blank}{data}{blank}]{blank}}}'.encode("utf-8", "surrogatepass")


def row(cells, blank=""):
    return f"[{blank}{f'{blank},{blank}'.join(cells)}{blank}]"


def one_of(*pools):
    return st.one_of([st.sampled_from(pool) for pool in pools])


numbers = st.one_of(st.floats(allow_nan=False, allow_infinity=False).map(repr), st.integers().map(str), one_of(NUMBERS))
wholes = st.one_of(st.integers(-(2**53), 2**53).map(str), one_of(("null",)))
shares = st.one_of(st.floats(width=32, allow_nan=False, allow_infinity=False).map(repr), one_of(NUMBERS, ("null",)))
plain_rows = st.tuples(one_of(("2", '"5"', "17")), one_of(FLAGS), numbers, one_of(KEYS), wholes, shares)
odd_rows = st.tuples(
    one_of(KEYS, ODD_KEYS), one_of(FLAGS, ODD), one_of(NUMBERS, ODD_NUMBERS, ODD), one_of(KEYS, ODD_KEYS, ODD),
    one_of(NUMBERS, ODD_NUMBERS, ODD), one_of(NUMBERS, ODD_NUMBERS, ODD),
)  # fmt: skip
blanks = st.text(" \n\r\t", max_size=2)


@given(st.lists(plain_rows, min_size=1, max_size=6), blanks)
def test_plain_rows_are_what_the_parser_reads(rows, blank):
    raw = body([row(cells, blank) for cells in rows], blank=blank)
    assert outcome(raw, read_plain) == outcome(raw, None)


@given(st.lists(st.one_of(plain_rows, odd_rows), min_size=1, max_size=4), blanks)
def test_rows_that_are_not_plain_are_left_to_the_parser(rows, blank):
    raw = body([row(cells, blank) for cells in rows], blank=blank)
    assert outcome(raw, read_plain) == outcome(raw, None)


@given(st.integers(0, 2**32), st.integers(1, 3))
def test_a_body_that_lost_or_changed_bytes_says_what_it_says_to_the_parser(seed, changes):
    random = Random(seed)
    raw = bytearray(body([PLAIN, row(["5", "false", "1e3", '"t"', "null", "0.25"], " ")]))
    for _ in range(changes):
        at = random.randrange(min(len(raw), 400))
        match random.randrange(3):
            case 0:
                raw[at] = random.randrange(256)
            case 1:
                raw[at : at + 1] = b""
            case _:
                raw[at:at] = random.choice(
                    (b'"', b"[", b"]", b",", b"\\", b"0", b"-", b".", b"e", b" ", b"null", b"\0")
                )
    assert outcome(bytes(raw), read_plain) == outcome(bytes(raw), None)


@pytest.mark.parametrize("number", NUMBERS[:-1])
def test_plain_numbers_need_no_parser(number):
    plain, read = counting()
    found = outcome(body([row(['"2"', "true", number, '"t"', "null", "0.1"])]), plain)
    assert read == [True]
    assert struct.unpack("<d", struct.pack("<Q", found[3][0][0]))[0] == float(number)


@pytest.mark.parametrize("number", ODD_NUMBERS)
def test_what_is_no_plain_number_is_left_to_the_parser(number):
    plain, read = counting()
    outcome(body([row(['"2"', "true", number, '"t"', "null", "0.1"])]), plain)
    assert read in ([False], [])


@pytest.mark.parametrize("key", ODD_KEYS[:-1])
def test_what_is_no_plain_key_is_left_to_the_parser(key):
    plain, read = counting()
    raw = body([row(['"2"', "true", "1.0", key, "null", "0.1"])])
    assert outcome(raw, plain) == outcome(raw, None)
    assert read in ([False], []) or key == '"a\x7fb"'


def test_a_plain_bulk_of_any_size_needs_no_parser():
    plain, read = counting()
    raw = body([PLAIN] * (4 * PORTION_BYTES // len(PLAIN)), explain=True, max_fallback_level=1)
    assert outcome(raw, plain) == outcome(raw, None)
    assert read == [True]


def test_too_many_plain_rows_are_refused():
    seen = view(SIGNATURE)
    with pytest.raises(TooManyRowsError):
        read_json_bulk(seen, RowReader(seen.signature), body([PLAIN] * 100), 100, plain=read_plain)


@pytest.mark.parametrize(
    "columns", [COLUMNS[:5], [*COLUMNS, "feat"], [*COLUMNS[1:], "store"], COLUMNS[1:], [*COLUMNS, "x"]]
)
def test_columns_may_be_left_out_and_stand_in_any_order_as_for_the_parser(columns):
    cells = dict(zip([*COLUMNS, "feat", "x"], ['"2"', "true", "3.25", '"t"', "17", "0.1", "2", "1"], strict=True))
    line = row([cells[name] for name in columns])
    raw = body([line] * (LEAST_BYTES // len(line)), columns=columns).replace(PLAIN.encode(), line.encode())
    assert outcome(raw, read_plain) == outcome(raw, None)


def test_a_share_beyond_float32_is_its_rows_error():
    raw = body([row(["2", "true", "1.0", '"t"', "1", "1e39"])])
    assert outcome(raw, read_plain) == outcome(raw, None)
    assert list(outcome(raw, read_plain)[4]) == [0]


@pytest.mark.parametrize(
    "signature", [{"inputs": [{"name": "price"}, {"name": "note", "dtype": "string"}]}, {"inputs": []}]
)
def test_inputs_that_are_no_numbers_are_left_to_the_parser(signature):
    seen = view({**signature, "outputs": [{"name": "sales"}]}) if signature["inputs"] else view()
    raw = orjson.dumps({"columns": ["store", "brand", "price"], "data": [["2", "t", 1.5]] * 300})
    both = [read_json_bulk(seen, RowReader(seen.signature), raw, 1000, plain=plain) for plain in (read_plain, None)]
    assert both[0].features.matrix.tolist() == both[1].features.matrix.tolist()
    assert both[0].errors.keys() == both[1].errors.keys()
