"""Models found again: by keys with awkward values on every route, by field, by tag, page by page."""

import pytest

from tests.support import models
from tests.support.house import running_house
from tests.support.refusals import problem

AWKWARD = ["a/b", "b=c", "x;y", "%2F", "..", "a b", "\N{TANGERINE}", "a+b", "50%", "a&b", "#", "?", '"', "\\", "ü"]


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    with running_house(tmp_path_factory.mktemp("keys")) as house:
        yield house


@pytest.fixture(scope="module")
def awkward(house):
    """A group that serves one model under each awkward value."""
    group = house.create("awkward", auto_release=False)
    for value in AWKWARD:
        answer = house.register(group, models.lightgbm_regressor(7), {"store": value, "brand": "a"})
        assert answer.status_code == 201, answer.text
    assert house.promote(group, house.release(group)).status_code == 200
    return group


@pytest.mark.parametrize("value", AWKWARD)
def test_an_awkward_key_value_round_trips_through_every_route(house, awkward, value):
    key = {"store": value, "brand": "a"}
    listed = house.client.get(f"{awkward}/models", params={"store": value}).json()["models"]
    assert [item["fields"] for item in listed] == [key]
    text = listed[0]["key"]
    history = house.client.get(f"{awkward}/models/history", params=key).json()
    assert (history["key"], len(history["versions"])) == (text, 1)
    assert house.client.get("/v1/discovery/lookup", params={"group": "awkward", **key}).json()["model_key"] == text
    assert house.predict(awkward, key).json()["model"]["key"] == text
    hold = {"action": "disable", "reason": "x"}
    assert house.client.put(f"{awkward}/holds", params=key, json=hold).json()["key"] == text
    assert [hold["key"] for hold in house.client.get(f"{awkward}/holds").json()["holds"]] == [text]
    assert house.client.delete(f"{awkward}/holds", params=key).status_code == 204
    assert house.client.delete(f"{awkward}/models", params=key).json() == {"key": text, "version": 2, "tombstone": True}


def test_listing_filters_by_field_and_tag_and_pages(house):
    group = house.create("listing", auto_release=False)
    for store in "123":
        for brand in "ab":
            meta = f'{{"tags":{{"region":"r{store}"}}}}'
            model = models.lightgbm_regressor(int(store))
            assert house.register(group, model, {"store": store, "brand": brand}, x_model_meta=meta).status_code == 201
    url = f"{group}/models"

    def keys(**params):
        return [item["key"] for item in house.client.get(url, params=params).json()["models"]]

    assert keys(store="2") == ["store=2/brand=a", "store=2/brand=b"]
    assert keys(**{"tag.region": "r3", "brand": "b"}) == ["store=3/brand=b"]
    seen, cursor = [], None
    while True:
        params = {"limit": 4} | ({"cursor": cursor} if cursor else {})
        page = house.client.get(url, params=params).json()
        seen += [item["key"] for item in page["models"]]
        cursor = page["cursor"]
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) == 6
    problem(house.client.get(url, params={"cursor": "nonsense"}), 400, "cursor_invalid")
    problem(house.client.get(url, params={"limit": "0"}), 400, "parameter_invalid")
    problem(house.client.get(url, params={"region": "nw"}), 400, "key_field_unknown")
    problem(house.client.get(url, params={"store": ""}), 400, "key_type")
