import pytest

from registry.errors import CursorInvalidError, ImportNotFoundError, ImportStateError
from registry.imports import (
    Reject,
    checkpoint,
    create_import,
    fail_import,
    finish_import,
    get_import,
    list_imports,
    list_rejects,
    publish,
    resume_row,
)
from registry.records import Import
from registry.retention import named_digests
from registry.tasks import claim
from registry.versions import count_heads, newest
from tests.support.registries import NOW, Registry, artifact, digest


def start(registry: Registry, what: str = "file", on_error="fail", runtime: str | None = None, source="s1") -> Import:
    with registry.database.write() as conn:
        return create_import(
            conn, "oj", source=source, digest=digest(what), on_error=on_error, runtime=runtime, now=NOW
        )


def stage(registry: Registry, rows: range, rejected: tuple[int, ...] = (), number: int = 1, what: str = "m") -> None:
    good = [
        (row, artifact(registry.key(f"store={row}/brand=a"), f"{what}{row}", tags={"row": str(row)}))
        for row in rows
        if row not in rejected
    ]
    bad = [Reject(row, f"store={row}/brand=a", "model_format", "no model", "model") for row in rejected]
    with registry.database.write() as conn:
        checkpoint(conn, "oj", number, staged=good, rejects=bad, rows=rows.stop, proved=len(good))


def push(registry: Registry, limit: int, number: int = 1) -> int:
    with registry.database.write() as conn:
        return publish(conn, "oj", number, limit, NOW)


def shown(registry: Registry, number: int = 1) -> Import:
    with registry.database.read() as conn:
        return get_import(conn, "oj", number)


def models(registry: Registry) -> int:
    with registry.database.read() as conn:
        return count_heads(conn, "oj")


def test_an_import_begins_with_a_task(registry):
    item = start(registry, on_error="skip", runtime="onnx")
    assert (item.number, item.state, item.source, item.on_error, item.rows) == (1, "queued", "s1", "skip", 0)
    with registry.database.write() as conn:
        task = claim(conn, "b1", frozenset(), ["import"], NOW)
    assert task is not None
    assert (task.group, task.payload) == ("oj", {"import": 1, "runtime": "onnx", "on_error": "skip"})


def test_the_same_file_again_while_its_import_goes_on_is_that_import(registry):
    first = start(registry, source="s1")
    assert start(registry, source="s2") == first
    assert start(registry, on_error="skip").number == 2
    assert start(registry, runtime="onnx").number == 3
    assert start(registry, "other").number == 4
    with registry.database.write() as conn:
        finish_import(conn, "oj", 1, release=None, now=NOW)
    assert start(registry, source="s3").number == 5


def test_proved_rows_are_not_visible_before_they_are_published(registry):
    start(registry)
    stage(registry, range(4))
    assert models(registry) == 0
    assert (shown(registry).state, shown(registry).proved, shown(registry).registered) == ("proving", 4, 0)


def test_publishing_goes_in_steps_and_in_order(registry):
    start(registry)
    stage(registry, range(5))
    assert [push(registry, 2) for _ in range(3)] == [3, 1, 0]
    item = shown(registry)
    assert (item.state, item.registered, item.unchanged, models(registry)) == ("publishing", 5, 0, 5)
    with registry.database.write() as conn:
        sequences = [newest(conn, "oj", registry.key(f"store={row}/brand=a")).sequence for row in range(5)]
        ended = finish_import(conn, "oj", 1, release=3, now=NOW + 1)
    assert sequences == [1, 2, 3, 4, 5]
    assert (ended.state, ended.release, ended.finished) == ("done", 3, NOW + 1)


def test_what_is_published_is_what_was_proved(registry):
    start(registry)
    stage(registry, range(1))
    push(registry, 10)
    with registry.database.read() as conn:
        version = newest(conn, "oj", registry.key("store=0/brand=a"))
    new = artifact(registry.key("store=0/brand=a"), "m0", tags={"row": "0"})
    assert version is not None
    assert (version.digest, version.runtime, version.size, version.heap) == (
        new.digest,
        new.runtime,
        new.size,
        new.heap,
    )
    assert (version.place, version.meta) == (new.place, new.meta)


def test_unchanged_models_are_counted_apart(registry):
    registry.add("store=1/brand=a", "m1")
    start(registry)
    stage(registry, range(3))
    push(registry, 10)
    assert (shown(registry).registered, shown(registry).unchanged) == (2, 1)


def test_a_resumed_import_goes_on_after_its_last_checkpoint(registry):
    start(registry)
    with registry.database.read() as conn:
        assert resume_row(conn, "oj", 1) == 0
    stage(registry, range(4), rejected=(3,))
    with registry.database.read() as conn:
        assert resume_row(conn, "oj", 1) == 4


