"""Predicts go to workers, all else to the server; and what one worker does not answer another does."""

from contextlib import ExitStack

import pytest

from manymodels import Client
from manymodels.direct import transport as direct
from manymodels.errors import NotFoundError
from tests.support.scripted_server import Reply, problem, serving
from tests.support.waiting import until

KEY = {"store": "2", "brand": "tropicana"}
ROW = {"price": 1.0}


def answer(number):
    model = {"key": "store=2", "version": 1, "release": 3, "deployment": "blue", "fallback_level": 0}
    return Reply(200, {"predictions": [number], "model": {**model, "trained_through": None}})


def snapshot(workers, revision="e-1"):
    members = [
        {"id": f"w-{number}", "uri": uri, "state": "alive", "services": ["worker"], "metadata": said}
        for number, (uri, said) in enumerate(workers)
    ]
    group = {
        "name": "oj", "key": ["store", "brand"], "shard_by": ["store", "brand"], "seats": {"1": [["a", "b"]]}, "moves": {},
        "deployments": {"blue": {"release": 3, "traffic": 100}}, "releases": [{"release": 3, "shards": 1}],
    }  # fmt: skip
    return Reply(200, {"revision": revision, "members": members, "groups": [group]})


class House:
    """A server and two workers at seats a and b, each with an answer of its own that a test may change."""

    def __init__(self, stack):
        self.says = {"a": answer(1.0), "b": answer(2.0), "server": answer(9.0)}
        self.workers = {seat: stack.enter_context(serving(lambda _, s=seat: self.says[s])) for seat in "ab"}
        self.snapshots = [self.shown("ab")]
        self.server = stack.enter_context(serving(self.serve))

    def shown(self, seats, revision="e-1"):
        said = [(self.workers[seat].url, {"assigned": "yes", "seat": seat}) for seat in seats]
        return snapshot(said, revision)

    def serve(self, asked):
        if asked.path.startswith("/v1/discovery/snapshot"):
            if "since=e-1" in asked.path and len(self.snapshots) < 2:
                return problem(503, "draining", "no long poll in this test")
            return self.snapshots[-1]
        return self.says["server"]

    def predicts(self):
        """How many predicts each was asked for."""
        counts = {seat: len(worker.asked) for seat, worker in self.workers.items()}
        return counts | {"server": sum(one.path.endswith("/predict") for one in self.server.asked)}


@pytest.fixture
def house(monkeypatch):
    monkeypatch.setattr(direct, "PAUSE_SECONDS", 0.02)
    with ExitStack() as stack:
        yield House(stack)


@pytest.fixture
def client(house):
    with Client(house.server.url, direct=True) as made:
        yield made


def predicted(client):
    return client.predict("oj", KEY, [ROW]).predictions[0]


def test_a_predict_goes_to_the_first_worker_of_its_shard(house, client):
    assert [predicted(client) for _ in range(3)] == [1.0] * 3
    assert house.predicts() == {"a": 3, "b": 0, "server": 0}


def test_all_else_goes_to_the_server(house, client):
    house.says["server"] = Reply(200, {"predictions": [5.0], "fallback_level": [0], "releases": {}, "errors": []})
    assert client.predict_bulk("oj", [{**KEY, **ROW}]).predictions == [5.0]
    assert house.workers["a"].asked == []


@pytest.mark.parametrize(
    "fails",
    [
        Reply(hang_up=True),
        problem(503, "release_not_ready", "not yet"),
        problem(503, "draining", "stopping"),
        problem(500, "segment_damaged", "a bit flipped on its disk"),
        problem(507, "storage_full", "its disk is full"),
    ],
)
def test_what_one_worker_does_not_answer_the_next_one_does(house, client, fails):
    house.says["a"] = fails
    assert predicted(client) == 2.0
    assert house.predicts() == {"a": 1, "b": 1, "server": 0}


def test_a_worker_that_was_lost_rests(house, client):
    house.says["a"] = Reply(hang_up=True)
    assert [predicted(client) for _ in range(5)] == [2.0] * 5
    assert house.predicts()["a"] == 1


def test_what_neither_worker_answers_the_server_is_asked(house, client):
    house.says["a"] = house.says["b"] = problem(503, "release_not_ready", "not yet")
    assert predicted(client) == 9.0


def test_what_a_worker_refuses_is_refused(house, client):
    house.says["a"] = problem(404, "partition_not_found", "no model")
    with pytest.raises(NotFoundError):
        predicted(client)
    assert house.predicts() == {"a": 1, "b": 0, "server": 0}


def test_a_new_picture_is_taken_up_and_the_last_one_stays_while_there_is_none(house, client):
    assert predicted(client) == 1.0  # the polls since then are refused, and the picture stays
    house.snapshots.append(house.shown("b", "e-2"))
    until(lambda: predicted(client) == 2.0, 30, "the new picture")


def test_without_a_picture_the_server_is_asked(house, client):
    house.snapshots = [problem(503, "snapshot_unavailable", "none yet")]
    assert predicted(client) == 9.0


def test_a_key_that_is_none_is_refused_by_the_server(house, client):
    house.says["server"] = problem(404, "partition_not_found", "told by the server")
    with pytest.raises(NotFoundError, match="told by the server"):
        client.predict("oj", {"store": "2"}, [ROW])
