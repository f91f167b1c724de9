"""A home is stopped and served again: everything is as it was, and what was damaged meanwhile is never answered."""

import shutil
from contextlib import closing

import pytest

from manymodels import Client
from manymodels.errors import ApiError, ReleaseRefusedError
from registry.artifacts.folder import FolderStore
from registry.database import Database
from registry.groups import get_group
from registry.home import Home
from registry.manifest import read_manifest
from registry.releases import get_release
from registry.versions import get_version
from tests.support.constant import ROW, SIGNATURE, constant, fleet_file
from tests.support.served import served
from tests.support.waiting import seconds_until
from workers.segments.reader import Segment

GROUP = "oj"
STORES = range(1, 41)
HEAVY = 600_000  # bytes of a model that do not compress much: forty of them need two shards


def key(store):
    return {"store": str(store), "brand": "a"}


def value(client, store):
    """What a store answers, or the code of the problem."""
    try:
        return client.predict(GROUP, key(store), [ROW]).predictions[0]
    except ApiError as error:
        return error.code


def create(client, path, models, *, auto_release=True):
    client.create_group(
        GROUP, key=["store", "brand"], signature=SIGNATURE, fallback=[["brand"]], auto_release=auto_release
    )
    client.import_fleet(GROUP, fleet_file(path, models))
    if not auto_release:
        client.promote(GROUP, client.release(GROUP).number)
    seconds_until(lambda: value(client, 1) == 1001, 60, "the first release")


def small_fleet():
    return {f"store={store}/brand=a": constant(1000 + store) for store in range(1, 6)} | {"brand=a": constant(1000)}


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


def everything(client):
    """All that a client can ask of a group."""
    group = client.group(GROUP)
    return (
        (group.auto_release, group.suspended, group.live and group.live.release),
        [(one.number, one.state, one.base, one.models, one.report) for one in client.releases(GROUP)],
        [(one.number, one.state, one.rows, one.registered) for one in client.imports(GROUP)],
        [(hold.key, hold.action, hold.version, hold.reason) for hold in client.holds(GROUP)],
        {head.key: client.history(GROUP, dict(head.fields)) for head in client.models(GROUP)},
        {store: value(client, store) for store in range(1, 10)},
        client.deployments(GROUP).etag,
    )


def test_everything_survives_a_restart(home, tmp_path):
    with served(home) as running, Client(running.url) as client:
        create(client, tmp_path / "fleet.parquet", small_fleet())
        client.register(GROUP, key(1), constant(2001), tags={"region": "nw"})
        seconds_until(lambda: value(client, 1) == 2001, 20, "a registration")
        client.rollback(GROUP)
        client.register(GROUP, key(2), constant(2002), provenance={"trained_through": "2026-11-19"})
        client.delete_model(GROUP, key(3))
        client.release(GROUP)
        client.hold(GROUP, key(4), "disable", reason="negative answers")
        seconds_until(lambda: value(client, 4) == 1000, 20, "a hold")
        before = everything(client)
    with served(home) as running, Client(running.url) as client:
        assert everything(client) == before
        client.promote(GROUP)
        seconds_until(lambda: [value(client, store) for store in (1, 2, 3)] == [1001, 2002, 1000], 20, "a promotion")


class Stopped:
    """The files of a home that is not being served."""

    def __init__(self, home):
        self.store = FolderStore(Home(home).artifacts)
        self.database = Database(Home(home).registry_url)

    def close(self):
        self.database.close()

    def segment_paths(self, release):
        """Shard -> file of a release's segment."""
        with self.database.read() as conn:
            manifest = get_release(conn, GROUP, release).manifest
        refs = read_manifest(self.store.path(manifest).read_bytes()).segments
        return {ref.shard: self.store.path(ref.digest) for ref in refs}

    def bundle_path(self, store, version):
        """The bundle in which a version's artifact lies."""
        with self.database.read() as conn:
            group = get_group(conn, GROUP)
            found = get_version(conn, group, group.schema.parse_text(f"store={store}/brand=a"), version)
        return self.store.path(found.place.bundle)


