"""A registry that is locked, or a disk that is full, costs no predict: what must write is refused in a word, nothing
stays half written, and all works again by itself.
"""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from gateway.problems import STATUS
from manymodels import Client
from manymodels.errors import ApiError, ImportFailedError
from registry.artifacts.folder import FolderStore
from registry.home import Home
from tests.support.constant import ROW, SIGNATURE, constant, fleet_file
from tests.support.disks import small_disk
from tests.support.ledger import callers_of_each, failed, traffic
from tests.support.picture import await_idle, check_databases
from tests.support.served import served
from tests.support.waiting import until

GROUP = "oj"
PREDICT = f"/v1/groups/{GROUP}/predict"
RATE = 50
PROCESSES = 2
DISK_BYTES = 24 << 20
STORES = range(1, 6)
PAGE = 4096
SETTINGS = {"prove_seconds": 1, "lease_seconds": 1, "promote_seconds": 5, "builder_children": 1}
BUSY, FULL = (503, "database_busy"), (507, "storage_full")
# While the builder waits for room: what was asked for is queued.
LATER = (503, "builder_unavailable")


def key(store):
    return {"store": str(store), "brand": "a"}


def predict(number):
    return PREDICT, {"key": key(STORES[number % len(STORES)]), "instances": [ROW]}


def value(client, store):
    return client.predict(GROUP, key(store), [ROW]).predictions[0]


def fill(client):
    """The last two releases have a model for each store."""
    client.create_group(GROUP, key=["store", "brand"], signature=SIGNATURE, auto_release=True)
    for store in STORES:
        made = partial(client.register, GROUP, key(store), constant(1000 + store))
        until(lambda made=made: refusal(made) is None, 60, "a builder")
        until(lambda store=store: refusal(lambda: value(client, store)) is None, 30, "a release")
    client.release(GROUP)


def writes(client, folder):
    """Calls that write, each another one whenever it is made."""
    fresh = count(1)
    last = client.releases(GROUP)[0].number

    def load():
        number = next(fresh)
        file = fleet_file(folder / "more", {"store=7/brand=a": constant(number)})
        return client.import_fleet(GROUP, file, pause=leave)

    return {
        "register": lambda: client.register(GROUP, key(8), constant(100_000 + next(fresh))),
        "import": load,
        "hold": lambda: client.hold(GROUP, key(9), "disable", reason=f"{next(fresh)} " + "x" * 900),
        "release": lambda: client.release(GROUP, wait=False),
        "promote": lambda: client.promote(GROUP, last - next(fresh) % 2),
        "delete": lambda: client.delete_model(GROUP, key(STORES[next(fresh) % len(STORES)])),
        "create": lambda: client.create_group(f"g{next(fresh)}", key=["store"], signature=SIGNATURE),
    }


class LeftError(Exception):
    """An import is under way; nobody waits for its end here."""


def leave(_seconds):
    raise LeftError


def refusal(call):
    """Status and code of the refusal; None if it was done, or is under way."""
    try:
        call()
    except ApiError as error:
        return error.status, error.code
    except ImportFailedError as error:
        return STATUS[error.record.error["code"]], error.record.error["code"]
    except LeftError:
        pass
    return None


def members(client):
    return {member.id: member.state for member in client.status().members}


def knock(callers):
    """Requests of many routes and outcomes, each counted under a name of its own."""
    paths = ("groups", "status", "groups/oj", "groups/oj/models", "groups/oj/releases", "groups/no/holds", "no", "?x")
    for caller in callers:
        for method in ("GET", "POST", "PUT", "DELETE", "PATCH"):
            for path in (*paths, "groups/oj/deployments", "groups/oj/imports/1", "groups/oj/releases/9", "tasks/1"):
                assert caller.call(method, f"/v1/{path}", b"{").status not in (0, 500)
        assert caller.call("GET", "/metrics").status == 200


def answers(house):
    """What each of the processes answers; nothing while one of them takes no connections yet."""
    found = []
    with suppress(AssertionError), callers_of_each(house.port, PROCESSES) as callers:
        found = [[caller.call("POST", *predict(n)).answer for n in range(len(STORES))] for caller in callers]
    return [[answer.get("predictions") for answer in each] for each in found]


def workforce(house):
    """The processes that serve and build."""
    return {child for child, command in house.children().items() if "spawn_main" in command}


