"""Who is left out, for how long, and that it is never nearly everybody."""

import pytest

from gateway.upstream.health import (
    FIRST_SECONDS,
    LONGEST_SECONDS,
    SLOW_SAMPLES,
    Record,
    eject_slow,
    is_panic,
)


def well():
    record = Record()
    record.probed(0.0, well=True)
    return record


def test_a_worker_is_left_out_until_its_first_probe():
    record = Record()
    assert record.is_out(0.0)
    record.probed(0.0, well=True)
    assert not record.is_out(0.0)


def test_one_lost_call_is_an_accident_and_two_in_a_row_are_not():
    record = well()
    record.lost(1.0)
    record.answered()
    record.lost(2.0)
    assert not record.is_out(2.0)
    record.lost(2.1)
    assert record.is_out(2.2)
    assert not record.is_out(2.1 + FIRST_SECONDS)


def test_a_refused_connection_leaves_a_worker_out_until_a_probe_finds_it():
    record = well()
    record.unreachable(1.0)
    assert record.is_out(1_000.0)
    record.probed(1_000.0, well=True)
    assert not record.is_out(1_000.0)


def test_each_ejection_in_a_row_lasts_longer_up_to_a_bound_and_a_quiet_time_forgives():
    record, now, times = well(), 0.0, []
    for _ in range(12):
        record.eject(now)
        times.append(record.until - now)
        now = record.until
    times = [round(one, 6) for one in times]
    assert times == sorted(times)
    assert (times[0], times[-1]) == (FIRST_SECONDS, LONGEST_SECONDS)
    record.probed(now + LONGEST_SECONDS + 1, well=True)
    record.eject(now + LONGEST_SECONDS + 1)
    assert record.until - (now + LONGEST_SECONDS + 1) == pytest.approx(FIRST_SECONDS)


def test_the_second_failed_probe_in_a_row_finds_a_worker_hanging_and_says_so_once():
    record = well()
    assert [record.probed(at, well=False) for at in (1.0, 2.0, 3.0)] == [False, True, False]
    assert record.is_out(1_000.0)


def test_a_worker_that_answers_calls_between_failed_probes_does_not_hang():
    record = well()
    for at in range(10):
        assert not record.probed(float(at), well=False)
        record.answered()
    assert not record.hangs
    assert not record.is_out(1_000.0)


def measured(seconds):
    record = well()
    for _ in range(SLOW_SAMPLES):
        record.answered(seconds)
    return record


def test_a_worker_that_takes_many_times_as_long_as_the_others_is_left_out():
    records = [measured(0.002), measured(0.003), measured(0.050)]
    assert eject_slow(records, 1.0) == [records[2]]
    assert records[2].is_out(1.0)
    assert records[2].samples == 0  # what it was measured by is forgotten: it is given another chance


@pytest.mark.parametrize("seconds", [(0.0001, 0.0002, 0.02), (0.05, 0.06, 0.2), (0.5,)])
def test_quick_workers_slow_houses_and_single_workers_are_nobodys_outliers(seconds):
    assert eject_slow([measured(one) for one in seconds], 1.0) == []


def test_when_most_look_ill_nobody_is_left_out():
    records = [well() for _ in range(4)]
    for record in records[:2]:
        record.eject(1.0)
    assert not is_panic(records, 1.0)
    records[2].eject(1.0)
    assert is_panic(records, 1.0)
