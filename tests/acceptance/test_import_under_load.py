"""A large import beside steady traffic: nobody waits for it, nobody fails by it, no lease is lost to it."""

import time
from contextlib import closing

import pytest

from discovery.leases import SqlMembership
from manymodels import Client
from registry.home import Home
from tests.support.constant import ROW, SIGNATURE, constant, fleet_file
from tests.support.ledger import callers_of_each, failed, traffic
from tests.support.served import served
from tests.support.waiting import seconds_until

GROUP = "oj"
PREDICT = f"/v1/groups/{GROUP}/predict"
RATE = 100
LIVE = range(50)
IMPORTED = range(50, 2050)


def fleet(stores, start):
    return {f"store={store}/brand=a": constant(start + store) for store in stores}


@pytest.fixture
def house(tmp_path):
    with served(tmp_path / "home", processes=2) as running, Client(running.url) as client:
        client.create_group(GROUP, key=["store", "brand"], signature=SIGNATURE)
        client.import_fleet(GROUP, fleet_file(tmp_path / "live.parquet", fleet(LIVE, 10_000)))
        yield running


def predict(number):
    return PREDICT, {"key": {"store": str(LIVE[number % len(LIVE)]), "brand": "a"}, "instances": [ROW]}


def states_while(running_import, membership):
    """Every (member, state) that was seen from the start of an import to its end."""
    seen = set()
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        seen.update((member.id, member.state) for member in membership.members())
        record = running_import()
        if record.ended:
            return record, seen
        time.sleep(0.05)
    raise AssertionError("the import has not ended")


def test_an_import_under_load_costs_no_request_and_no_lease(house, tmp_path):
    with (
        Client(house.url) as client,
        closing(SqlMembership(Home(house.home).leases_url)) as membership,
        callers_of_each(house.port, 2, times=4) as connections,
    ):
        before = {member.id for member in membership.members()}
        assert len(before) == 3  # two servers and the builder
        for caller in connections:  # what is live in SQL is live in each process a moment later
            seconds_until(lambda asked=caller: asked.call("POST", *predict(0)).status == 200, 60, "a first answer")
        file = fleet_file(tmp_path / "many.parquet", fleet(IMPORTED, 20_000))
        with traffic(connections, RATE, predict) as flowing:
            began = time.monotonic()
            with file.open("rb") as opened:
                started = client.start_import(GROUP, opened)
            record, seen = states_while(lambda: client.import_record(GROUP, started.number), membership)
            assert (record.state, record.registered, record.rejected) == ("done", len(IMPORTED), 0)
            assert client.release(GROUP).models == len(LIVE) + len(IMPORTED)
            client.promote(GROUP)
            seconds = time.monotonic() - began
        assert seen == {(member, "alive") for member in before}
        outcomes = flowing.outcomes
        assert failed(outcomes) == []
        assert len(outcomes) >= 0.1 * RATE * seconds, f"{len(outcomes)} requests in {seconds:.1f} s"
        for outcome in outcomes:
            store = outcome.answer["model"]["key"].removeprefix("store=").removesuffix("/brand=a")
            assert outcome.answer["predictions"] == [10_000.0 + int(store)]
        bulk = client.predict_bulk(GROUP, [{"store": str(store), "brand": "a", **ROW} for store in IMPORTED])
    assert bulk.predictions == [20_000.0 + store for store in IMPORTED]
