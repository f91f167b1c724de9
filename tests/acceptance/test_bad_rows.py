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


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    home = tmp_path_factory.mktemp("house") / "home"
    with served(home, processes=PROCESSES) as running, Client(running.url) as client:
        for number, group in enumerate(GROUPS):
            client.create_group(group, key=["store"], signature=SIGNATURE, auto_release=True)
            for store in (1, 2):
                client.register(group, {"store": str(store)}, constant(1000 * (number + 1)))
            client.hold(group, {"store": "2"}, "disable", reason="a test")
            until(lambda group=group: value(client, group) is not None, 60, "a release")
        yield running


@pytest.fixture
def callers(house):
    """A connection to every process, each of which answers for both groups."""
    with callers_of_each(house.port, PROCESSES) as found:
        for caller in found:
            for number in range(2):
                until(lambda c=caller, n=number: c.call("POST", *predict(n)).status == 200, 20, "an answer")
        yield found


def predict(number):
    return f"/v1/groups/{GROUPS[number % 2]}/predict", {"key": KEY, "instances": [ROW]}


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


@pytest.mark.parametrize("number", range(len(GARBAGE)), ids=list(GARBAGE))
def test_a_row_that_makes_no_sense_holds_up_its_own_group_alone(house, callers, number):
    table, column, said = list(GARBAGE.values())[number]
    row, hotfix = Row(house.home, table, column), 3000 + number
    with Client(house.url) as client:
        with traffic(callers, RATE, predict) as flowing:
            row.write(said)
            client.register("good", KEY, constant(hotfix))
            until(lambda: value(client, "good") == hotfix, 20, "the other group's hotfix")
            assert value(client, "bad") == 1000
            seen = len(flowing.outcomes)
            until(lambda: len(flowing.outcomes) > seen + RATE, 20, "traffic")
        assert failed(flowing.outcomes) == []
        status = client.status()
        assert {group.name for group in status.groups} | set(status.unreadable) == {"good", "bad"}
        assert "good" not in status.unreadable
        assert b'{group="good"' in urlopen(f"{house.url}/metrics").read()
        assert "good" in {group.name for group in client.groups()}
        row.mend()
        until(lambda: not client.status().unreadable, 20, "a whole registry")


def test_a_process_that_starts_then_answers_for_the_others_and_for_that_group_once_it_is_mended(house):
    rows = [Row(house.home, *place) for place in (("groups", "definition"), ("deployments", "release"))]
    for row, said in zip(rows, ("junk", 999), strict=True):
        row.write(said)
    with Client(house.url) as client:
        expected = value(client, "good")
    assert house.stop() == 0
    with served(house.home, processes=PROCESSES) as again, Client(again.url) as client:
        until(lambda: value(client, "good") == expected, 20, "the other group after a restart")
        with pytest.raises(ApiError) as refused:
            client.predict("bad", KEY, [ROW])
        assert (refused.value.status, refused.value.code) == (503, "snapshot_unavailable")
        for row in rows:
            row.mend()
        until(lambda: value(client, "bad") == 1000, 20, "the group, once its rows are whole again")
