"""A house whose members find each other in Consul: what becomes of requests and releases when Consul is lost."""

import pytest

from manymodels import Client
from manymodels.errors import ApiError
from tests.support.constant import constant
from tests.support.consul import agent
from tests.support.ledger import callers_of_each, failed, traffic
from tests.support.served import served
from tests.support.stores import GROUP, asking, import_stores, key, value
from tests.support.waiting import until

STORES = range(1, 9)
RATE = 40
predict = asking(STORES)


@pytest.fixture(scope="module")
def consul(tmp_path_factory):
    with agent(tmp_path_factory.mktemp("consul")) as running:
        yield running


@pytest.fixture(scope="module")
def house(consul, tmp_path_factory):
    root = tmp_path_factory.mktemp("house")
    settings = {"membership": f"{consul.address}/tests", "promote_seconds": 20}
    with served(root / "home", processes=2, settings=settings) as running, Client(running.url) as client:
        import_stores(client, root, STORES)
        yield running


@pytest.fixture
def client(house):
    with Client(house.url) as opened:
        until(lambda: len(opened.status().members) == 3, 30, "three members")  # two servers and the builder
        yield opened


def test_members_of_a_house_are_services_of_consul(client, consul):
    members = {member.id: member for member in client.status().members}
    services = consul.client.agent.services().values()
    assert {service["ID"].removeprefix("tests:") for service in services} == members.keys()
    assert sorted(tuple(service["Tags"]) for service in services) == [("builder",), *[("gateway", "worker")] * 2]
    assert {member.state for member in members.values()} == {"alive"}


@pytest.mark.parametrize("fault", ["kill", "freeze"])
def test_a_lost_consul_costs_no_request_and_a_release_goes_live_when_it_is_back(client, house, consul, fault):
    store = {"kill": 109, "freeze": 119}[fault]
    with callers_of_each(house.port, 2, times=2) as connections:
        for caller in connections:
            until(lambda asked=caller: asked.call("POST", *predict(0)).status == 200, 60, "a first answer")
        with traffic(connections, RATE, predict) as flowing:
            getattr(consul, fault)()
            try:
                until(lambda: len(flowing.outcomes) > 2 * RATE, 60, "traffic without Consul")
                client.register(GROUP, key(store), constant(5000))
                with pytest.raises(ApiError) as refused:
                    client.promote(GROUP)
                assert (refused.value.status, refused.value.code) == (503, "discovery_away")
                seen = len(flowing.outcomes)
                until(lambda: len(flowing.outcomes) > seen + 2 * RATE, 60, "more of it")
            finally:
                if fault == "kill":
                    consul.start()
                else:
                    consul.thaw()
            until(lambda: value(client, store) == 5000, 60, "the release that was built meanwhile")
            until(lambda: len(client.status().members) == 3, 60, "all members again")
        assert failed(flowing.outcomes) == []


def test_a_server_that_stops_leaves(house, client, consul):
    assert house.stop() == 0
    assert consul.client.agent.services() == {}
    assert consul.client.kv.get("tests/members/", keys=True)[1] is None
