"""A model in a sandbox may do what it likes: its own rows fail, every other model answers, and the worker goes on."""

import asyncio
import os
import signal
import threading
import time

import numpy as np
import pytest

from tests.support import models
from tests.support.clocks import ManualClock
from tests.support.held import Bench, Shelf
from tests.support.models import TinyModel
from tests.support.toy_runtimes import CATALOG, CRASH, EAT, HANG, HOARD, LINGER, LINGER_SECONDS
from tests.support.waiting import until
from workers.client import ScoreCall
from workers.errors import ModelLoadError, ModelQuarantinedError, OverloadedError, PredictionFailedError
from workers.features import Features
from workers.sandbox.process import Limits
from workers.sandbox.quarantine import QUARANTINE_SECONDS, STRIKES, Quarantine
from workers.sandbox.sandbox import SandboxedModel
from workers.sandbox.sandboxes import Sandboxes
from workers.shedding import Gate

MEMORY = 1 << 30
TOYS = Limits(MEMORY, load_seconds=30.0, predict_seconds=1.0, queue_seconds=0.5, catalog=CATALOG)
RUNTIMES = ("lightgbm", "onnx", "sklearn")


@pytest.fixture
def clock():
    return ManualClock(1000.0)


@pytest.fixture
def house(tmp_path, clock):
    """Ten moody toys in one sandbox: keys 0 to 9, the same thing for a crash at load under 10."""
    sandboxes = Sandboxes(1, TOYS, runtimes=RUNTIMES, quarantine=Quarantine(clock=clock))
    toys = {name(number): TinyModel("sklearn", None, b"moody %d" % number) for number in range(10)}
    toys[name(10)] = TinyModel("sklearn", None, b"crash")
    with Bench(Shelf(tmp_path), sandboxes=sandboxes, refuse_seconds=0.0).hold(toys) as bench:
        yield bench


def name(number):
    return f"store={number}/brand=b"


def call(*rows):
    """A bulk of one row a key; of a single one a predict."""
    keys = [(str(store), "b") for store, _ in rows]
    matrix = np.array([[first, 1.0] for _, first in rows])
    many = np.arange(len(rows), dtype=np.int32) if len(rows) > 1 else None
    return ScoreCall("oj", 1, keys, many, Features(matrix), 9, frozenset())


def ask(bench, *rows):
    return asyncio.run(bench.worker.score(call(*rows)))


def problem(answer):
    return answer.problems[0]


def running(bench):
    """The child of the one sandbox that all models share."""
    return bench.loader._sandboxes._all[0]._process._child


def child(bench):
    """Its process id."""
    return running(bench)._process.pid


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_sandboxed_model_answers_what_it_answers_elsewhere(tmp_path, runtime):
    makers = {
        "lightgbm": models.lightgbm_regressor,
        "onnx": models.onnx_ridge,
        "sklearn": models.forest,
    }
    fleet = {name(number): makers[runtime](number) for number in range(4)}
    sandboxes = Sandboxes(2, Limits(4 << 30, 60.0, 30.0, 0.5), runtimes=[runtime])
    rows = [(number % 4, float(number)) for number in range(9)]
    with Bench(Shelf(tmp_path)).hold(fleet) as plain, Bench(Shelf(tmp_path), sandboxes=sandboxes).hold(fleet) as bench:
        for _ in range(2):  # cold, then warm
            assert np.array_equal(ask(bench, *rows).scores, ask(plain, *rows).scores)
            assert np.array_equal(ask(bench, rows[1]).scores, ask(plain, rows[1]).scores)
        assert all(isinstance(model, SandboxedModel) for model in bench.cache._models.values())
        assert len(bench.cache._models) == 4
        assert bench.worker.score_now(call(rows[1])) is None  # never on the event loop


@pytest.mark.parametrize(("mood", "said"), [(CRASH, "signal 11"), (HANG, "no answer in time"), (EAT, "MemoryError")])
def test_what_a_model_does_to_its_process_fails_its_own_rows_alone(house, mood, said):
    assert ask(house, (1, 5.0)).scores.tolist() == [[6.0]]
    answer = ask(house, (1, 5.0), (2, mood), (3, 7.0), (4, 8.0))
    assert list(answer.problems) == [1]
    assert isinstance(answer.problems[1], PredictionFailedError)
    assert said in answer.problems[1].detail
    assert answer.scores[[0, 2, 3], 0].tolist() == [6.0, 8.0, 9.0]
    assert ask(house, (2, 1.0)).scores.tolist() == [[2.0]]  # one slip is forgiven


def test_a_model_that_hoards_memory_is_the_only_one_that_goes_without_an_answer(house):
    before = ask(house, (1, 5.0))
    answers = [ask(house, (2, HOARD)), ask(house, (1, 5.0), (2, HOARD), (3, 7.0)), ask(house, (3, 7.0))]
    assert before.scores.tolist() == [[6.0]]
    assert [list(answer.problems) for answer in answers] == [[0], [1], []]
    assert "MemoryError" in problem(answers[0]).detail
    assert answers[1].scores[[0, 2], 0].tolist() == [6.0, 8.0]


def test_a_model_that_ends_its_process_three_times_is_asked_no_more_for_a_while(house, clock):
    for _ in range(STRIKES):
        assert isinstance(problem(ask(house, (2, CRASH))), PredictionFailedError)
    running = child_after(house, (1, 1.0))
    assert isinstance(problem(ask(house, (2, 1.0))), ModelQuarantinedError)
    assert ask(house, (1, 5.0), (2, 1.0)).problems.keys() == {1}
    assert child(house) == running
    clock.sleep(QUARANTINE_SECONDS)
    assert ask(house, (2, 1.0)).scores.tolist() == [[2.0]]
    assert isinstance(problem(ask(house, (2, CRASH))), PredictionFailedError)
    assert isinstance(problem(ask(house, (2, 1.0))), ModelQuarantinedError)


