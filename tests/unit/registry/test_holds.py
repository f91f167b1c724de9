import pytest

from registry.errors import HoldInvalidError, HoldNotFoundError, VersionNotFoundError
from registry.holds import drop_hold, list_holds, put_hold
from registry.records import Hold
from registry.revision import read_revision
from tests.support.registries import NOW, Registry

A, B = "store=1/brand=a", "store=1/brand=%2F"


def put(registry: Registry, text: str = A, **given) -> Hold:
    body = {"action": "disable", "version": None, "reason": "negative answers", "author": "ann", "until": None}
    with registry.database.write() as conn:
        return put_hold(conn, "oj", registry.key(text), **(body | given), now=NOW)


def holds(registry: Registry, now: float = NOW) -> list[Hold]:
    with registry.database.read() as conn:
        return list_holds(conn, "oj", now)


def test_a_hold_is_read_back_as_it_was_put(registry):
    first = put(registry, B, until=NOW + 10)
    second = put(registry, "")
    assert holds(registry) == [second, first]
    assert first == Hold(registry.key(B), "disable", None, "negative answers", "ann", NOW, NOW + 10)


def test_a_second_hold_takes_the_place_of_the_first(registry):
    put(registry)
    second = put(registry, action="freeze")
    assert holds(registry) == [second]


def test_a_hold_ends_by_its_time(registry):
    put(registry, until=NOW + 10)
    assert len(holds(registry, NOW + 9.9)) == 1
    assert holds(registry, NOW + 10) == []


def test_a_hold_is_lifted_once(registry):
    put(registry)
    with registry.database.write() as conn:
        drop_hold(conn, "oj", registry.key(A))
        with pytest.raises(HoldNotFoundError):
            drop_hold(conn, "oj", registry.key(A))
    assert holds(registry) == []


def test_putting_and_lifting_grow_the_revision(registry):
    def number() -> int:
        with registry.database.read() as conn:
            return read_revision(conn)[1]

    first = number()
    put(registry)
    second = number()
    with registry.database.write() as conn:
        drop_hold(conn, "oj", registry.key(A))
    assert first < second < number()


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"action": "stop"}, "action"),
        ({"action": "pin"}, "version"),
        ({"action": "freeze", "version": 1}, "version"),
        ({"until": NOW}, "until"),
        ({"until": float("nan")}, "until"),
        ({"reason": "x" * 2001}, "reason"),
        ({"author": "x" * 2001}, "author"),
    ],
)
def test_a_hold_that_breaks_a_rule_is_refused_naming_the_field(registry, given, field):
    registry.add(A, "a1")
    with pytest.raises(HoldInvalidError) as caught:
        put(registry, **given)
    assert caught.value.field == field
    assert holds(registry) == []


def test_a_pin_needs_a_version_that_exists_and_is_a_model(registry):
    registry.add(A, "a1")
    registry.delete(A)
    assert put(registry, action="pin", version=1).version == 1
    with pytest.raises(VersionNotFoundError):
        put(registry, action="pin", version=3)
    with pytest.raises(HoldInvalidError, match="deletion"):
        put(registry, action="pin", version=2)


def test_a_key_without_any_model_can_be_disabled(registry):
    assert put(registry, "store=unknown/brand=x").action == "disable"
