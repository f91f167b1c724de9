"""Imports over the control plane: an upload, its progress, what it rejected."""

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support import models
from tests.support.house import running_house
from tests.support.refusals import problem
from tests.support.waiting import until


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    with running_house(tmp_path_factory.mktemp("imports")) as house:
        yield house


def parquet(rows):
    sink = io.BytesIO()
    columns = {name: [row.get(name) for row in rows] for name in ("store", "brand", "model", "runtime")}
    types = {"store": pa.string(), "brand": pa.string(), "model": pa.binary(), "runtime": pa.string()}
    table = pa.table({name: pa.array(values, types[name]) for name, values in columns.items()})
    pq.write_table(table, sink)
    return sink.getvalue()


def imported(house, group, rows, **params):
    answer = house.client.post(f"{group}/models/bulk", params=params, content=parquet(rows))
    assert answer.status_code == 202, answer.text
    location = answer.headers["location"]
    assert answer.json()["state"] in ("queued", "proving", "publishing", "done")
    until(lambda: house.client.get(location).json()["state"] in ("done", "failed"))
    return location


def rows(good, bad=0):
    data = models.lightgbm_regressor(8).data
    return [{"store": str(i), "brand": "a", "model": data, "runtime": "lightgbm"} for i in range(good)] + [
        {"store": f"bad{i}", "brand": "a", "model": b"junk", "runtime": "lightgbm"} for i in range(bad)
    ]


def test_an_import_goes_live_when_nothing_was(house):
    group = house.create("imported")
    location = imported(house, group, rows(5))
    shown = house.client.get(location).json()
    assert (shown["state"], shown["rows"], shown["registered"], shown["rejected"]) == ("done", 5, 5, 0)
    house.until_live(group)
    assert house.predict(group, {"store": "4", "brand": "a"}).status_code == 200
    assert [item["import"] for item in house.client.get(f"{group}/imports").json()["imports"]] == [1]


def test_an_import_that_skips_lists_what_it_rejected(house):
    group = house.create("skipping")
    location = imported(house, group, rows(3, bad=3), on_error="skip")
    assert house.client.get(location).json()["registered"] == 3
    first = house.client.get(f"{location}/rejects", params={"limit": 2}).json()
    rest = house.client.get(f"{location}/rejects", params={"limit": 2, "cursor": first["cursor"]}).json()
    assert [item["row"] for item in first["rejects"] + rest["rejects"]] == [3, 4, 5]
    assert {item["code"] for item in first["rejects"]} == {"artifact_invalid"}
    assert first["rejects"][0]["key"] == "store=bad0/brand=a"
    assert rest["cursor"] is None


def test_an_import_that_fails_publishes_nothing(house):
    group = house.create("failing")
    location = imported(house, group, rows(3, bad=1))
    assert house.client.get(location).json()["state"] == "failed"
    assert house.client.get(f"{group}/models").json()["models"] == []


def test_an_upload_that_is_no_parquet_fails_its_import(house):
    group = house.create("nonsense")
    answer = house.client.post(f"{group}/models/bulk", content=b"nonsense")
    assert answer.status_code == 202
    until(lambda: house.client.get(answer.headers["location"]).json()["state"] == "failed")
    assert house.client.get(answer.headers["location"]).json()["error"]["code"] == "parquet_invalid"
    problem(house.client.post(f"{group}/models/bulk?on_error=maybe", content=b"x"), 400, "parameter_invalid")
    problem(house.client.get(f"{group}/imports/99"), 404, "import_not_found")
    problem(house.client.get(f"{group}/imports/x/rejects"), 404, "import_not_found")
