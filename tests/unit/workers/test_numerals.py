"""The numbers of a model text are read exactly as Python reads them, however they are spelled."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.packing.numerals import floats, wholes

AWKWARD = [
    *("0", "-0", "0.0", "-0.0e5", "000.000", "00001.5", ".5", "5.", "-.5", "1e5", "1E5", "1e+5", "+1", "0e999"),
    *("5e-324", "2.2250738585072011e-308", "2.2250738585072014e-308", "1.7976931348623157e308", "1e309", "-1e-400"),
    *("inf", "-inf", "1e22", "1e23", "9007199254740993", "9007199254740992.5", "9007199254740993e0", "123456789e-400"),
    *("1234567890123456789", "12345678901234567890", "123456789012345678901234567890", "0.00012345678901234567"),
    *("-0.0000000000000000000000000012345678901234567", "8.5e-5", "1e-323", "179769313486231580793e289"),
]


def assert_read(texts):
    counts, found = floats([" ".join(texts).encode()])
    assert counts.tolist() == [len(texts)]
    assert found.view(np.int64).tolist() == np.array([float(text) for text in texts]).view(np.int64).tolist()


def test_awkward_spellings_are_read_exactly():
    assert_read(AWKWARD)


def test_numbers_halfway_between_two_floats_are_rounded_to_even():
    random = np.random.default_rng(0)
    odd = [2 * ((1 << 52) + int(low)) + 1 for low in random.integers(0, 1 << 52, 2000)]
    assert_read(
        [str(number << shift) for shift, number in zip(random.integers(0, 10, 2000).tolist(), odd, strict=True)]
    )


@given(st.lists(st.integers(0, (1 << 64) - 1).filter(lambda bits: (bits >> 52) & 0x7FF != 0x7FF), min_size=1))
def test_any_float_is_read_back_from_seventeen_digits_and_from_fewer(bits):
    numbers = [struct.unpack("<d", struct.pack("<Q", one))[0] for one in bits]
    assert_read([form.format(number) for number in numbers for form in ("{:.17g}", "{!r}", "{:.9g}", "{:.20e}")])


@given(st.lists(st.tuples(st.integers(0, 10**19), st.integers(-360, 320)), min_size=1))
def test_any_digits_at_any_power_of_ten_are_read_exactly(numbers):
    assert_read([f"{digits}e{power}" for digits, power in numbers])


@given(st.lists(st.integers(-(1 << 63), (1 << 63) - 1), min_size=1))
def test_whole_numbers_are_read_exactly(numbers):
    assert wholes([" ".join(map(str, numbers)).encode()])[1].tolist() == numbers


def test_each_line_has_its_own_count_and_spaces_do_not_matter():
    counts, found = floats([b"1 2", b"", b" 3  4 5 "])
    assert counts.tolist() == [2, 0, 3]
    assert found.tolist() == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert [part.tolist() for part in floats([])] == [[], []]


@pytest.mark.parametrize("text", [b"1e", b"1e+", b"-", b".", b"1.2.3", b"0x1", b"1,2", b"1e5e", b"--1", b"1-", b"e5"])
def test_what_is_no_number_is_refused(text):
    for read in (floats, wholes):
        with pytest.raises(ValueError, match=r"could not convert|invalid literal"):
            read([b"1 2", b"3 " + text])


def test_a_fraction_is_no_whole_number():
    with pytest.raises(ValueError, match="invalid literal"):
        wholes([b"1 2.0"])


def test_a_whole_number_that_does_not_fit_is_refused():
    with pytest.raises(OverflowError):
        wholes([b"99999999999999999999"])
