"""Any text is a legal key value, means exactly itself, and comes back as it went through every route and client.

Each key has a model of its own that answers a number of its own, so that two values folded into one would be seen.
"""

import json

import pandas as pd
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from manymodels import Client
from manymodels.cli.main import app
from manymodels.cli.session import HouseTransport
from tests.support.constant import SIGNATURE, constant
from tests.support.house import running_house
from tests.support.models import TinyModel
from tests.support.tables import STREAM, arrow_stream, made_live, read_stream

VALUES = [
    "a/b",
    "a%2Fb",
    "a%252Fb",
    "%2F",
    "%252F",
    "/",
    "a=b",
    "store=a/brand=b",
    "a;b",
    "a&b",
    "a#b",
    "a?b",
    "..",
    ".",
    "../..",
    "a b",
    "a+b",
    "a%20b",
    " ",
    " a",
    '"a"',
    "'a'",
    "\\",
    "%",
    "%zz",
    "\n",
    "a\r\nb: c",
    "\x00",
    "\x1b[31m",
    "\N{TANGERINE}",
    "\N{MAN}\N{ZERO WIDTH JOINER}\N{GIRL}",
    "\N{LATIN SMALL LETTER E WITH ACUTE}",
    "e\N{COMBINING ACUTE ACCENT}",
    "\N{RIGHT-TO-LEFT OVERRIDE}a",
    "1",
    "01",
    "1.0",
    "-1",
    "true",
    "null",
    "NaN",
    "A",
    "a",
    "*",
    "x" * 512,
    "\N{TANGERINE}" * 128,
]
NUMBERS = {value: number for number, value in enumerate(VALUES, 1)}
BRAND = "b/=%2F \N{TANGERINE}"  # of every key, so that the second field is no plain one either
GROUP = "/v1/groups/values"
FALLBACK = 1000


def key_of(value):
    return {"store": value, "brand": BRAND}


def bulk_rows(values=VALUES):
    return [{**key_of(value), "price": 1.0} for value in values]


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """A house with a model for each value, imported from Parquet, and one for their brand."""
    with running_house(tmp_path_factory.mktemp("values")) as house:
        rows = [{**key_of(value), "model": constant(number)} for value, number in NUMBERS.items()]
        group = house.create("values", signature=SIGNATURE)
        made_live(house, group, [*rows, {"brand": BRAND, "model": constant(FALLBACK)}])
        yield house


@pytest.fixture
def client(house):
    with Client(HouseTransport(house)) as client:
        yield client


def answered(house, body, *, headers=None):
    """Predictions and levels of a bulk."""
    if isinstance(body, dict):
        told = house.client.post(f"{GROUP}/predict/bulk", json=body).json()
    else:
        answer = house.client.post(f"{GROUP}/predict/bulk", content=arrow_stream(body), headers=STREAM)
        told = {"errors": [], **read_stream(answer.content).to_pydict()}
        told["predictions"] = told["sales"]
    assert told["errors"] == []
    return told["predictions"], told["fallback_level"]


def test_every_bulk_form_finds_each_value_and_no_other(house):
    rows = bulk_rows()
    table = pa.Table.from_pylist(rows)
    expected = list(NUMBERS.values()), [0] * len(VALUES)
    assert answered(house, {"rows": rows}) == expected
    columns = list(rows[0])
    assert answered(house, {"columns": columns, "data": [list(row.values()) for row in rows]}) == expected
    assert answered(house, table) == expected
    assert answered(house, table.set_column(0, "store", table["store"].dictionary_encode())) == expected
    assert answered(house, table.set_column(0, "store", table["store"].cast(pa.large_string()))) == expected


def test_single_predict_lookup_listing_and_history_find_each_value_and_no_other(house):
    texts = set()
    for value, number in NUMBERS.items():
        key = key_of(value)
        answer = house.predict(GROUP, key, max_fallback_level=0).json()
        assert answer["predictions"] == [number], value
        text = answer["model"]["key"]
        texts.add(text)
        found = house.client.get("/v1/discovery/lookup", params={"group": "values", **key}).json()
        assert (found["key"], found["model_key"], found["fallback_level"]) == (text, text, 0)
        for chosen in (key, {"store": value}):
            listed = house.client.get(f"{GROUP}/models", params=chosen).json()
            assert [(item["key"], item["fields"]) for item in listed["models"]] == [(text, key)]
        told = house.client.get(f"{GROUP}/models/history", params=key).json()
        assert (told["key"], [item["fields"] for item in told["versions"]]) == (text, [key])
        assert told["versions"][0]["live"][0]["release"] == 1
    assert len(texts) == len(VALUES)


def test_a_listing_in_pages_holds_every_value_once(house):
    seen, cursor = [], None
    while True:
        params = {"limit": 7, "brand": BRAND} | ({"cursor": cursor} if cursor else {})
        page = house.client.get(f"{GROUP}/models", params=params).json()
        seen += [item["fields"].get("store") for item in page["models"]]
        if (cursor := page["cursor"]) is None:
            break
    assert sorted(seen, key=str) == sorted([*VALUES, None], key=str)


