"""A worker that the network cuts off, in both directions or in one: no request is lost, and it comes back by itself.

The worker runs in a network of its own, which loses what it is given without a word. What the cluster stands on is on
the other side of the cut, so the worker loses Consul, PostgreSQL and its bucket with it.
"""

import time
from contextlib import contextmanager

import pytest

from deploy.local.house import House, Kind
from manymodels import Client
from tests.support.clusters import SETTINGS, all_ask, callers_of_gateways, serving
from tests.support.installed import needed
from tests.support.ledger import Caller, traffic
from tests.support.networks import network
from tests.support.onlooker import looking_on
from tests.support.relays import Relay
from tests.support.stores import asking, flowing_on, wrong
from tests.support.waiting import until

pytestmark = pytest.mark.alone

STORES = range(1, 33)
RATE = 60
predict = asking(STORES)
SERVICES = (Kind("discovery"), Kind("worker", 2), Kind("builder", listens=False), Kind("gateway", 2))
SNAPSHOT = "/v1/discovery/snapshot"


@pytest.fixture(scope="module")
def far():
    with network() as made:
        yield made


@pytest.fixture(scope="module")
def house(far, tmp_path_factory):
    """A cluster whose third worker lives elsewhere."""
    made = needed(lambda: House(tmp_path_factory.mktemp("cluster"), services=SERVICES, settings=SETTINGS))
    here = {"consul": made.consul.port, "postgres": made.postgres.port, "bucket": made.bucket.port}
    with Relay(far.host, here) as relay:
        there = {
            "MANYMODELS_MEMBERSHIP": f"consul://{far.host}:{relay.ports['consul']}/house",
            "MANYMODELS_REGISTRY": f"postgresql://manymodels@{far.host}:{relay.ports['postgres']}/postgres",
            "AWS_ENDPOINT_URL": f"http://{far.host}:{relay.ports['bucket']}",
        }
        made.add(Kind("worker", settings=there, host=far.address, within=far.within))
        with serving(made, STORES, replicas=3):
            yield made


@contextmanager
def watched(house):
    """Tells every state in which a gateway shows each worker, in the order of their coming."""
    caller = Caller(house["gateway-1"].port)
    try:
        with looking_on([caller], [SNAPSHOT]) as onlooker:
            until(lambda: onlooker.looks, 10, "a look")
            yield lambda: {name: seen for name, seen in onlooker.states(SNAPSHOT).items() if name.startswith("worker")}
    finally:
        caller.close()
    assert onlooker.refused == []


def id_of(house, name):
    """What a service calls itself as a member."""
    with Client(house["gateway-1"].address) as client:
        [found] = [member.id for member in client.status().members if member.uri == house[name].address]
    return found


@pytest.mark.parametrize(("there", "back"), [(True, True), (True, False), (False, True)])
def test_a_worker_that_is_cut_off_costs_no_request_and_comes_back_without_flapping(house, far, there, back):
    all_ask(house, 3)
    lost = id_of(house, "worker-3")
    with callers_of_gateways(house) as callers, watched(house) as states, traffic(callers, RATE, predict) as flowing:
        flowing_on(flowing, RATE)
        far.cut(there=there, back=back)
        cut = time.monotonic()
        try:
            until(lambda: states()[lost][-1] in ("dead", "gone"), 30, "its death")
            flowing_on(flowing, RATE)
        finally:
            far.heal()
        until(lambda: states()[lost][-1] == "alive", 30, "its return")
        flowing_on(flowing, 2 * RATE)
        seen = states()
    assert wrong(flowing.outcomes) == []
    late = [outcome for outcome in flowing.outcomes if outcome.seconds > 0.2]
    settled = max((outcome.at + outcome.seconds - cut for outcome in late), default=0.0)
    print(f"{len(late)} slow answers, settled after {settled:.2f} s; seen: {seen}")
    assert [states for name, states in seen.items() if name != lost] == [["alive"]] * 2
    assert seen[lost].count("alive") == 2  # before, and again
