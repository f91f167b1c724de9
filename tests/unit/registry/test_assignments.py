"""Of two that write the next assignment of a pool one loses, and nothing of it happens."""

import threading

from registry.assignments import assignment_body, assignment_numbers, store_assignment
from registry.revision import read_revision


def stored(registry):
    with registry.database.read() as conn:
        numbers = assignment_numbers(conn)
        return {pool: (number, assignment_body(conn, pool)) for pool, number in numbers.items()}


def store(registry, pool, before, body):
    with registry.database.write() as conn:
        return store_assignment(conn, pool, before, body)


def revision(registry):
    with registry.database.read() as conn:
        return read_revision(conn)[1]


def test_a_pool_without_an_assignment_has_number_0_and_an_empty_body(registry):
    with registry.database.read() as conn:
        assert assignment_numbers(conn) == {}
        assert assignment_body(conn, "default") == "{}"


def test_each_assignment_replaces_the_one_it_names_and_counts_as_a_change(registry):
    before = revision(registry)
    assert store(registry, "default", 0, '{"a":1}')
    assert store(registry, "default", 1, '{"a":2}')
    assert store(registry, "gpu", 0, '{"b":1}')
    assert stored(registry) == {"default": (2, '{"a":2}'), "gpu": (1, '{"b":1}')}
    assert revision(registry) == before + 3


def test_who_decided_on_an_older_one_changes_nothing(registry):
    assert store(registry, "default", 0, "first")
    before = revision(registry)
    assert not store(registry, "default", 0, "late")
    assert not store(registry, "default", 2, "early")
    assert not store(registry, "gpu", 1, "of nothing")
    assert stored(registry) == {"default": (1, "first")}
    assert revision(registry) == before


def test_of_many_that_write_at_once_one_wins(registry):
    won = []
    start = threading.Barrier(6)

    def write(name):
        start.wait()
        if store(registry, "default", 0, name):
            won.append(name)

    threads = [threading.Thread(target=write, args=(f"w{number}",)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert stored(registry) == {"default": (1, won[0])}