def test_a_hold_disables_each_value_and_no_other(house):
    url = f"{GROUP}/holds"
    for value in VALUES[::2]:
        answer = house.client.put(url, params=key_of(value), json={"action": "disable", "reason": value})
        assert answer.status_code == 200, answer.text
    held = {hold["reason"]: hold["key"] for hold in house.client.get(url).json()["holds"]}
    assert held == {value: text_of(house, value) for value in VALUES[::2]}
    predictions, levels = answered(house, {"rows": bulk_rows()})
    assert predictions[::2] == [FALLBACK] * len(held)
    assert predictions[1::2] == [NUMBERS[value] for value in VALUES[1::2]]
    assert levels == [1, 0] * (len(VALUES) // 2)
    for value in VALUES[::2]:
        assert house.client.delete(url, params=key_of(value)).status_code == 204
    assert answered(house, {"rows": bulk_rows()})[0] == list(NUMBERS.values())


def text_of(house, value):
    return house.client.get(f"{GROUP}/models", params={"store": value}).json()["models"][0]["key"]


def test_registration_a_release_of_named_versions_and_deletion_take_each_value_as_it_is(house):
    group = house.create("again", signature=SIGNATURE, auto_release=False)
    values = VALUES[:40:3]
    for value in values:
        answer = house.register(group, TinyModel("lightgbm", None, constant(NUMBERS[value])), key_of(value))
        assert (answer.status_code, answer.json()["version"]) == (201, 1), answer.text
    named = [{"key": key_of(value), "version": 1} for value in values[1:]]
    assert house.promote(group, house.release(group, set=named)).status_code == 200
    answers = [house.predict(group, key_of(value)) for value in values]
    assert [answer.status_code for answer in answers] == [404] + [200] * len(named)
    assert [answer.json()["predictions"] for answer in answers[1:]] == [[NUMBERS[value]] for value in values[1:]]
    gone = values[1::2]
    for value in gone:
        told = house.client.delete(f"{group}/models", params=key_of(value)).json()
        assert (told["key"], told["version"], told["tombstone"]) == (text_of(house, value), 2, True)
    assert house.promote(group, house.release(group)).status_code == 200
    left = {value for value in values if house.predict(group, key_of(value)).status_code == 200}
    assert left == set(values) - set(gone)  # the one that was not named is newer than the base, and comes now


def test_the_client_takes_each_value_as_it_is(client):
    for value, number in NUMBERS.items():
        key = key_of(value)
        assert client.predict("values", key, [{"price": 1.0}]).predictions == [number]
        assert client.lookup("values", key).fallback_level == 0
        assert [found.fields for found in client.models("values", key)] == [key]
        assert client.history("values", key)[0].fields == key
    frame = pd.DataFrame(bulk_rows())
    for data in (frame, frame.astype({"store": "category"}), pa.Table.from_pandas(frame), bulk_rows()):
        assert client.predict_bulk("values", data).predictions == list(NUMBERS.values())
    held = [client.hold("values", key_of(value), "freeze", reason="test").key for value in VALUES]
    assert sorted(hold.key for hold in client.holds("values")) == sorted(held)
    for value in VALUES:
        client.unhold("values", key_of(value))
    assert client.holds("values") == []


# The command line over the same home: one key of eight fields holds eight values at once. A command line holds no
# zero byte.
FIELDS = list("abcdefgh")
SAYABLE = [value for value in VALUES if "\x00" not in value and len(value) < 100]
KEYS = [dict(zip(FIELDS, SAYABLE[start : start + 8], strict=True)) for start in range(0, len(SAYABLE) - 7, 8)]


def words(key):
    return [f"{field}={value}" for field, value in key.items()]


@pytest.fixture(scope="module")
def run(house):
    """A command line over the house's home; answers what it prints as JSON."""

    def run(*arguments):
        result = CliRunner().invoke(app, ["--home", str(house.home.root), "--json", *arguments])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout) if result.stdout.strip() else None

    return run


def test_the_command_line_takes_each_value_as_it_is(house, run, tmp_path):
    house.create("typed", key=FIELDS, fallback=[], signature=SIGNATURE, auto_release=False)
    artifact = tmp_path / "model.txt"
    names = []
    for number, key in enumerate(KEYS, 1):
        artifact.write_bytes(constant(number))
        names.append(run("register", "typed", str(artifact), *words(key))["key"])
    sets = [word for name in names for word in ("--set", f"{name}@1")]
    assert run("release", "typed", *sets, "--promote")["models"] == len(KEYS)
    listed = [run("models", "typed", *words(key)) for key in KEYS[:2]]
    assert [[item["fields"] for item in found] for found in listed] == [[key] for key in KEYS[:2]]
    for number, key in enumerate(KEYS[:2], 1):
        assert run("predict", "typed", *words(key), "--row", '{"price": 1}')["predictions"] == [number]
    rows = tmp_path / "rows.json"
    rows.write_text(json.dumps([{**key, "price": 1.0} for key in KEYS]))
    assert run("predict", "typed", "--bulk", str(rows))["predictions"] == list(range(1, len(KEYS) + 1))
    key = KEYS[0]
    assert run("lookup", "typed", *words(key))["model_key"] == names[0]
    assert [version["fields"] for version in run("history", "typed", *words(key))] == [key]
    assert run("hold", "typed", "disable", *words(key), "--reason", "r")["key"] == names[0]
    assert [hold["key"] for hold in run("holds", "typed")] == [names[0]]
    run("unhold", "typed", *words(key))
    assert run("delete", "typed", *words(key)) == {"version": 2, "tombstone": True}
