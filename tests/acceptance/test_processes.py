"""Several processes, one house: what one is told all know, and no process that dies takes the house with it."""

import http.client
import itertools
import os
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, closing
from pathlib import Path

import orjson
import pytest

from discovery.leases import SqlMembership
from manymodels import Client
from registry.home import Home
from tests.support.constant import ROW, SIGNATURE, constant, fleet_file
from tests.support.ledger import Caller, callers_of_each, failed, traffic
from tests.support.processes import descendants, living
from tests.support.served import served, start
from tests.support.waiting import seconds_until

GROUP = "oj"
PREDICT = f"/v1/groups/{GROUP}/predict"
STORES = range(1, 9)
PROMISED = 20.0  # a second is promised; a busy machine is given more


def key(store):
    return {"store": str(store), "brand": "a"}


def fleet(start):
    return {f"store={store}/brand=a": constant(start + store) for store in STORES} | {"brand=a": constant(start)}


def create(client, path, group=GROUP, *, auto_release=True):
    """A group whose first release is live: a store's model answers 1000 and the store, the fallback model 1000."""
    client.create_group(
        group, key=["store", "brand"], signature=SIGNATURE, fallback=[["brand"]], auto_release=auto_release
    )
    client.import_fleet(group, fleet_file(path, fleet(1000)))
    if not auto_release:
        client.promote(group, client.release(group).number)
    seconds_until(lambda: client.group(group).live, 60, "the first release")


def answer(caller, store, group=GROUP):
    """What a process answers for a store: the value, or the code of the problem."""
    found = caller.call("POST", f"/v1/groups/{group}/predict", {"key": key(store), "instances": [ROW]})
    return found.answer["predictions"][0] if found.status == 200 else found.answer["code"]


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    root = tmp_path_factory.mktemp("processes")
    with served(root / "home", processes=2) as running, Client(running.url) as client:
        create(client, root / "fleet.parquet")
        with callers_of_each(running.port, 2) as callers:
            live_in_all(callers, 1, 1001, "the first release")
        yield running


@pytest.fixture
def each(house):
    """A connection to each process."""
    with callers_of_each(house.port, 2) as callers:
        yield callers


def through(caller, method, path, body=None, **headers):
    done = caller.call(method, path, body, **headers)
    assert done.status < 300, done
    return done.answer


def live_in_all(callers, store, expected, what):
    taken = seconds_until(lambda: all(answer(caller, store) == expected for caller in callers), PROMISED, what)
    print(f"{what} was live in all processes after {taken:.3f} s")
    return taken


@pytest.mark.parametrize("first", [0, 1])
def test_every_change_through_any_process_is_live_in_all(each, first):
    changing = each[first]
    before = answer(changing, 1)
    value = 1100 + first
    registered = through(
        changing, "POST", f"/v1/groups/{GROUP}/models?store=1&brand=a", constant(value), x_model_runtime="lightgbm"
    )
    live_in_all(each, 1, value, "a registration")

    newest = through(changing, "GET", f"/v1/groups/{GROUP}/releases")["releases"][0]
    deployments = f"/v1/groups/{GROUP}/deployments"
    through(changing, "PUT", deployments, {"blue": {"release": newest["base"], "traffic": 100}})
    live_in_all(each, 1, before, "a rollback")
    through(changing, "PUT", deployments, {"blue": {"release": newest["number"], "traffic": 100}})
    live_in_all(each, 1, value, "a promotion")

    holds = f"/v1/groups/{GROUP}/holds?store=1&brand=a"
    through(changing, "PUT", holds, {"action": "disable", "reason": "test"})
    live_in_all(each, 1, 1000, "a disable hold")
    through(changing, "DELETE", holds)
    live_in_all(each, 1, value, "the end of a hold")

    through(changing, "PUT", holds, {"action": "pin", "version": registered["version"], "reason": "test"})
    for caller in each:
        assert [hold["action"] for hold in through(caller, "GET", f"/v1/groups/{GROUP}/holds")["holds"]] == ["pin"]
    for store in (1, 2):
        path = f"/v1/groups/{GROUP}/models?store={store}&brand=a"
        through(changing, "POST", path, constant(1200 + 10 * first + store), x_model_runtime="lightgbm")
    live_in_all(each, 2, 1200 + 10 * first + 2, "a registration beside a pinned key")
    assert {answer(caller, 1) for caller in each} == {value}
    through(changing, "DELETE", holds)


