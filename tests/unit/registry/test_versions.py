from concurrent.futures import ThreadPoolExecutor

import pytest

from registry.errors import GroupNotFoundError, VersionNotFoundError
from registry.groups import delete_group
from registry.keys import PartitionKey
from registry.versions import add_versions, count_heads, get_version, newest
from tests.support.registries import NOW, Registry, artifact, digest


def test_versions_are_numbered_by_key_and_sequenced_by_group(registry: Registry):
    added = registry.add_all({"store=1/brand=a": "m1", "store=2/brand=a": "m2"})
    again = registry.add("store=1/brand=a", "m3")
    assert [(item.version.number, item.version.sequence) for item in added] == [(1, 1), (1, 2)]
    assert (again.version.number, again.version.sequence) == (2, 3)
    assert all(item.created for item in (*added, again))


def test_a_version_is_read_back_as_it_was_written(registry: Registry):
    key = registry.key("store=%F0%9F%8D%8A/brand=a%2Fb%3D%25")
    meta = {
        "tags": {"region": "nw", 'a"b.c': "x"},
        "metrics": {"rmse": 0.25},
        "provenance": {"trained_through": "2026-11-19"},
        "classes": ("lo", 3, True),
        "examples": {"instances": [[1.5, None]], "predictions": [2.5]},
    }
    new = artifact(key, "m", **meta)
    with registry.database.write() as conn:
        [added] = add_versions(conn, "oj", [new], NOW)
    with registry.database.read() as conn:
        read = get_version(conn, "oj", key, 1)
        assert newest(conn, "oj", key) == read == added.version
    assert (read.key, read.digest, read.runtime, read.place) == (key, new.digest, "lightgbm", new.place)
    assert (read.size, read.heap, read.created, read.withdrawn, read.tombstone) == (1000, 5000, NOW, False, False)
    assert read.meta == new.meta
    assert read.key.as_dict() == {"store": "🍊", "brand": "a/b=%"}


def test_posting_the_newest_digest_again_returns_the_same_version(registry: Registry):
    first = registry.add("store=1/brand=a", "m1")
    again = registry.add("store=1/brand=a", "m1", tags={"other": "meta"})
    assert not again.created
    assert again.version == first.version


def test_posting_an_older_digest_makes_a_new_version(registry: Registry):
    registry.add("store=1/brand=a", "m1")
    registry.add("store=1/brand=a", "m2")
    back = registry.add("store=1/brand=a", "m1")
    assert back.created
    assert back.version.number == 3


def test_a_key_repeated_inside_a_batch_is_handled_in_order(registry: Registry):
    key = registry.key("store=1/brand=a")
    batch = [artifact(key, what) for what in ("m1", "m1", "m2", "m2", "m1")]
    with registry.database.write() as conn:
        added = add_versions(conn, registry.group, batch, NOW)
    assert [(item.version.number, item.created) for item in added] == [
        (1, True),
        (1, False),
        (2, True),
        (2, False),
        (3, True),
    ]
    assert [item.version.digest for item in added] == [item.digest for item in batch]


def test_an_empty_batch_adds_nothing(registry: Registry):
    with registry.database.write() as conn:
        assert add_versions(conn, registry.group, [], NOW) == []


def test_twenty_threads_registering_the_same_model_make_one_version(registry: Registry):
    def register(_: int) -> tuple[int, bool]:
        added = registry.add("store=1/brand=a", "m1")
        return added.version.number, added.created

    with ThreadPoolExecutor(20) as threads:
        outcomes = list(threads.map(register, range(20)))
    assert sorted(outcomes) == [(1, False)] * 19 + [(1, True)]


def test_twenty_threads_registering_different_models_of_one_key_lose_none(registry: Registry):
    with ThreadPoolExecutor(20) as threads:
        added = list(threads.map(lambda n: registry.add("store=1/brand=a", f"m{n}"), range(20)))
    assert sorted(item.version.number for item in added) == list(range(1, 21))
    assert sorted(item.version.sequence for item in added) == list(range(1, 21))


def test_deleting_a_key_adds_a_tombstone(registry: Registry):
    registry.add("store=1/brand=a", "m1")
    gone = registry.delete("store=1/brand=a")
    assert gone.tombstone
    assert (gone.number, gone.sequence, gone.digest, gone.runtime, gone.place) == (2, 2, None, None, None)
    with registry.database.read() as conn:
        assert newest(conn, "oj", registry.key("store=1/brand=a")) == gone


def test_deleting_a_deleted_key_again_adds_nothing(registry: Registry):
    registry.add("store=1/brand=a", "m1")
    assert registry.delete("store=1/brand=a") == registry.delete("store=1/brand=a")


def test_deleting_a_key_that_never_was_is_refused(registry: Registry):
    with pytest.raises(VersionNotFoundError):
        registry.delete("store=1/brand=a")


def test_registering_after_a_tombstone_makes_a_new_version_even_of_the_same_digest(registry: Registry):
    registry.add("store=1/brand=a", "m1")
    registry.delete("store=1/brand=a")
    back = registry.add("store=1/brand=a", "m1")
    assert back.created
    assert (back.version.number, back.version.digest) == (3, digest("m1"))


def test_only_keys_with_a_model_are_counted(registry: Registry):
    registry.add_all({f"store={n}/brand=a": f"m{n}" for n in range(5)})
    registry.delete("store=1/brand=a")
    registry.delete("store=1/brand=a")
    registry.delete("store=2/brand=a")
    registry.add("store=2/brand=a", "m2")
    registry.add("store=3/brand=a", "m3 better")
    registry.add("brand=a", "fallback")
    with registry.database.read() as conn:
        assert count_heads(conn, "oj") == 5


def test_a_version_that_never_was_is_not_found(registry: Registry):
    registry.add("store=1/brand=a", "m1")
    with registry.database.read() as conn:
        for key, number in ((registry.key("store=1/brand=a"), 2), (registry.key("store=9/brand=a"), 1)):
            with pytest.raises(VersionNotFoundError):
                get_version(conn, "oj", key, number)
        assert newest(conn, "oj", registry.key("store=9/brand=a")) is None


def test_a_group_deleted_meanwhile_takes_no_versions(registry: Registry):
    with registry.database.write() as conn:
        delete_group(conn, "oj", confirm="oj")
    with pytest.raises(GroupNotFoundError):
        registry.add("store=1/brand=a", "m1")


def test_the_whole_groups_fallback_model_has_the_empty_key(registry: Registry):
    added = registry.add("", "everything")
    assert added.version.key == PartitionKey(())
    with registry.database.read() as conn:
        assert newest(conn, "oj", PartitionKey(())) == added.version


def test_a_batch_larger_than_one_statement_keeps_its_order(registry: Registry):
    keys = [registry.group.schema.key((str(n), "a")) for n in range(6001)]
    with registry.database.write() as conn:
        added = add_versions(conn, registry.group, [artifact(key, f"m{key.text}") for key in keys], NOW)
        again = add_versions(conn, registry.group, [artifact(key, f"m{key.text}") for key in keys], NOW)
    assert [item.version.key for item in added] == keys
    assert [item.version for item in again] == [item.version for item in added]
    assert not any(item.created for item in again)