def check_files(home):
    """Both databases are whole, each object is what its name says, and no upload and no half object stays."""
    check_databases(home)
    store = FolderStore(Home(home).artifacts)
    for found in store.objects():
        store.verify(found.digest)
    until(lambda: not list(store.staged_names()), 20, "an empty folder of uploads")


@pytest.fixture
def disk(tmp_path):
    """A small disk, which is the home."""
    with small_disk(tmp_path / "home", DISK_BYTES) as mounted:
        yield mounted


@pytest.fixture
def house(disk, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with served(disk.path, processes=PROCESSES, settings=SETTINGS) as running, Client(running.url) as client:
        fill(client)
        yield running


def test_a_full_disk_costs_no_predict_and_no_process_and_all_comes_back_by_itself(disk, house, tmp_path):
    children = set(house.children())
    with Client(house.url) as client, callers_of_each(house.port, PROCESSES) as callers:
        calls, alive = writes(client, tmp_path), members(client)
        with traffic(callers, RATE, predict) as flowing:
            for pages in (40, 20, 10, 4, 0):
                disk.fill(but=pages * PAGE)
                refused = {name: refusal(call) for name, call in calls.items()}
                assert set(refused.values()) <= {None, BUSY, FULL, LATER}, refused
            for name, call in calls.items():
                until(lambda call=call: refusal(call), 20, f"a refused {name}")
            with callers_of_each(house.port, PROCESSES) as others:
                knock(others)
            check_databases(disk.path)
            disk.make_room()
            for name, call in calls.items():
                until(lambda call=call: refusal(call) is None, 20, f"a {name}")
            client.promote(GROUP)  # after rollbacks auto_release rests until then
            until(lambda: refusal(lambda: client.register(GROUP, key(1), constant(7))) is None, 20, "a registration")
            until(lambda: value(client, 1) == 7, 20, "its release")
            until(lambda: members(client) == alive, 20, "all members")
            await_idle(disk.path, 20)
        assert failed(flowing.outcomes) == []
        check_files(disk.path)
    assert set(house.children()) == children


def test_a_server_that_is_started_on_a_full_disk_says_so_in_a_line_and_serves_when_there_is_room(disk, tmp_path):
    with served(disk.path, settings=SETTINGS) as running, Client(running.url) as client:
        fill(client)
        before = [value(client, store) for store in STORES]
    shutil.rmtree(disk.path / "metrics")  # a start throws that away, which would be room enough
    disk.fill()
    command = [Path(sys.executable).with_name("manymodels"), "serve", "--home", disk.path, "--port", "0"]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode == 1
    [said, hint] = refused.stderr.splitlines()
    assert said == f"error: {disk.path} cannot be served: the disk that holds the database is full (database_busy)"
    assert "without room" in hint
    disk.make_room()
    check_files(disk.path)
    with served(disk.path, settings=SETTINGS) as running, Client(running.url) as client:
        assert [value(client, store) for store in STORES] == before
        client.hold(GROUP, key(1), "freeze", reason="drifts")


def test_a_server_that_dies_on_a_full_disk_is_followed_by_one_that_serves(disk, house):
    before = answers(house)
    disk.fill()
    first = workforce(house)
    for child in first:
        os.kill(child, signal.SIGKILL)
    until(lambda: len(workforce(house) - first) == len(first), 30, "other processes")
    until(lambda: answers(house) == before, 30, "answers")
    disk.make_room()
    with Client(house.url) as client:
        until(lambda: set(members(client).values()) == {"alive"}, 20, "members")


def test_a_registry_that_is_locked_refuses_writes_for_a_while_and_costs_no_predict(tmp_path):
    home = tmp_path / "home"
    with served(home) as running, Client(running.url) as client, callers_of_each(running.port, 1) as callers:
        fill(client)
        with traffic(callers, RATE, predict) as flowing:
            with closing(sqlite3.connect(home / "registry.db", isolation_level=None)) as holder:
                holder.execute("BEGIN EXCLUSIVE")
                with pytest.raises(ApiError, match="locked") as refused:
                    client.hold(GROUP, key(1), "freeze", reason="drifts")
                assert (refused.value.status, refused.value.code) == BUSY
                assert refused.value.retry_after
                holder.execute("ROLLBACK")
            client.hold(GROUP, key(1), "freeze", reason="drifts")
        assert len(flowing.outcomes) > RATE
        assert failed(flowing.outcomes) == []
    check_files(home)