def test_no_request_fails_and_no_bulk_is_mixed_while_releases_flip(house, each, tmp_path):
    group = "flipping"
    with Client(house.url) as client:
        create(client, tmp_path / "one.parquet", group, auto_release=False)
        client.import_fleet(group, fleet_file(tmp_path / "two.parquet", fleet(2000)))
        client.release(group)
    rows = {"rows": [{**key(store), **ROW} for store in STORES]}

    def request(number):
        if number % 3:
            return f"/v1/groups/{group}/predict", {"key": key(STORES[number % len(STORES)]), "instances": [ROW]}
        return f"/v1/groups/{group}/predict/bulk", rows

    with (
        callers_of_each(house.port, 2, times=3) as connections,
        traffic(connections, 150, request) as flowing,
    ):
        for release, changing in zip(itertools.islice(itertools.cycle((2, 1)), 20), itertools.cycle(each)):
            seen = len(flowing.outcomes)
            flip = {"blue": {"release": release, "traffic": 100}}
            through(changing, "PUT", f"/v1/groups/{group}/deployments", flip)
            live = 1000.0 * release
            seconds_until(lambda live=live: all(answer(one, 1, group) == live + 1 for one in each), PROMISED, "a flip")
            seconds_until(lambda seen=seen: len(flowing.outcomes) > seen + 10, 30, "traffic between two flips")
    outcomes = flowing.outcomes
    assert failed(outcomes) == []
    releases = set()
    for number, outcome in enumerate(outcomes):
        bulk = outcome.path.endswith("bulk")
        release = outcome.answer["releases"]["blue"] if bulk else outcome.answer["model"]["release"]
        releases.add(release)
        values = outcome.answer["predictions"]
        if bulk:
            assert outcome.answer["errors"] == []
            assert values == [1000.0 * release + store for store in STORES], f"request {number} mixes releases"
        else:
            store = int(outcome.answer["model"]["key"].removeprefix("store=").removesuffix("/brand=a"))
            assert values == [1000.0 * release + store]
    assert releases == {1, 2}
    assert {outcome.id.partition("-")[0] for outcome in outcomes} == {caller.process for caller in each}


def test_a_killed_server_is_replaced_and_the_others_go_on(house):
    survivors = set(house.children())
    victim = next(pid for pid, line in house.children().items() if _is_server(pid, line))
    os.kill(victim, signal.SIGKILL)
    survivors.remove(victim)
    seconds_until(lambda: not living({victim}), 10, "the end of the killed server")
    with Client(house.url) as client:
        value = client.predict(GROUP, key(3), [ROW]).predictions
    assert value == [1003.0]
    seconds_until(lambda: len(set(house.children()) - survivors) == 1, 20, "another process")
    with ExitStack() as connections:
        seen = {}

        def both():
            caller = connections.enter_context(closing(Caller(house.port)))
            seen.setdefault(caller.process, caller)
            return len(seen) == 2

        seconds_until(both, 120, "an answer of the new server")
        assert {answer(caller, 3) for caller in seen.values()} == {1003.0}
    assert survivors <= set(house.children())
    assert house.process.poll() is None


def _is_server(pid, line):
    """Children are spawned alike; those that answer hold the listening socket and are no builder."""
    return "spawn_main" in line and Path(f"/proc/{pid}/comm").read_text().strip() != "mm-builder"


@pytest.fixture
def own_home(tmp_path):
    return tmp_path / "home"


