"""One house under small limits for all bad input, and what must be true of every refusal."""

import pytest

from tests.support.constant import constant
from tests.support.house import running_house
from tests.support.refusals import KEY, LIMITS, SIGNATURE, G
from tests.support.state import state_of
from tests.support.tables import made_live
from tests.support.waiting import until


@pytest.fixture(scope="package")
def house(tmp_path_factory):
    """A house with one live model, under small limits."""
    with running_house(tmp_path_factory.mktemp("bad"), **LIMITS) as house:
        made_live(house, house.create("g", signature=SIGNATURE), [{**KEY, "model": constant(1)}])
        yield house


@pytest.fixture
def refused(house):
    """Checks how a request was refused; at the end, that the home is as it was and still answers."""
    before = state_of(house.home)

    def check(answer, bad):
        assert answer.status_code == bad.status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        body = answer.json()
        assert (body["code"], body.get("field"), body.get("row")) == (bad.code, bad.field, bad.row), body
        assert body["status"] == bad.status
        assert body["request_id"] == answer.headers["x-request-id"]
        assert body["detail"]

    yield check
    until(lambda: not list(house.assembly.context.store.staged_names()))
    assert state_of(house.home) == before
    assert house.predict(G, KEY).json()["predictions"] == [1.0]