def flip(path, offsets):
    """Turn over the bits of a few bytes of a file."""
    data = bytearray(path.read_bytes())
    for offset in offsets:
        data[offset] ^= 0xFF
    path.chmod(0o600)
    path.write_bytes(data)


def stores_in(path):
    segment = Segment.open(path)
    keys = [segment.entry(row).key for row in range(len(segment))]
    return {int(text.partition("/")[0].removeprefix("store=")) for text in keys}


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    """A stopped home whose live release has two shards and a fallback segment."""
    root = tmp_path_factory.mktemp("sharded")
    with served(root / "home") as running, Client(running.url) as client:
        models = {f"store={store}/brand=a": constant(1000 + store, HEAVY) for store in STORES}
        create(client, root / "fleet.parquet", models | {"brand=a": constant(1000)})
    return root / "home"


@pytest.mark.parametrize("where", ["head", "index", "models"])
def test_a_damaged_segment_is_refused_and_the_other_shards_answer(sharded, tmp_path, where):
    home = tmp_path / "home"
    shutil.copytree(sharded, home)
    with closing(Stopped(home)) as stopped:
        path = stopped.segment_paths(1)[0]
    lost, size, index = stores_in(path), path.stat().st_size, Segment.open(path).header.index_end
    assert set() < lost < set(STORES)
    offsets = {
        "head": range(8),
        "index": range(index - 64, index),
        "models": range(index, size, 4096),
    }
    flip(path, offsets[where])
    with served(home) as running, Client(running.url) as client:
        for _ in range(2):  # what was refused once is refused for the same reason again
            answers = {store: value(client, store) for store in STORES}
            assert {store: answers[store] for store in STORES if store not in lost} == {
                store: 1000 + store for store in STORES if store not in lost
            }
            assert {answers[store] for store in lost} == {"segment_damaged"}


def test_a_segment_that_is_gone_is_refused_and_the_other_shards_answer(sharded, tmp_path):
    home = tmp_path / "home"
    shutil.copytree(sharded, home)
    with closing(Stopped(home)) as stopped:
        path = stopped.segment_paths(1)[1]
    lost = stores_in(path)
    path.unlink()
    with served(home) as running, Client(running.url) as client:
        answers = {store: value(client, store) for store in STORES}
    assert {store for store, found in answers.items() if found == 1000 + store} == set(STORES) - lost
    assert not any(isinstance(answers[store], float) for store in lost)


def test_a_damaged_artifact_never_becomes_a_model(home, tmp_path):
    models = {2: constant(2002, padding=100), 6: constant(2006), 7: constant(2007)}  # the first is stored as it is
    with served(home) as running, Client(running.url) as client:
        create(client, tmp_path / "fleet.parquet", small_fleet(), auto_release=False)
        for store, model in models.items():
            client.register(GROUP, key(store), model)
    with closing(Stopped(home)) as stopped:
        changed, added = stopped.bundle_path(2, 2), stopped.bundle_path(6, 1)
    flip(changed, range(10, 40))
    flip(added, [added.stat().st_size - 20])
    with served(home) as running, Client(running.url) as client:
        release = client.release(GROUP)
        failed = {entry["key"] for entry in release.report["names"]["failed"]}
        assert (release.report["failed"], failed) == (2, {"store=2/brand=a", "store=6/brand=a"})
        client.promote(GROUP, release.number)
        expected = [1001, 1002, 1003, 1004, 1005, 1000, 2007]
        seconds_until(lambda: value(client, 7) == 2007, 20, "a promotion")
        assert [value(client, store) for store in range(1, 8)] == expected
        with pytest.raises(ReleaseRefusedError, match="2 failed"):
            client.release(GROUP, base=1, gates={"max_failed": 1})
        for store in (2, 6):  # the same bytes again make it whole
            assert not client.register(GROUP, key(store), models[store]).created
        healed = client.release(GROUP, set=[(key(2), 2), (key(6), 1)], gates={"max_failed": 0})
        client.promote(GROUP, healed.number)
        assert [value(client, store) for store in range(1, 8)] == [1001, 2002, 1003, 1004, 1005, 2006, 2007]
