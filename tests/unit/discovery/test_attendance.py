"""A seat that was left is kept for a while, by the clock of whoever looks."""

from discovery.attendance import NOBODY, attend
from discovery.snapshot import Member

GRACE = 15.0


def sitting(seat, state="alive", process="1", **said):
    metadata = {"assigned": "yes", "seat": seat, "zone": "z1", "pool": "gpu", "weight": "2", **said}
    return Member(f"{seat}-{process}", f"http://{seat}", state, ("worker",), metadata)


def look(before, members, now, named=("a", "b")):
    return attend(before, members, named, now, GRACE)


def standings(attendance):
    return {name: found.standing for name, found in attendance.seats.items()}


def test_a_seat_is_here_while_any_member_in_it_takes_requests():
    members = [sitting("a", "dead", "1"), sitting("a", "suspect", "2"), sitting("b", "draining")]
    found = look(NOBODY, members, 0.0)
    assert standings(found) == {"a": "here", "b": "awaited"}
    assert found.seats["a"].seat.weight == 2.0
    assert found.seats["a"].pool == "gpu"
    assert found.seats["b"].serves


def test_a_seat_that_was_here_is_missed_for_a_while_and_then_gone():
    found = look(NOBODY, [sitting("a"), sitting("b")], 0.0)
    found = look(found, [sitting("a"), sitting("b", "dead")], 5.0)
    assert standings(found) == {"a": "here", "b": "missed"}
    assert (found.seats["b"].seat, found.seats["b"].serves) == (look(NOBODY, [sitting("b")], 0).seats["b"].seat, False)
    found = look(found, [sitting("a")], 5.0 + GRACE - 0.1)
    assert standings(found) == {"a": "here", "b": "missed"}
    found = look(found, [sitting("a")], 5.0 + GRACE)
    assert standings(found) == {"a": "here", "b": "gone"}
    found = look(found, [sitting("a"), sitting("b", process="2")], 100.0)
    assert standings(found) == {"a": "here", "b": "here"}


def test_a_seat_that_comes_back_and_goes_again_is_missed_from_then_on():
    found = look(NOBODY, [sitting("a")], 0.0, ("a",))
    for now in (1.0, 16.0, 31.0):
        found = look(found, [], now, ("a",))
        assert standings(found) == {"a": "missed"}
        found = look(found, [sitting("a")], now + 10, ("a",))


def test_a_seat_that_this_reader_never_saw_is_awaited_and_then_gone():
    found = look(NOBODY, [], 3.0)
    assert standings(found) == {"a": "awaited", "b": "awaited"}
    assert standings(look(found, [], 3.0 + GRACE)) == {"a": "gone", "b": "gone"}


def test_a_seat_that_drains_serves_and_is_not_here():
    found = look(look(NOBODY, [sitting("a")], 0.0), [sitting("a", "draining")], 1.0, ("a",))
    assert (found.seats["a"].standing, found.seats["a"].serves) == ("missed", True)


def test_nobody_remembers_a_seat_that_no_assignment_names():
    found = look(NOBODY, [sitting("a"), sitting("b")], 0.0, ())
    assert standings(look(found, [sitting("a")], 1.0, ())) == {"a": "here"}


def test_workers_that_hold_everything_have_no_seat():
    assert standings(look(NOBODY, [Member("m", "u", "alive", ("worker",), {"seat": "a"})], 0.0, ())) == {}
