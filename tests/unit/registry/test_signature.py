import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import SignatureInvalidError
from registry.rows import dump_json
from registry.signature import (
    MAX_INPUTS,
    MAX_WIDTH,
    InputSpec,
    OutputSpec,
    Signature,
    cell_of_text,
    default_fits,
    timestamp_micros,
)

names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)
DEFAULTS = {
    "float64": st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53),
    "float32": st.floats(allow_nan=False, allow_infinity=False, width=32),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "bool": st.booleans(),
    "string": names,
    "timestamp": st.sampled_from(["2026-11-19", "2026-11-19T08:00:00Z", "2026-11-19T08:00:00.123456+02:00"]),
}


@st.composite
def inputs(draw) -> dict:
    dtype = draw(st.sampled_from(sorted(DEFAULTS)))
    body = {"dtype": dtype, "name": draw(names)}
    if draw(st.booleans()):
        body["nullable"] = True
    if draw(st.booleans()):
        body["default"] = draw(DEFAULTS[dtype] | st.none()) if body.get("nullable") else draw(DEFAULTS[dtype])
    if dtype == "string" and "default" not in body and draw(st.booleans()):
        body["categories"] = draw(st.lists(names, min_size=1, max_size=4, unique=True))
    if draw(st.booleans()):
        body["from_key"] = "store"
    return body


outputs = st.one_of(
    st.builds(lambda name, width: {"name": name, "width": width}, names, st.integers(1, MAX_WIDTH)),
    st.builds(
        lambda name, kind, classes: {"name": name, "kind": kind, "classes": classes},
        names,
        st.sampled_from(["label", "probabilities"]),
        st.sampled_from([["lo", "hi"]]),
    ),
)


@given(
    st.lists(inputs(), min_size=1, max_size=6, unique_by=lambda body: body["name"]),
    st.lists(outputs, min_size=1, max_size=4, unique_by=lambda body: body["name"]),
)
def test_a_signature_reads_back_from_its_json(given_inputs, given_outputs):
    read = Signature.from_json({"inputs": given_inputs, "outputs": given_outputs}, ("store",))
    assert Signature.from_json(read.to_json(), ("store",)) == read
    assert [spec.name for spec in read.inputs] == [body["name"] for body in given_inputs]
    assert list(read.positions.values()) == list(range(len(given_inputs)))
    assert read.width == sum(spec.columns for spec in read.outputs)
    assert dump_json(read.to_json())


def test_the_shortest_definition_has_the_documented_defaults():
    read = Signature.from_json({"inputs": [{"name": "price"}], "outputs": [{"name": "sales"}]})
    assert read == Signature((InputSpec("price", "float64", False, True, None, (), None),), (OutputSpec("sales"),))
    assert (read.width, read.classes) == (1, ())
    assert read.to_json() == {
        "inputs": [{"name": "price", "dtype": "float64"}],
        "outputs": [{"name": "sales", "kind": "value"}],
    }


def test_outputs_take_columns_side_by_side():
    classes = ["a", "b", "c"]
    read = Signature.from_json(
        {
            "inputs": [{"name": "x"}],
            "outputs": [
                {"name": "v", "width": 4},
                {"name": "label", "kind": "label", "classes": classes},
                {"name": "p", "kind": "probabilities", "classes": classes},
            ],
        }
    )
    assert [spec.columns for spec in read.outputs] == [4, 1, 3]
    assert (read.width, read.classes) == (8, ("a", "b", "c"))


