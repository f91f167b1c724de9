"""A blocking query is kept going whatever its index does."""

import queue
import threading

import pytest

from discovery.consul.watch import Watch


class Server:
    """Answers queries one by one with what a test hands it; notes the index that each was asked with."""

    def __init__(self):
        self.answers = queue.Queue()
        self.asked = []

    def __call__(self, index, wait):
        self.asked.append(index)
        answer = self.answers.get(timeout=30)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def server():
    return Server()


@pytest.fixture
def watched(server):
    """A watch that is under way, and what it took."""
    taken = queue.Queue()
    watch = Watch("tests", server, taken.put)
    server.answers.put(("7", "first"))
    watch.start()
    assert taken.get(timeout=10) == "first"
    yield watch, taken
    watch.stop()
    server.answers.put(("1", "the end"))


def test_the_first_answer_is_there_when_the_start_is_over(server):
    taken = []
    watch = Watch("tests", server, taken.append)
    server.answers.put(("7", "first"))
    watch.start()
    assert taken == ["first"]
    assert server.asked[0] is None
    watch.stop()
    server.answers.put(("1", "the end"))


def test_a_start_that_fails_starts_nothing(server):
    threads = threading.active_count()
    server.answers.put(OSError("away"))
    with pytest.raises(OSError, match="away"):
        Watch("tests", server, print).start()
    assert threading.active_count() == threads


def test_each_query_holds_the_index_of_the_answer_before(server, watched):
    _, taken = watched
    server.answers.put(("9", "second"))
    server.answers.put(("9", "third"))
    assert [taken.get(timeout=10) for _ in range(2)] == ["second", "third"]
    server.answers.put(("9", "fourth"))
    taken.get(timeout=10)
    assert server.asked[:4] == [None, "7", "9", "9"]


@pytest.mark.parametrize("index", ["3", "0"])
def test_an_index_that_fell_or_is_none_is_forgotten(server, watched, index):
    _, taken = watched
    server.answers.put((index, "anew"))
    assert taken.get(timeout=10) == "anew"
    server.answers.put(("4", "then"))
    assert taken.get(timeout=10) == "then"
    assert server.asked[:3] == [None, "7", None]


def test_after_a_failure_the_index_is_forgotten_and_the_watch_goes_on(server, watched):
    watch, taken = watched
    server.answers.put(ConnectionError("refused"))
    server.answers.put(ConnectionError("refused"))
    server.answers.put(("2", "back"))
    assert taken.get(timeout=10) == "back"
    assert server.asked[:4] == [None, "7", None, None]
    assert watch.failures == 2


def test_what_take_raises_is_a_failure_like_another(server):
    taken = queue.Queue()

    def take(answer):
        if answer == "odd":
            raise ValueError(answer)
        taken.put(answer)

    watch = Watch("tests", server, take)
    server.answers.put(("7", "first"))
    watch.start()
    server.answers.put(("8", "odd"))
    server.answers.put(("8", "good"))
    assert [taken.get(timeout=10) for _ in range(2)] == ["first", "good"]
    watch.stop()
    server.answers.put(("1", "the end"))


def test_an_answer_that_comes_after_the_stop_is_not_taken(server, watched):
    watch, taken = watched
    watch.stop()
    server.answers.put(("8", "late"))
    watch._thread.join(10)
    assert taken.empty()
