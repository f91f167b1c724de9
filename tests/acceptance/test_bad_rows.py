"""Rows in the registry that nobody of ours wrote: the group they belong to stays as it was, and all others move on."""

import sqlite3
from contextlib import closing
from urllib.request import urlopen

import pytest

from manymodels import Client
from manymodels.errors import ApiError
from registry.home import Home
from tests.support.constant import ROW, SIGNATURE, constant
from tests.support.ledger import callers_of_each, failed, traffic
from tests.support.served import served
from tests.support.waiting import until

GROUPS = ("bad", "good")
KEY = {"store": "1"}
PROCESSES = 2
RATE = 50
GARBAGE = {
    "no definition": ("groups", "definition", "junk"),
    "another's definition": ("groups", "definition", "{}"),
    "a release that never was": ("deployments", "release", 999),
    "a manifest's name": ("releases", "manifest", "junk"),
    "a hold's key": ("holds", "key", "%%%"),
}


@pytest.fixture
def house(tmp_path):
    with served(tmp_path / "home", processes=PROCESSES) as running, Client(running.url) as client:
        for number, group in enumerate(GROUPS):
            client.create_group(group, key=["store"], signature=SIGNATURE, auto_release=True)
            for store in (1, 2):
                client.register(group, {"store": str(store)}, constant(1000 * (number + 1)))
            client.hold(group, {"store": "2"}, "disable", reason="a test")
            until(lambda group=group: value(client, group) is not None, 60, "a release")
        yield running


def value(client, group):
    try:
        return client.predict(group, KEY, [ROW]).predictions[0]
    except ApiError:
        return None


class Row:
    """The rows of the bad group in a table, and what stood there."""

    def __init__(self, home, table, column):
        self._path = Home(home).registry_url.removeprefix("sqlite:///")
        whose = "id" if table == "groups" else "group_id"
        here = f"{whose} = (SELECT id FROM groups WHERE name = 'bad')"
        self._update = f"UPDATE {table} SET {column} = ? WHERE {here}"
        with closing(sqlite3.connect(self._path)) as conn:
            [self._was] = conn.execute(f"SELECT {column} FROM {table} WHERE {here}").fetchone()

    def write(self, said):
        """As somebody with a shell would, and whoever looks for changes finds one."""
        with closing(sqlite3.connect(self._path, timeout=20)) as conn, conn:
            conn.execute(self._update, [said])
            conn.execute("UPDATE revision SET number = number + 1")

    def mend(self):
        self.write(self._was)


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=list(GARBAGE))
def test_a_row_that_makes_no_sense_holds_up_its_own_group_alone(house, garbage):
    table, column, said = garbage
    row = Row(house.home, table, column)
    with Client(house.url) as client, callers_of_each(house.port, PROCESSES) as callers:

        def predict(number):
            return f"/v1/groups/{GROUPS[number % 2]}/predict", {"key": KEY, "instances": [ROW]}

        for caller in callers:  # every process has both groups
            for number in range(2):
                until(lambda c=caller, n=number: c.call("POST", *predict(n)).status == 200, 20, "an answer")
        with traffic(callers, RATE, predict) as flowing:
            row.write(said)
            client.register("good", KEY, constant(3000))
            until(lambda: value(client, "good") == 3000, 20, "the other group's hotfix")
            assert value(client, "bad") == 1000
            seen = len(flowing.outcomes)
            until(lambda: len(flowing.outcomes) > seen + RATE, 20, "traffic")
        assert failed(flowing.outcomes) == []
        status = client.status()
        assert {"good", "bad"} == {group.name for group in status.groups} | set(status.unreadable)
        assert "good" not in status.unreadable
        assert b'{group="good"' in urlopen(f"{house.url}/metrics").read()
        assert "good" in {group.name for group in client.groups()}
    assert house.stop() == 0
    with served(house.home, processes=PROCESSES) as again, Client(again.url) as client:
        until(lambda: value(client, "good") == 3000, 20, "the other group after a restart")
        row.mend()
        until(lambda: value(client, "bad") == 1000, 20, "the group, once its row is whole again")
