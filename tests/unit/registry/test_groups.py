import pytest

from registry.errors import (
    ConfirmationError,
    DatabaseBusyError,
    GroupExistsError,
    GroupInvalidError,
    GroupNotFoundError,
    SignatureInvalidError,
)
from registry.groups import create_group, delete_group, each_group, find_group, get_group, list_groups, place_group
from registry.keys import KeySchema
from registry.releases import list_releases
from registry.revision import read_revision
from registry.signature import Signature
from registry.tasks import claim, enqueue, finish, get_task
from registry.versions import count_heads
from tests.support.registries import NOW, SCHEMA, SIGNATURE, Registry

RICH = Signature.from_json(
    {
        "inputs": [
            {"name": "price", "dtype": "float32", "nullable": True, "default": None},
            {"name": "brand", "dtype": "string", "categories": ["a", "b"], "from_key": "brand"},
            {"name": "when", "dtype": "timestamp", "default": "2026-01-01T00:00:00Z"},
            {"name": "🍊", "dtype": "bool", "default": False},
        ],
        "outputs": [{"name": "class", "kind": "label", "classes": ["lo", "hi"]}, {"name": "v", "width": 3}],
    },
    ("store", "brand", "region"),
)


def create(registry: Registry, name: str, schema: KeySchema = SCHEMA, signature: Signature = SIGNATURE):
    with registry.database.write() as conn:
        return create_group(conn, name, schema, signature, auto_release=False, now=NOW)


@pytest.mark.parametrize("name", ["fallback_level", "error_code", "error_detail"])
def test_an_output_never_has_the_name_of_a_column_that_every_arrow_answer_has(registry, name):
    signature = Signature.from_json({"inputs": [{"name": "x"}], "outputs": [{"name": "y"}, {"name": name}]})
    with pytest.raises(SignatureInvalidError, match=name) as refused:
        create(registry, "g", SCHEMA, signature)
    assert refused.value.field == "outputs"


def test_a_group_is_read_back_as_it_was_created(registry):
    schema = KeySchema(("store", "brand", "region"), ("region", "store"), (("brand",), ()))
    created = create(registry, "rich-1.x_y", schema, RICH)
    with registry.database.read() as conn:
        assert get_group(conn, "rich-1.x_y") == created
    assert (created.schema, created.signature) == (schema, RICH)
    assert (created.auto_release, created.suspended, created.created) == (False, False, NOW)


def test_groups_are_listed_by_name(registry):
    for name in ("z", "a", "oj-2"):
        create(registry, name)
    with registry.database.read() as conn:
        assert [group.name for group in list_groups(conn)] == ["a", "oj", "oj-2", "z"]


def test_a_row_that_makes_no_sense_keeps_nobody_from_the_other_groups(registry):
    for name in ("a", "b", "c"):
        create(registry, name)
    with registry.database.write() as conn:
        conn.exec_driver_sql("UPDATE groups SET definition = '{}' WHERE name = 'b'")
        assert each_group(conn, lambda group: group.name) == (["a", "c", "oj"], ["b"])
        with pytest.raises(DatabaseBusyError):
            each_group(conn, busy)


def busy(_group):
    raise DatabaseBusyError("locked")


@pytest.mark.parametrize("name", ["", "A", "-a", ".a", "a/b", "a b", "é", "a" * 64, "a\n", "../x", "a\x00"])
def test_an_illegal_name_is_refused(registry, name):
    with pytest.raises(GroupInvalidError) as caught:
        create(registry, name)
    assert caught.value.field == "name"


@pytest.mark.parametrize("name", ["a", "0", "a" * 63, "a..b", "a-_."])
def test_a_legal_name_is_taken(registry, name):
    assert create(registry, name).name == name


@pytest.mark.parametrize("schema", [SCHEMA, KeySchema(("store",))])
def test_a_second_group_of_one_name_is_refused_whatever_its_definition(registry, schema):
    with pytest.raises(GroupExistsError):
        create(registry, "oj", schema)


