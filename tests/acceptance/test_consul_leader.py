"""A house whose members meet at the agent of a Consul of three servers: what servers are lost costs no request, and no
member that lives is shown as anything else.
"""

from contextlib import ExitStack, contextmanager

import pytest

from manymodels import Client
from manymodels.errors import ApiError
from tests.support.constant import constant
from tests.support.consul import cluster
from tests.support.ledger import callers_of_each, traffic
from tests.support.onlooker import looking_on
from tests.support.served import served
from tests.support.stores import GROUP, asking, flowing_on, import_stores, key, value, wrong
from tests.support.waiting import until

pytestmark = pytest.mark.alone

STORES = range(1, 10)
CACHED = 9  # what the members say of themselves counts the hits of a cache, so it changes with every request
RATE = 40
LEASE_SECONDS = 5
MEMBERS = 3  # two servers and the builder
SNAPSHOT = "/v1/discovery/snapshot"
LOOKUP = f"/v1/discovery/lookup?group={GROUP}&store=1&brand=a"
predict = asking(STORES)


@pytest.fixture(scope="module")
def consul(tmp_path_factory):
    with cluster(tmp_path_factory.mktemp("consul")) as running:
        yield running


@pytest.fixture(scope="module")
def house(consul, tmp_path_factory):
    root = tmp_path_factory.mktemp("house")
    settings = {
        "membership": f"{consul.agent.address}/tests",
        "lease_seconds": LEASE_SECONDS,
        "promote_seconds": 20,
    }
    with served(root / "home", processes=2, settings=settings) as running, Client(running.url) as client:
        import_stores(client, root, STORES, cached=[CACHED])
        until(lambda: value(client, CACHED) == 1000 + CACHED, 60, "the fleet")
        yield running


@pytest.fixture
def client(house, consul):
    """A client of a house that is well, as is its Consul."""
    consul.mend()
    until(consul.is_whole, 60, "a whole Consul")
    with Client(house.url) as opened:
        until(lambda: [member.state for member in opened.status().members] == ["alive"] * MEMBERS, 60, "members")
        yield opened


@contextmanager
def nothing_seen(house):
    """Traffic to every process, and an onlooker at each; what both saw is judged at the end."""
    with ExitStack() as left:
        [*callers, one, another] = left.enter_context(callers_of_each(house.port, 2, times=3))
        for caller in callers:
            until(lambda caller=caller: caller.call("POST", *predict(0)).status == 200, 60, "a first answer")
        onlooker = left.enter_context(looking_on([one, another], [SNAPSHOT, LOOKUP]))
        until(lambda: onlooker.looks, 10, "a look")
        before = {path: list(seen) for path, seen in onlooker.seen.items()}
        flowing = left.enter_context(traffic(callers, RATE, predict))
        yield flowing
        flowing_on(flowing, RATE)
    assert wrong(flowing.outcomes) == []
    assert (onlooker.seen, onlooker.refused) == (before, [])
    assert [len(seen) for seen in before.values()] == [1, 1]


@pytest.mark.parametrize("fault", ["kill", "freeze"])
def test_a_leader_that_is_lost_costs_no_request_and_no_member_and_a_release_goes_live_without_it(
    house, client, consul, fault
):
    store = {"kill": 109, "freeze": 119}[fault]
    with nothing_seen(house) as flowing:
        leader = consul.leader()
        getattr(leader, fault)()
        client.register(GROUP, key(store), constant(5000))
        until(lambda: value(client, store) == 5000, 60, "a release under another leader")
        flowing_on(flowing, LEASE_SECONDS * RATE)
        if fault == "kill":
            leader.start()
        else:
            leader.thaw()
        until(consul.is_whole, 60, "a whole Consul")


def test_without_a_quorum_requests_go_on_and_a_release_goes_live_when_one_server_is_back(house, client, consul):
    with nothing_seen(house) as flowing:
        lost = consul.servers[:2]
        for server in lost:
            server.kill()
        client.register(GROUP, key(129), constant(5000))
        flowing_on(flowing, 3 * LEASE_SECONDS * RATE)
        with pytest.raises(ApiError) as refused:
            client.promote(GROUP)
        assert (refused.value.status, refused.value.code) == (503, "discovery_away")
        assert refused.value.retry_after
        assert value(client, 129) is None
        lost[0].start()
        until(lambda: value(client, 129) == 5000, 60, "the release that was built meanwhile")
        lost[1].start()
        until(consul.is_whole, 60, "a whole Consul")


def test_an_agent_that_comes_back_without_its_data_is_told_of_its_members_anew(house, client, consul):
    services = consul.agent.client.agent.services().keys()
    assert len(services) == MEMBERS
    with nothing_seen(house) as flowing:
        consul.agent.kill()
        consul.agent.forget()
        flowing_on(flowing, RATE)
        consul.agent.start()
        until(lambda: consul.agent.client.agent.services().keys() == services, 60, "its members")
        flowing_on(flowing, LEASE_SECONDS * RATE)