def test_a_checkpoint_repeated_changes_nothing(registry):
    start(registry)
    stage(registry, range(4), rejected=(1,))
    before = shown(registry)
    stage(registry, range(4), rejected=(1,), what="other")
    assert shown(registry) == before
    stage(registry, range(4, 6))
    assert (shown(registry).rows, shown(registry).proved, shown(registry).rejected) == (6, 5, 1)


def test_an_import_that_fails_leaves_nothing_behind_but_its_rejects(registry):
    start(registry)
    stage(registry, range(4), rejected=(2,))
    with registry.database.write() as conn:
        ended = fail_import(conn, "oj", 1, {"code": "import_rejected", "detail": "one row"}, NOW)
        assert named_digests(conn) == set()
        assert len(list_rejects(conn, "oj", 1, 100, None).items) == 1
    assert (ended.state, ended.error, models(registry)) == (
        "failed",
        {"code": "import_rejected", "detail": "one row"},
        0,
    )


def test_the_bundles_of_waiting_rows_are_named(registry):
    start(registry)
    stage(registry, range(1))
    with registry.database.read() as conn:
        assert named_digests(conn) == {digest("bundle of m0")}


def test_an_import_is_not_finished_while_rows_wait(registry):
    start(registry)
    stage(registry, range(3))
    push(registry, 2)
    with registry.database.write() as conn, pytest.raises(ImportStateError, match="1 rows"):
        finish_import(conn, "oj", 1, release=None, now=NOW)


def test_an_import_that_has_ended_takes_nothing_more(registry):
    start(registry)
    with registry.database.write() as conn:
        finish_import(conn, "oj", 1, release=None, now=NOW)
    with pytest.raises(ImportStateError, match="done"):
        stage(registry, range(1))
    with pytest.raises(ImportStateError):
        push(registry, 1)
    with registry.database.write() as conn:
        with pytest.raises(ImportStateError):
            fail_import(conn, "oj", 1, {"code": "x"}, NOW)
        with pytest.raises(ImportStateError):
            finish_import(conn, "oj", 1, release=None, now=NOW)


def test_an_import_being_published_is_not_proved_any_more(registry):
    start(registry)
    stage(registry, range(3))
    push(registry, 1)
    with pytest.raises(ImportStateError, match="publishing"):
        stage(registry, range(3, 4))


def test_rejects_are_listed_by_row_and_page(registry):
    start(registry)
    stage(registry, range(300), rejected=tuple(range(0, 300, 2)))
    found: list[int] = []
    cursor = None
    with registry.database.read() as conn:
        while True:
            page = list_rejects(conn, "oj", 1, 40, cursor)
            found += [reject.row for reject in page.items]
            if page.cursor is None:
                break
            cursor = page.cursor
        first = list_rejects(conn, "oj", 1, 1, None).items[0]
        with pytest.raises(CursorInvalidError):
            list_rejects(conn, "oj", 1, 40, "x")
    assert found == list(range(0, 300, 2))
    assert first == Reject(0, "store=0/brand=a", "model_format", "no model", "model")


def test_a_reject_may_have_no_key_and_no_field(registry):
    start(registry)
    with registry.database.write() as conn:
        checkpoint(conn, "oj", 1, staged=[], rejects=[Reject(0, None, "key_type", "d", None)], rows=1, proved=0)
        assert list_rejects(conn, "oj", 1, 10, None).items == (Reject(0, None, "key_type", "d", None),)


def test_one_key_in_several_rows_keeps_the_order_of_the_file(registry):
    key = registry.key("store=1/brand=a")
    start(registry)
    with registry.database.write() as conn:
        rows = [(n, artifact(key, what)) for n, what in enumerate(("a", "a", "b", "a"))]
        checkpoint(conn, "oj", 1, staged=rows, rejects=[], rows=4, proved=4)
    assert [push(registry, 1) for _ in range(4)] == [3, 2, 1, 0]
    with registry.database.read() as conn:
        found = newest(conn, "oj", key)
    assert found is not None
    assert (found.number, found.digest) == (3, digest("a"))
    assert (shown(registry).registered, shown(registry).unchanged) == (3, 1)


def test_imports_are_listed_newest_first(registry):
    for n in range(3):
        start(registry, f"file {n}")
    with registry.database.read() as conn:
        assert [item.number for item in list_imports(conn, "oj")] == [3, 2, 1]


def test_an_import_that_never_was_is_not_found(registry):
    with registry.database.read() as conn:
        for call in (get_import, resume_row):
            with pytest.raises(ImportNotFoundError):
                call(conn, "oj", 1)
        with pytest.raises(ImportNotFoundError):
            list_rejects(conn, "oj", 1, 10, None)