def test_an_unknown_group_is_not_found(registry):
    with registry.database.read() as conn, pytest.raises(GroupNotFoundError) as caught:
        get_group(conn, "nope")
    assert caught.value.field == "group"


def test_a_group_may_be_given_by_name_or_as_it_was_read(registry):
    with registry.database.read() as conn:
        assert find_group(conn, "oj") == find_group(conn, registry.group) == registry.group


@pytest.mark.parametrize("confirm", [None, "", "OJ", "oj2"])
def test_deleting_needs_the_name_once_more(registry, confirm):
    with registry.database.write() as conn, pytest.raises(ConfirmationError):
        delete_group(conn, "oj", confirm=confirm)
    assert registry.now_group() == registry.group


def test_a_deleted_group_is_gone_and_its_name_free_for_an_empty_one(registry):
    registry.add("store=1/brand=a", "m1")
    registry.flip(registry.release())
    with registry.database.write() as conn:
        delete_group(conn, "oj", confirm="oj")
        with pytest.raises(GroupNotFoundError):
            get_group(conn, "oj")
        assert list_groups(conn) == []
    again = create(registry, "oj")
    assert again.id != registry.group.id
    with registry.database.read() as conn:
        assert count_heads(conn, again) == 0
        assert list_releases(conn, again) == []


def test_work_for_a_deleted_group_fails_and_cannot_be_finished(registry):
    with registry.database.write() as conn:
        queued = enqueue(conn, "release", "oj", {}, NOW)
        enqueue(conn, "prove", "oj", {}, NOW)
        running = claim(conn, "builder-1", frozenset(), ["prove"], NOW)
        assert running is not None
        delete_group(conn, "oj", confirm="oj")
        assert not finish(conn, running, {})
        for number in (queued, running.id):
            task = get_task(conn, number)
            assert (task.state, (task.result or {})["code"]) == ("failed", "group_not_found")
        assert claim(conn, "builder-1", frozenset(), ["prove", "release"], NOW) is None


def test_creating_and_deleting_grow_the_revision(registry):
    def number() -> int:
        with registry.database.read() as conn:
            return read_revision(conn)[1]

    first = number()
    create(registry, "new")
    second = number()
    with registry.database.write() as conn:
        delete_group(conn, "new", confirm="new")
    assert first < second < number()


def test_a_group_is_placed_on_two_seats_of_the_default_pool_unless_it_says_otherwise(registry):
    made = create(registry, "plain")
    assert (made.replicas, made.pool) == (2, "default")
    with registry.database.write() as conn:
        made = create_group(conn, "g", SCHEMA, SIGNATURE, auto_release=False, now=NOW, replicas=3, pool="gpu")
    with registry.database.read() as conn:
        assert get_group(conn, "g") == made
    assert (made.replicas, made.pool) == (3, "gpu")


def test_a_group_is_placed_anew_and_only_a_change_counts(registry):
    create(registry, "g")
    with registry.database.write() as conn:
        assert place_group(conn, "g", replicas=3).replicas == 3
        before = read_revision(conn)
        assert place_group(conn, "g", replicas=3, pool="default").replicas == 3
        assert place_group(conn, "g").replicas == 3
        assert read_revision(conn) == before
        assert place_group(conn, "g", pool="gpu").pool == "gpu"
        found = get_group(conn, "g")
        assert (found.replicas, found.pool) == (3, "gpu")
        assert read_revision(conn)[1] == before[1] + 1


@pytest.mark.parametrize(
    ("field", "value"), [("replicas", 0), ("replicas", 65), ("pool", ""), ("pool", "A"), ("pool", "a/b")]
)
def test_a_placement_that_breaks_a_rule_is_refused_and_changes_nothing(registry, field, value):
    before = create(registry, "g")
    with pytest.raises(GroupInvalidError) as refused, registry.database.write() as conn:
        place_group(conn, "g", **{field: value})
    assert refused.value.field == field
    with registry.database.read() as conn:
        assert get_group(conn, "g") == before
