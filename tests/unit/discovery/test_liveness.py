from discovery.liveness import observe, state_at, still_for

TTL = 3.0


def watched(looks, start=100.0, every=0.1):
    """The observation after looking at one member's counters `every` seconds."""
    seen = None
    for number, counter in enumerate(looks):
        seen = observe(seen, {"a": counter}, start + number * every, TTL)
    return seen


def test_a_member_whose_counter_moves_is_alive():
    assert state_at(watched(range(100)), "a", TTL) == "alive"


def test_a_member_is_suspect_after_half_a_ttl_without_progress_and_dead_after_a_whole_one():
    assert state_at(watched([7] * 15), "a", TTL) == "alive"
    assert state_at(watched([7] * 17), "a", TTL) == "suspect"
    assert state_at(watched([7] * 30), "a", TTL) == "suspect"
    assert state_at(watched([7] * 32), "a", TTL) == "dead"


def test_a_dead_member_that_renews_is_alive_again():
    assert state_at(watched([7] * 50 + [8]), "a", TTL) == "alive"


def test_a_counter_that_starts_anew_is_progress():
    assert state_at(watched([900] * 50 + [1]), "a", TTL) == "alive"


def test_a_fresh_reader_gives_each_member_one_ttl_however_old_its_lease():
    assert state_at(observe(None, {"a": 12345}, 5.0, TTL), "a", TTL) == "alive"
    assert state_at(watched([12345] * 29), "a", TTL) != "dead"


def test_a_member_that_comes_later_gets_its_own_grace():
    seen = watched([1] * 20)
    seen = observe(seen, {"a": 1, "b": 1}, seen.at + 0.1, TTL)
    assert state_at(seen, "a", TTL) == "suspect"
    assert state_at(seen, "b", TTL) == "alive"


def test_a_member_that_left_is_forgotten_and_starts_anew_when_it_returns():
    seen = observe(watched([1] * 40), {}, 200.0, TTL)
    assert not seen.sightings
    assert state_at(observe(seen, {"a": 1}, 200.1, TTL), "a", TTL) == "alive"


def test_a_reader_that_was_stopped_blames_nobody_for_it():
    seen = watched([1] * 5)
    seen = observe(seen, {"a": 1}, seen.at + 600.0, TTL)
    assert state_at(seen, "a", TTL) == "alive"


def test_a_reader_that_looks_rarely_still_finds_the_dead():
    seen = watched([1] * 8, every=10.0)
    assert state_at(seen, "a", TTL) == "dead"
    assert still_for(seen, "a") >= TTL


def test_looks_that_arrive_out_of_order_do_no_harm():
    seen = watched(range(10))
    late = observe(seen, {"a": 3}, seen.at - 0.5, TTL)
    assert late.at == seen.at
    assert state_at(late, "a", TTL) == "alive"
