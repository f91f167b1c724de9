"""What was written is looked at again when it has settled."""

import queue

from registry.artifacts.settling import Settling


def test_each_is_looked_at_once_in_order():
    looked = queue.Queue()
    settling = Settling(looked.put, seconds=0.01)
    for name in "abc":
        settling.add(name)
    assert [looked.get(timeout=10) for _ in range(3)] == ["a", "b", "c"]
    settling.add("d")
    assert looked.get(timeout=10) == "d"


def test_a_look_that_fails_is_repeated():
    looked, seen = queue.Queue(), []

    def look(name):
        seen.append(name)
        if len(seen) < 3:
            raise ConnectionError("away")
        looked.put(name)

    Settling(look, seconds=0.01).add("a")
    assert looked.get(timeout=10) == "a"
    assert seen == ["a"] * 3