def child_after(bench, row):
    ask(bench, row)
    return child(bench)


def test_crashes_that_lie_far_apart_do_not_add_up(house, clock):
    for _ in range(STRIKES + 2):
        ask(house, (2, CRASH))
        clock.sleep(QUARANTINE_SECONDS)
    assert ask(house, (2, 1.0)).scores.tolist() == [[2.0]]


def test_a_model_that_crashes_when_it_is_loaded_is_refused_and_then_in_quarantine(house):
    for _ in range(STRIKES):
        assert isinstance(problem(ask(house, (10, 1.0))), ModelLoadError)
    assert isinstance(problem(ask(house, (10, 1.0))), ModelQuarantinedError)
    assert ask(house, (1, 5.0), (10, 1.0)).scores[0].tolist() == [6.0]


def test_a_process_that_was_killed_while_nobody_asked_is_nobodys_fault(house):
    for _ in range(STRIKES + 1):
        process = child_after(house, (2, 1.0))
        os.kill(process, signal.SIGKILL)
        until(lambda: running(house) is None or not running(house).alive, 10, "its end")
        assert ask(house, (1, 5.0), (2, 1.0)).scores[:, 0].tolist() == [6.0, 2.0]


def test_calls_that_wait_behind_a_hanging_model_are_answered(house):
    ask(house, (1, 1.0), (2, 1.0))

    async def together():
        asked = [house.worker.score(call((2, HANG)))] + [house.worker.score(call((1, float(n)))) for n in range(20)]
        return await asyncio.gather(*asked)

    late, *others = asyncio.run(together())
    assert isinstance(problem(late), PredictionFailedError)
    assert [answer.scores[0, 0] for answer in others] == [n + 1.0 for n in range(20)]


def test_a_model_that_the_cache_lets_go_is_forgotten_in_the_sandbox(house):
    ask(house, *((number, 1.0) for number in range(10)))
    sandbox = house.loader._sandboxes._all[0]
    assert len(sandbox._process.inside) == 10
    house.cache._models.clear()
    house.cache._probation.clear()
    house.cache._protected.clear()
    ask(house, (1, 1.0))
    assert len(sandbox._process.inside) == 1


def test_a_worker_that_stops_does_not_wait_for_a_hanging_model(tmp_path):
    slow = Limits(MEMORY, load_seconds=30.0, predict_seconds=100.0, queue_seconds=0.5, catalog=CATALOG)
    toys = {name(2): TinyModel("sklearn", None, b"moody")}
    with Bench(Shelf(tmp_path), sandboxes=Sandboxes(1, slow, runtimes=RUNTIMES)).hold(toys) as bench:
        ask(bench, (2, 1.0))
        jobs, answers = running(bench).jobs, []
        asking = threading.Thread(target=lambda: answers.append(ask(bench, (2, HANG))))
        asking.start()
        until(lambda: running(bench).jobs > jobs, 10, "a hanging model")
        began = time.monotonic()
    asking.join(10)
    assert time.monotonic() - began < 10
    assert "stopping" in problem(answers[0]).detail


def test_a_sandbox_that_is_closed_refuses(house):
    ask(house, (2, 1.0))
    house.loader._sandboxes.close()
    answer = problem(ask(house, (2, 1.0)))
    assert isinstance(answer, ModelLoadError)
    assert "stopping" in answer.detail


def learned(bench):
    """Have the one sandbox know how long its models linger."""
    sandbox, now = bench.loader._sandboxes._all[0], time.monotonic()
    for line in (sandbox._singles, sandbox._bulks):
        line.gate = Gate(TOYS.queue_seconds)
        for at in range(100):
            line.gate.answered(now + (at - 99) * LINGER_SECONDS, LINGER_SECONDS, 1, behind=1)


def test_singles_and_the_rows_of_bulks_take_turns(house):
    ask(house, *((number, 1.0) for number in range(10)))
    learned(house)
    ends = {}

    async def timed(what, *rows):
        answer = await house.worker.score(call(*rows))
        ends[what] = time.monotonic()
        return answer

    async def together():
        bulk = asyncio.ensure_future(timed("bulk", *((number, LINGER) for number in range(9))))
        await asyncio.sleep(0)
        singles = [timed(number, (9, LINGER)) for number in range(4)]
        return await asyncio.gather(bulk, *singles)

    bulk, *singles = asyncio.run(together())
    assert bulk.scores[:, 0].tolist() == [LINGER + 1.0] * 9
    assert [single.scores[0, 0] for single in singles] == [LINGER + 1.0] * 4
    assert max(ends[number] for number in range(4)) < ends["bulk"]  # eight turns, then the bulk's others


def test_a_single_predict_before_which_too_many_wait_is_refused_and_those_that_were_taken_are_answered(house):
    ask(house, (1, 1.0), (2, 1.0))
    learned(house)

    async def together():
        return await asyncio.gather(*(house.worker.score(call((1, LINGER))) for _ in range(60)))

    answers = asyncio.run(together())
    refused = [problem(answer) for answer in answers if answer.problems]
    assert {type(one) for one in refused} == {OverloadedError}
    assert 60 - len(refused) == pytest.approx(TOYS.queue_seconds / LINGER_SECONDS, abs=3)
    assert {answer.scores[0, 0] for answer in answers if not answer.problems} == {LINGER + 1.0}
    assert ask(house, (2, 1.0)).scores.tolist() == [[2.0]]