IN, OUT = {"name": "x"}, {"name": "y"}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (None, "signature"),
        ([], "signature"),
        ({"inputs": [IN], "outputs": [OUT], "more": 1}, "signature"),
        ({"outputs": [OUT]}, "signature.inputs"),
        ({"inputs": [], "outputs": [OUT]}, "inputs"),
        ({"inputs": [IN], "outputs": []}, "outputs"),
        ({"inputs": [IN, IN], "outputs": [OUT]}, "inputs"),
        ({"inputs": [IN], "outputs": [OUT, OUT]}, "outputs"),
        ({"inputs": [{"name": f"x{n}"} for n in range(MAX_INPUTS + 1)], "outputs": [OUT]}, "inputs"),
        ({"inputs": [IN, "x"], "outputs": [OUT]}, "signature.inputs.1"),
        *(
            ({"inputs": [{"name": "x"} | part], "outputs": [OUT]}, "signature.inputs.0")
            for part in (
                {"name": ""},
                {"name": "a" * 129},
                {"name": "a\n"},
                {"name": 3},
                {"name": "\ud800"},
                {"colour": "red"},
                {"dtype": "decimal"},
                {"dtype": ["int64"]},
                {"nullable": 1},
                {"default": None},
                {"default": "1"},
                {"default": True},
                {"dtype": "int64", "default": 1.0},
                {"dtype": "int64", "default": 2**63},
                {"dtype": "bool", "default": 0},
                {"dtype": "string", "default": 1},
                {"dtype": "string", "categories": ["a"], "default": "b"},
                {"dtype": "timestamp", "default": "yesterday"},
                {"categories": ["a"]},
                {"from_key": "city"},
                {"from_key": 3},
            )
        ),
        (
            {"inputs": [{"name": "x", "dtype": "string", "categories": "ab"}], "outputs": [OUT]},
            "signature.inputs.0.categories",
        ),
        (
            {"inputs": [{"name": "x", "dtype": "string", "categories": [1]}], "outputs": [OUT]},
            "signature.inputs.0.categories",
        ),
        (
            {"inputs": [{"name": "x", "dtype": "string", "categories": ["a", "a"]}], "outputs": [OUT]},
            "signature.inputs.0.categories",
        ),
        *(
            ({"inputs": [IN], "outputs": [{"name": "y"} | part]}, "signature.outputs.0")
            for part in (
                {"kind": "score"},
                {"kind": "label"},
                {"kind": "label", "classes": ["one"]},
                {"kind": "label", "classes": ["a", "a"]},
                {"kind": "label", "classes": ["a", 1.5]},
                {"kind": "label", "classes": ["a", []]},
                {"kind": "label", "classes": [1, True]},
                {"classes": ["a", "b"]},
                {"width": 0},
                {"width": MAX_WIDTH + 1},
                {"width": True},
                {"kind": "label", "classes": ["a", "b"], "width": 2},
            )
        ),
        (
            {
                "inputs": [IN],
                "outputs": [
                    {"name": "y", "kind": "label", "classes": ["a", "b"]},
                    {"name": "p", "kind": "probabilities", "classes": ["b", "a"]},
                ],
            },
            "outputs",
        ),
    ],
)
def test_a_definition_that_breaks_a_rule_is_refused_naming_the_field(body, field):
    with pytest.raises(SignatureInvalidError) as caught:
        Signature.from_json(body, ("store",))
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01", 0),
        ("1969-12-31T23:59:59.999999Z", -1),
        ("2026-11-19T08:00:00+02:00", 1_795_068_000_000_000),
        ("9999-12-31T23:59:59.999999Z", 253_402_300_799_999_999),
    ],
)
def test_a_timestamp_is_microseconds_since_1970_utc(text, micros):
    assert timestamp_micros(text) == micros


@pytest.mark.parametrize(
    ("dtype", "good", "bad"),
    [
        ("float64", [1, 1.5, -0.0], [True, "1", None, [1]]),
        ("float32", [1, 1.5], [False, "1"]),
        ("int64", [0, 2**63 - 1, -(2**63)], [1.0, True, "1", 2**63, -(2**63) - 1]),
        ("bool", [True, False], [0, 1, "true"]),
        ("string", ["", "a"], [1, None, b"a"]),
        ("timestamp", ["2026-11-19T08:00:00Z"], ["", "now", 5, "2026-13-01"]),
    ],
)
def test_a_cell_is_never_converted_to_fit(dtype, good, bad):
    assert all(default_fits(dtype, value) for value in good)
    assert not any(default_fits(dtype, value) for value in bad)


@pytest.mark.parametrize(
    ("dtype", "text", "cell"),
    [
        ("string", " 7 ", " 7 "),
        ("int64", "007", 7),
        ("int64", "-9223372036854775808", -(2**63)),
        ("float64", "-1.5e3", -1500.0),
        ("float32", "12", 12.0),
        ("bool", "1", True),
        ("bool", "false", False),
        ("timestamp", "2026-11-19T08:00:00Z", "2026-11-19T08:00:00Z"),
    ],
)
def test_a_keys_text_stands_for_one_cell(dtype, text, cell):
    found = cell_of_text(dtype, text)
    assert (found, type(found)) == (cell, type(cell))


@pytest.mark.parametrize(
    ("dtype", "texts"),
    [
        ("int64", ["", " 1", "1_0", "+1", "1.0", "1e3", "0x1", "\u0661", "9223372036854775808", "1\n"]),
        ("float64", ["", "nan", "inf", "-Infinity", "1e999", "1_0", ".5", "1.", " 1", "\u0661", "1\n"]),
        ("bool", ["", "True", "yes", "2"]),
        ("timestamp", ["", "yesterday", "2026-13-01"]),
    ],
)
def test_a_keys_text_in_any_other_spelling_stands_for_none(dtype, texts):
    for text in texts:
        with pytest.raises(ValueError):
            cell_of_text(dtype, text)
