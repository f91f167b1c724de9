"""Two machines, a `serve` each, over one PostgreSQL and one bucket: one house, whichever of them is asked.

Here members are leases in PostgreSQL; `test_cluster` has them in Consul.
"""

import os
import signal
from contextlib import ExitStack

import pytest

from manymodels import Client
from manymodels.errors import ApiError
from tests.support.bucket import bucket_server
from tests.support.constant import ROW, constant
from tests.support.front import callers_of_front
from tests.support.ledger import Caller, failed, traffic
from tests.support.postgres import postgres
from tests.support.served import served, start
from tests.support.stores import GROUP, PREDICT, asking, import_stores, key, value
from tests.support.waiting import seconds_until, until

STORES = range(1, 9)
RATE = 40
predict = asking(STORES)
PROMISED = 20.0  # a second is promised; a busy machine is given more


class House:
    """The servers of a house, and what two machines need to know of them."""

    def __init__(self, root):
        self.root = root
        self.running = {}
        with ExitStack() as started:
            self.database = started.enter_context(postgres())
            self.bucket = started.enter_context(bucket_server(root))
            self._all = started.pop_all()
        self.settings = {
            "registry": self.database.create(),
            "artifacts": "s3://models/tests",
            "promote_seconds": 20,
            "spread_seconds": 2,
        }

    def start(self, name, port=0):
        self.running[name] = self._all.enter_context(served(self.root / name, settings=self.settings, port=port))

    def start_again(self, name):
        self.start(name, self.running[name].port)

    def close(self):
        self._all.close()


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    made = House(tmp_path_factory.mktemp("house"))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in made.bucket.credentials.items():
            patch.setenv(name, value)
        try:
            yield made
        finally:
            made.close()


@pytest.fixture(scope="module")
def machines(house):
    """Two, which serve a fleet; by name."""
    for name in "ab":
        house.start(name)
    with Client(house.running["a"].url) as client:
        import_stores(client, house.root, STORES)
    for machine in house.running.values():
        with Client(machine.url) as client:
            until(lambda client=client: value(client, 1) == 1001, 60, "the fleet")
            until(lambda client=client: len(client.status().members) == 4, 60, "two servers and two builders")
    return house.running


@pytest.fixture
def clients(machines):
    with Client(machines["a"].url) as first, Client(machines["b"].url) as second:
        yield first, second


@pytest.fixture
def callers(machines):
    found = [Caller(machine.port) for machine in machines.values() for _ in range(2)]
    yield found
    for caller in found:
        caller.close()


def kill(machine):
    """All its processes at once, as if it had lost its power."""
    for process in [machine.process.pid, *machine.children()]:
        os.kill(process, signal.SIGKILL)
    with machine.process.stdout:
        machine.process.wait(60)


def test_what_one_machine_is_told_both_know(clients):
    for number, (told, other) in enumerate([clients, clients[::-1]]):
        told.register(GROUP, key(20 + number), constant(5000 + number))
        for client in (told, other):
            taken = seconds_until(lambda c=client, n=number: value(c, 20 + n) == 5000 + n, PROMISED, "a registration")
            print(f"known after {taken:.2f} s")


def test_each_answer_of_either_machine_is_from_the_release_it_names_while_releases_change(clients, callers):
    first, second = clients
    meant = {}
    for answer in (7000, 7001):
        first.register(GROUP, key(1), constant(answer))
        until(lambda answer=answer: value(first, 1) == answer, 60, "a release")
        meant[first.group(GROUP).live.release] = float(answer)
    with traffic(callers, RATE, lambda _: (PREDICT, {"key": key(1), "instances": [ROW]})) as flowing:
        for number in (0, 1, 0, 1, 0):
            (first, second)[number].promote(GROUP, list(meant)[number])
            seen = len(flowing.outcomes)
            until(lambda seen=seen: len(flowing.outcomes) > seen + 20, 60, "traffic")
    assert failed(flowing.outcomes) == []
    for outcome in flowing.outcomes:
        assert outcome.answer["predictions"][0] == meant[outcome.answer["model"]["release"]]
    first.promote(GROUP, max(meant))


@pytest.mark.parametrize("lost", ["database", "bucket"])
def test_a_lost_server_costs_no_request_and_all_comes_back_by_itself(house, clients, callers, lost):
    server = getattr(house, lost)
    code = {"database": "database_busy", "bucket": "store_away"}[lost]
    with traffic(callers, RATE, predict) as flowing:
        seen = len(flowing.outcomes)
        server.kill()
        with pytest.raises(ApiError) as refused:
            clients[0].register(GROUP, key(30), constant(6000))
        assert (refused.value.status, refused.value.code) == (503, code)
        until(lambda: len(flowing.outcomes) > seen + 4 * RATE, 60, "traffic without it")
        server.start()
        until(lambda: registered(clients[1], 40, 6001), 60, "a registration")
        for client in clients:
            until(lambda client=client: value(client, 40) == 6001, 60, "its release")
    assert failed(flowing.outcomes) == []


def test_a_machine_that_starts_while_the_registry_is_away_serves_what_it_knew(house, machines, clients):
    server = house.database
    seconds_until(lambda: value(clients[1], 1) is not None, PROMISED, "an answer")
    expected = [value(clients[1], store) for store in STORES]
    server.kill()
    assert machines["b"].stop() == 0
    house.start_again("b")
    with Client(machines["b"].url) as client:
        assert [value(client, store) for store in STORES] == expected
        server.start()
        until(lambda: registered(client, 60, 9000), 60, "a registration")
        for one in (client, clients[0]):
            until(lambda one=one: value(one, 60) == 9000, 60, "its release")


def registered(client, store, answer):
    try:
        return client.register(GROUP, key(store), constant(answer))
    except ApiError:
        return None


def alive(client):
    """How many members live; who was lost without a word is shown as dead for a while."""
    return sum(member.state == "alive" for member in client.status().members)


def test_a_machine_that_is_lost_holds_up_the_other_no_longer_than_its_lease(house, machines, clients):
    lost = start(house.root / "c", settings=house.settings)
    until(lambda: alive(clients[0]) == 6, 60, "a third machine")
    kill(lost)
    clients[0].register(GROUP, key(50), constant(8000))
    for client in clients:
        until(lambda client=client: value(client, 50) == 8000, 60, "a registration")
    assert all(machine.process.poll() is None for machine in machines.values())


@pytest.fixture
def front(house, machines):
    """Connections to a real Envoy before both machines, with the configuration of `deploy`."""
    with callers_of_front(house.root, [machine.port for machine in machines.values()], predict) as found:
        yield found


def test_machines_that_are_restarted_one_after_another_lose_no_request(house, machines, front):
    with traffic(front, RATE, predict) as flowing:
        for name in "ab":
            seen = len(flowing.outcomes)
            assert machines[name].stop() == 0
            house.start_again(name)
            until(lambda seen=seen: len(flowing.outcomes) > seen + 2 * RATE, 60, "traffic")
    assert failed(flowing.outcomes) == []


def test_a_machine_that_is_killed_loses_no_request(house, machines, front):
    with traffic(front, RATE, predict) as flowing:
        for _ in range(2):
            seen = len(flowing.outcomes)
            until(lambda seen=seen: len(flowing.outcomes) > seen + RATE, 60, "traffic")
            kill(machines["b"])
            house.start_again("b")
    assert failed(flowing.outcomes) == []
