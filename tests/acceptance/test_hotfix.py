"""One key is changed, switched off or rolled back within about a second, and nothing else moves."""

import pytest

from manymodels import Client
from manymodels.errors import NotFoundError
from registry.artifacts.folder import FolderStore
from registry.database import Database
from registry.home import Home
from registry.keys import KeySchema, shard_of
from registry.manifest import read_manifest
from registry.releases import get_release
from tests.support.constant import ROW, SIGNATURE, constant, fleet_file
from tests.support.served import served
from tests.support.waiting import seconds_until

pytestmark = pytest.mark.alone

STORES = range(1, 11)
MANY_STORES = range(1, 41)
HEAVY = 600_000  # bytes of a model that do not compress much: forty of them need two shards
PROMISED = 5.0  # about a second is promised; a busy machine is given more


def key(store):
    return {"store": str(store), "brand": "a"}


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    with served(tmp_path_factory.mktemp("hotfix") / "home") as running:
        yield running


class Fleet:
    """A group of a served house whose first release is live."""

    def __init__(self, client, group, folder, stores=STORES, padding=0):
        """A store's model answers 1000 and the store, the fallback model 1000."""
        self.client, self.group, self.stores = client, group, stores
        client.create_group(group, key=["store", "brand"], signature=SIGNATURE, fallback=[["brand"]])
        models = {f"store={store}/brand=a": constant(1000 + store, padding) for store in stores}
        client.import_fleet(group, fleet_file(folder / "fleet.parquet", models | {"brand=a": constant(1000)}))
        seconds_until(lambda: self.value(stores[0]) == 1000 + stores[0], 60, "the first release")

    def register(self, store, value, padding=0):
        self.client.register(self.group, key(store), constant(value, padding))

    def value(self, store):
        try:
            return self.client.predict(self.group, key(store), [ROW]).predictions[0]
        except NotFoundError as error:
            return error.code

    def values(self):
        answer = self.client.predict_bulk(self.group, [{**key(store), **ROW} for store in self.stores])
        assert not answer.errors
        return list(answer.predictions)

    def until_live(self, store, value, what):
        taken = seconds_until(lambda: self.value(store) == value, PROMISED, what)
        print(f"{what} was live after {taken:.3f} s")
        return taken


@pytest.fixture
def fleet(house, tmp_path, request):
    with Client(house.url) as client:
        yield Fleet(client, f"oj-{request.node.name[:40]}", tmp_path)


@pytest.fixture
def large_fleet(house, tmp_path):
    with Client(house.url) as client:
        yield Fleet(client, "large", tmp_path, MANY_STORES, HEAVY)


def expected(fleet, *changed):
    """What all stores answer when some answer 2000 and the store."""
    return [(2000.0 if store in changed else 1000.0) + store for store in fleet.stores]


def manifest(house, group, number):
    """The manifest of a release, read behind the server's back."""
    home = Home(house.home)
    database = Database(home.registry_url)
    with database.read() as conn:
        digest = get_release(conn, group, number).manifest
    database.close()
    return read_manifest(FolderStore(home.artifacts).path(digest).read_bytes())


def shard(store, shards):
    schema = KeySchema(("store", "brand"), fallback=(("brand",),))
    return shard_of(schema.slot(schema.parse_text(f"store={store}/brand=a")), shards)


def test_a_hotfix_is_live_in_about_a_second_and_rewrites_its_own_segment_alone(house, large_fleet):
    fleet, client = large_fleet, large_fleet.client
    before = manifest(house, fleet.group, 1)
    assert len(before.segments) == 3  # two shards and the fallback models
    fleet.register(7, 2007, HEAVY)
    fleet.until_live(7, 2007, "a hotfix")
    after = manifest(house, fleet.group, client.deployments(fleet.group).live)
    assert after.shards == before.shards
    old = {ref.shard: ref.digest for ref in before.segments}
    new = {ref.shard: ref.digest for ref in after.segments}
    assert {number for number in old | new if old.get(number) != new.get(number)} == {shard(7, before.shards)}
    assert client.releases(fleet.group)[0].report["changed_shards"] == 1
    assert fleet.values() == expected(fleet, 7)


def test_disable_is_live_within_a_second_and_so_is_its_end(fleet):
    fleet.client.hold(fleet.group, key(9), "disable", reason="negative answers")
    fleet.until_live(9, 1000, "a disable hold")
    assert fleet.client.predict(fleet.group, key(9), [ROW]).model.fallback_level == 1
    assert [fleet.value(store) for store in (8, 10)] == [1008, 1010]
    fleet.client.unhold(fleet.group, key(9))
    fleet.until_live(9, 1009, "the end of a hold")


def test_after_a_rollback_a_hotfix_of_another_key_brings_nothing_abandoned_back(fleet):
    client, group = fleet.client, fleet.group
    fleet.register(1, 2001)
    fleet.until_live(1, 2001, "a registration")
    client.rollback(group)
    fleet.until_live(1, 1001, "a rollback")
    assert client.group(group).suspended
    assert [version.withdrawn for version in client.history(group, key(1))] == [True, False]

    built = client.releases(group)[0].number
    fleet.register(2, 2002)
    assert fleet.value(2) == 1002
    release = client.release(group)
    assert release.number == built + 1, "auto_release built a release although it rests"
    client.promote(group, release.number)
    fleet.until_live(2, 2002, "a promotion")
    assert fleet.values() == expected(fleet, 2)

    assert not client.group(group).suspended
    fleet.register(3, 2003)
    fleet.until_live(3, 2003, "a registration after the next promotion")
    assert fleet.values() == expected(fleet, 2, 3)

    named = client.release(group, set=[(key(1), 2)])
    client.promote(group, named.number)
    fleet.until_live(1, 2001, "a named version")
    assert fleet.values() == expected(fleet, 1, 2, 3)
