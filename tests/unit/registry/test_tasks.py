from concurrent.futures import ThreadPoolExecutor

import pytest

from registry.errors import GroupNotFoundError, TaskNotFoundError
from registry.records import Task
from registry.tasks import (
    claim,
    claimable,
    enqueue,
    enqueue_auto_release,
    fail,
    finish,
    get_task,
    holds_claim,
    prune,
)
from tests.support.registries import NOW, Registry

ALL = ("prove", "import", "release")


def put(registry: Registry, kind: str = "prove", **payload) -> int:
    with registry.database.write() as conn:
        return enqueue(conn, kind, "oj", payload, NOW)


def take(registry: Registry, claimant: str = "b1", alive: frozenset[str] = frozenset(), kinds=ALL) -> Task | None:
    with registry.database.write() as conn:
        return claim(conn, claimant, alive | {claimant}, kinds, NOW)


def taken(registry: Registry, *args, **kwargs) -> Task:
    task = take(registry, *args, **kwargs)
    assert task is not None
    return task


def test_tasks_are_claimed_oldest_first_and_once(registry):
    numbers = [put(registry, n=n) for n in range(3)]
    tasks = [taken(registry) for _ in numbers]
    assert [task.id for task in tasks] == numbers
    assert [task.payload for task in tasks] == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert take(registry) is None


def test_a_builder_claims_only_the_kinds_it_asks_for(registry):
    put(registry, "import")
    prove = put(registry, "prove")
    assert taken(registry, kinds=("prove", "release")).id == prove
    assert take(registry, kinds=("prove", "release")) is None


def test_whether_there_is_work_is_known_without_taking_it(registry):
    with registry.database.read() as conn:
        assert not claimable(conn, frozenset(), ALL)
    put(registry)
    with registry.database.read() as conn:
        assert claimable(conn, frozenset(), ALL)
        assert not claimable(conn, frozenset(), ("import",))
    assert take(registry) is not None
    with registry.database.read() as conn:
        assert not claimable(conn, frozenset({"b1"}), ALL)
        assert claimable(conn, frozenset({"b2"}), ALL)


def test_a_task_of_a_living_builder_is_left_alone(registry):
    put(registry)
    take(registry, "b1")
    assert take(registry, "b2", frozenset({"b1"})) is None


def test_a_task_of_a_dead_builder_is_taken_over_under_a_higher_fence(registry):
    put(registry)
    first = taken(registry, "b1")
    second = taken(registry, "b2")
    assert (second.id, first.fence, second.fence) == (first.id, 1, 2)
    with registry.database.write() as conn:
        assert not holds_claim(conn, first)
        assert holds_claim(conn, second)
        assert not finish(conn, first, {"by": "b1"})
        assert not fail(conn, first, {"code": "x"})
        assert finish(conn, second, {"by": "b2"})
        assert get_task(conn, first.id).result == {"by": "b2"}


def test_a_task_ends_once(registry):
    put(registry)
    task = taken(registry)
    with registry.database.write() as conn:
        assert fail(conn, task, {"code": "onnx", "detail": "d", "field": None, "row": 3})
        assert not finish(conn, task, {})
        ended = get_task(conn, task.id)
    assert (ended.state, ended.result) == ("failed", {"code": "onnx", "detail": "d", "field": None, "row": 3})
    assert take(registry) is None


def test_many_builders_at_once_never_share_a_task(registry):
    numbers = [put(registry) for _ in range(20)]

    def work(name: str) -> list[int]:
        return [task.id for task in iter(lambda: take(registry, name, frozenset(names)), None)]

    names = [f"b{n}" for n in range(6)]
    with ThreadPoolExecutor(len(names)) as threads:
        claimed = [number for found in threads.map(work, names) for number in found]
    assert sorted(claimed) == numbers


def test_auto_releases_of_a_group_are_queued_as_one(registry):
    key, other = registry.key("store=1/brand=a"), registry.key("brand=a/b=%".replace("/b=%", "%2Fb"))
    with registry.database.write() as conn:
        first = enqueue_auto_release(conn, "oj", [(key, 1)], NOW)
        second = enqueue_auto_release(conn, "oj", [(other, 1), (key, 2)], NOW)
        task = get_task(conn, first)
    assert first == second
    assert task.payload == {"auto": True, "set": [["store=1/brand=a", 2], ["brand=a%2Fb", 1]]}


def test_an_auto_release_under_way_is_not_added_to(registry):
    key = registry.key("store=1/brand=a")
    with registry.database.write() as conn:
        first = enqueue_auto_release(conn, "oj", [(key, 1)], NOW)
    taken(registry)
    with registry.database.write() as conn:
        second = enqueue_auto_release(conn, "oj", [(key, 2)], NOW)
        assert get_task(conn, first).payload["set"] == [[key.text, 1]]
        assert get_task(conn, second).payload["set"] == [[key.text, 2]]


def test_a_release_asked_for_by_hand_is_not_added_to(registry):
    asked = put(registry, "release", release=7)
    with registry.database.write() as conn:
        auto = enqueue_auto_release(conn, "oj", [(registry.key(""), 1)], NOW)
        assert auto != asked
        assert get_task(conn, asked).payload == {"release": 7}


def test_ended_tasks_are_forgotten_after_a_time_and_their_numbers_not_used_again(registry):
    put(registry)
    put(registry)
    ended, running = taken(registry), taken(registry)
    queued = put(registry)
    with registry.database.write() as conn:
        finish(conn, ended, {}, NOW + 10)
        assert prune(conn, NOW + 10) == 0
        assert prune(conn, NOW + 11) == 1
        with pytest.raises(TaskNotFoundError):
            get_task(conn, ended.id)
        assert get_task(conn, running.id).state == "running"
        assert get_task(conn, queued).state == "queued"
    assert put(registry) > queued


def test_work_for_no_group_is_refused(registry):
    with registry.database.write() as conn, pytest.raises(GroupNotFoundError):
        enqueue(conn, "prove", "nope", {}, NOW)