def test_sigterm_ends_everything_cleanly(own_home, tmp_path):
    running = start(own_home, processes=2)
    with Client(running.url) as client:
        create(client, tmp_path / "fleet.parquet")
    family = descendants(running.process.pid)
    assert len(family) >= 3  # two servers, a builder, and what the builder keeps warm
    assert running.stop() == 0
    seconds_until(lambda: not living(family), 10, "the end of all processes")
    running.process.stdout.close()
    log = own_home.with_name("home.log").read_text()
    assert "Traceback" not in log, log


def test_a_killed_parent_leaves_no_orphan_and_the_home_can_be_served_again_at_once(own_home, tmp_path):
    running = start(own_home, processes=2)
    with Client(running.url) as client:
        create(client, tmp_path / "fleet.parquet")
    family = descendants(running.process.pid)
    running.kill()
    running.process.stdout.close()
    with served(own_home, processes=2) as again, Client(again.url) as client:
        assert client.predict(GROUP, key(2), [ROW]).predictions == [1002.0]
        client.register(GROUP, key(2), constant(1502))
        seconds_until(lambda: client.predict(GROUP, key(2), [ROW]).predictions == [1502.0], 20, "a registration")
        seconds_until(lambda: not living(family), 20, "the end of the orphans")


def refused(*arguments):
    done = subprocess.run(
        [Path(sys.executable).with_name("manymodels"), "serve", *arguments],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode not in (0, -signal.SIGKILL)
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def test_a_home_that_is_served_is_not_served_twice(house):
    said = refused("--home", str(house.home), "--port", "0")
    assert "already served" in " ".join(said.split())
    assert str(house.process.pid) in said
    with Client(house.url) as client:
        assert client.predict(GROUP, key(4), [ROW]).predictions == [1004.0]


def test_a_port_that_is_taken_is_refused(own_home):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = refused("--home", str(own_home), "--port", str(port))
    assert str(port) in said
    assert "--port" in said


def test_members_are_reached_where_they_say(tmp_path):
    settings = {"advertise": "http://machine-7.example:8080"}
    with served(tmp_path / "home", settings=settings) as running, Client(running.url) as client:
        found = {member.uri for member in client.status().members if member.id.startswith("worker-")}
    assert found == {"http://machine-7.example:8080"}


def test_processes_that_are_told_to_stop_leave_the_house(tmp_path):
    with (
        served(tmp_path / "home", processes=2) as running,
        closing(SqlMembership(Home(running.home).leases_url)) as seen,
    ):
        seconds_until(lambda: len(seen.members()) == 3, 30, "two servers and the builder")
        assert running.stop() == 0
        assert seen.members() == ()


def test_a_process_that_is_told_to_stop_goes_on_until_that_has_spread_and_closes_connections_with_an_answer(tmp_path):
    with served(tmp_path / "home", settings={"spread_seconds": 3}) as running:
        with Client(running.url) as client:
            create(client, tmp_path / "fleet.parquet")
        kept = [http.client.HTTPConnection("127.0.0.1", running.port, timeout=30) for _ in range(3)]
        for connection in kept:
            assert asked(connection, "GET", "/health/ready") == (200, None)
        running.process.send_signal(signal.SIGTERM)
        seconds_until(lambda: readiness(running.port) == 503, 10, "not being ready")
        body = orjson.dumps({"key": key(1), "instances": [ROW]})
        assert asked(kept[0], "GET", "/health/ready") == (503, "close")
        assert asked(kept[1], "POST", f"/v1/groups/{GROUP}/predict", body) == (200, "close")
        assert asked(kept[2], "GET", f"/v1/groups/{GROUP}") == (200, "close")
        for connection in kept:
            connection.close()
        assert running.process.wait(30) == 0


def asked(connection, method, path, body=None):
    """Status of an answer, and what it says of its connection."""
    connection.request(method, path, body)
    answer = connection.getresponse()
    answer.read()
    return answer.status, answer.headers["connection"]


def readiness(port):
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        return asked(connection, "GET", "/health/ready")[0]
