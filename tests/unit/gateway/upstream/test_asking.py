"""What becomes of a call, over real sockets: whom it asks, when it is tried again, and that it ends."""

import asyncio
import time
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NamedTuple

import numpy as np
import pytest

from gateway.upstream import upstream as upstreams
from gateway.upstream.asking import Asking, Means
from gateway.upstream.connection import ConnectionLostError
from gateway.upstream.health import PROBES
from gateway.upstream.routes import choose
from gateway.upstream.upstream import Upstream
from manymodels.retries import PER_SECOND, WINDOW_SECONDS, RetryBudget
from registry.errors import PartitionNotFoundError, StoreAwayError
from workers.client import ModelUse, ScoreAnswer, ScoreCall
from workers.errors import (
    ModelLoadError,
    OverloadedError,
    ReleaseNotReadyError,
    SegmentDamagedError,
    WorkersUnreachableError,
)
from workers.features import Features
from workers.hop.frames import COLD, AnswerFrames, answer_frame, call_frame, frames
from workers.hop.routes import ALONE, HEALTH, NOW, WELL

HANG, CLOSE = object(), object()
QUEUE_SECONDS = 0.5


class Late(NamedTuple):
    """An answer that takes so long."""

    seconds: float
    frames: bytes


class Worker:
    """A server that answers as its script says: a function of path and calls to frames, `HANG` or `CLOSE`."""

    def __init__(self, script):
        self.script = script
        self.seen = []  # path and how many calls came together
        self.deaf = False  # whether it answers no probe either

    async def talk(self, reader, writer):
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                path = head.split(b" ", 2)[1]
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                calls = list(frames(await reader.readexactly(length)))
                self.seen.append((path, len(calls)))
                said = WELL if path == HEALTH and not self.deaf else self.script(path, len(calls))
                if isinstance(said, Late):
                    await asyncio.sleep(said.seconds)
                    said = said.frames
                if said is HANG:
                    await asyncio.sleep(60)
                if said is CLOSE:
                    break
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(said), said))
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def house(*scripts, others=True):
    """Workers that answer by these scripts, and upstreams to them that are known to be well.

    `others` is whether any worker besides one that hangs answers its probes.
    """
    async with AsyncExitStack() as stack:
        workers, found = [], []
        for script in scripts:
            worker = Worker(script)
            server = await stack.enter_async_context(await asyncio.start_server(worker.talk, "127.0.0.1", 0))
            workers.append(worker)
            found.append(
                Upstream(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", QUEUE_SECONDS, lambda _: others)
            )
            stack.callback(found[-1].close)
            stack.callback(found[-1].give_up, "the test is over")
            await found[-1].probe()
        yield workers, found


def scored(value=1.0):
    use = ModelUse("store=1", 1, 7, 0, None)
    return answer_frame(ScoreAnswer(np.array([[value]]), (use,), {}), 7)


def good(_path, calls):
    return scored() * calls


CALL = call_frame(ScoreCall("g", 7, (("1",),), None, Features(None, cells=[1.0]), 0, frozenset()))


def asking(found, seconds=5.0, budget=None):
    return Asking(Means(budget or RetryBudget(), AnswerFrames(), seconds), tuple(found), 2)


def asking_without_budget(found):
    budget = RetryBudget()
    made = asking(found, budget=budget)
    while budget.take(asyncio.get_running_loop().time()):
        pass
    return made


def run(work):
    return asyncio.run(work)


def test_calls_that_come_together_go_together():
    async def work():
        async with house(good) as ([worker], found):
            answers = await asyncio.gather(*(asking(found).begin(CALL) for _ in range(10)))
            assert [answer.scores.item() for answer in answers] == [1.0] * 10
            assert [calls for path, calls in worker.seen if path == NOW] == [10]

    run(work())


def test_a_cold_model_is_asked_for_alone_and_its_neighbours_do_not_wait():
    def script(path, calls):
        return COLD + scored(2.0) * (calls - 1) if path == NOW else scored(3.0)

    async def work():
        async with house(script) as ([worker], found):
            answers = await asyncio.gather(*(asking(found).begin(CALL) for _ in range(3)))
            assert [answer.scores.item() for answer in answers] == [3.0, 2.0, 2.0]
            assert worker.seen[1:] == [(NOW, 3), (ALONE, 1)]

    run(work())


@pytest.mark.parametrize("fails", [lambda *_: CLOSE, lambda *_: HANG], ids=["closes", "hangs"])
def test_what_one_worker_fails_at_another_is_asked_alone(fails, monkeypatch):
    monkeypatch.setattr(upstreams, "TRY_SECONDS", 0.05)

    async def work():
        async with house(fails, good) as ([_, other], found):
            found[1].in_flight += 1  # so that the first is asked first
            answers = await asyncio.gather(*(asking(found).begin(CALL) for _ in range(3)))
            assert [answer.scores.item() for answer in answers] == [1.0] * 3
            assert [path for path, _ in other.seen if path == ALONE]
            assert all(calls == 1 for path, calls in other.seen if path == ALONE)

    run(work())


@pytest.mark.parametrize("problem", [ReleaseNotReadyError, ModelLoadError, SegmentDamagedError, StoreAwayError])
def test_what_is_wrong_with_one_worker_sends_its_caller_on(problem):
    def lacking(_path, calls):
        return answer_frame(problem("not here"), 7) * calls

    async def work():
        async with house(lacking, good) as (_, found):
            found[1].in_flight += 1
            assert isinstance(await asking(found).begin(CALL), ScoreAnswer)
        async with house(lacking, lacking) as (_, found):
            with pytest.raises(problem):
                await asking(found).begin(CALL)

    run(work())


def test_a_key_that_one_worker_cannot_serve_is_asked_for_elsewhere():
    def broken(_path, calls):
        return answer_frame(ScoreAnswer(np.array([[np.nan]]), (None,), {0: ModelLoadError("disk full")}), 7) * calls

    def unknown(_path, calls):
        return answer_frame(ScoreAnswer(np.array([[np.nan]]), (None,), {0: PartitionNotFoundError("none")}), 7) * calls

    async def work():
        async with house(broken, good) as (_, found):
            found[1].in_flight += 1
            assert (await asking(found).begin(CALL)).problems == {}
        async with house(broken, broken) as (_, found):
            with pytest.raises(ModelLoadError):
                await asking(found).begin(CALL)
        async with house(unknown, good) as ([_, other], found):
            found[1].in_flight += 1
            assert isinstance((await asking(found).begin(CALL)).problems[0], PartitionNotFoundError)
            assert [path for path, _ in other.seen] == [HEALTH]

    run(work())


def test_what_every_worker_would_refuse_is_refused_at_once():
    def refusing(_path, calls):
        return answer_frame(PartitionNotFoundError("no model"), 7) * calls

    async def work():
        async with house(refusing, good) as ([_, other], found):
            found[1].in_flight += 1
            with pytest.raises(PartitionNotFoundError):
                await asking(found).begin(CALL)
            assert [path for path, _ in other.seen] == [HEALTH]

    run(work())


def test_a_call_is_tried_once_more_and_not_for_ever():
    async def work():
        async with house(*[lambda *_: CLOSE] * 4) as (workers, found):
            with pytest.raises(WorkersUnreachableError):
                await asking(found).begin(CALL)
            assert sum(path != HEALTH for worker in workers for path, _ in worker.seen) == 2

    run(work())


def test_workers_that_refuse_connections_are_passed_over_at_no_cost():
    async def work():
        async with house(good, good, good, good) as (_, found):
            for one in found[:3]:
                one._port = 9  # where nobody listens
                one.give_up("gone")
            assert isinstance(await asking_without_budget(found).begin(CALL), ScoreAnswer)

    run(work())


def test_a_second_try_that_meets_workers_that_refuse_connections_takes_from_the_budget_once():
    async def work():
        budget = RetryBudget()
        async with house(lambda *_: CLOSE, good, good, good) as (_, found):
            for number, one in enumerate(found):
                one.in_flight += number  # so that they are asked in this order
            for one in found[1:3]:
                one._port = 9  # where nobody listens
                one.give_up("gone")
            for _ in range(PER_SECOND * WINDOW_SECONDS):
                assert budget.take(asyncio.get_running_loop().time())
            call = Asking(Means(budget, AnswerFrames(), 5.0), tuple(found), 4)  # and one more for having begun
            assert isinstance(await call.begin(CALL), ScoreAnswer)
            assert not budget.take(asyncio.get_running_loop().time())

    run(work())


def test_without_budget_nothing_is_sent_again():
    async def work():
        async with house(lambda *_: CLOSE, good) as ([_, other], found):
            found[1].in_flight += 1
            with pytest.raises(WorkersUnreachableError):
                await asking_without_budget(found).begin(CALL)
            assert [path for path, _ in other.seen] == [HEALTH]

    run(work())


def test_a_call_that_may_wait_ends_at_its_deadline():
    async def work():
        async with house(lambda *_: HANG) as (_, found):
            with pytest.raises(WorkersUnreachableError):
                await asking(found, seconds=0.1).waiting(ALONE, CALL)

    run(work())


def test_the_worker_with_fewer_calls_in_flight_is_asked():
    async def work():
        async with house(good, good) as ([one, other], found):
            found[0].in_flight += 5
            await asking(found).begin(CALL)
            assert [path for path, _ in one.seen] == [HEALTH]
            assert [path for path, _ in other.seen] == [HEALTH, NOW]

    run(work())


def test_where_most_are_left_out_those_that_answer_no_probe_are_asked_last():
    async def work():
        async with house(good, good, good) as (_, found):
            now = asyncio.get_running_loop().time()
            for one in found[1:]:
                one.record.probed(now, well=False)
                one.record.probed(now, well=False)
            assert {choose(found, [], now, 3) for _ in range(9)} == {found[0]}
            assert choose(found, found[:1], now, 3) in found[1:]
            found[1].record.well = True  # it answers now, and is left out for a while all the same
            assert {choose(found, [], now, 3) for _ in range(9)} == set(found[:2])

    run(work())


def test_where_nobody_answers_a_probe_those_that_refuse_connections_are_asked_last():
    async def work():
        async with house(good, good, good) as (_, found):
            now = asyncio.get_running_loop().time()
            for one in found[1:]:
                one.record.probed(now, well=False)
                one.record.probed(now, well=False)
                one.in_flight += 1
            there = found[0]._port
            found[0]._port = 9  # where nobody listens
            with pytest.raises(ConnectionLostError):
                await found[0]._open(1.0)
            assert {choose(found, [], now, 3) for _ in range(9)} == set(found[1:])
            assert choose(found, found[1:], now, 3) is found[0]
            found[0]._port = there
            await found[0]._open(1.0)
            assert {choose(found, [], now, 3) for _ in range(9)} == {found[0]}

    run(work())


def test_workers_that_all_refuse_are_asked_hardly_more_often_than_without_a_second_try():
    def refusing(_path, calls):
        return answer_frame(StoreAwayError("away"), 7) * calls

    async def work():
        budget = RetryBudget()
        async with house(refusing, refusing) as (workers, found):
            for _ in range(50):
                calls = [asking(found, budget=budget).begin(CALL) for _ in range(100)]
                answers = await asyncio.gather(*calls, return_exceptions=True)
                assert {type(answer) for answer in answers} == {StoreAwayError}
            sent = sum(calls for worker in workers for path, calls in worker.seen if path != HEALTH)
            free = PER_SECOND * WINDOW_SECONDS
            assert 5000 < sent <= 1.1 * 5000 + free + 1

    run(work())


async def found_hanging(worker, upstream):
    """From now on a worker answers no probe, and its upstream knows."""
    worker.deaf = True
    for _ in range(PROBES):
        await upstream.probe()
    assert upstream.record.hangs


def test_a_worker_that_answers_no_probe_gives_up_what_it_was_asked(monkeypatch):
    monkeypatch.setattr(upstreams, "PROBE_SECONDS", 0.05)

    async def work():
        async with house(lambda *_: HANG, good) as ([worker, _], found):
            found[1].in_flight += 1
            call = asyncio.ensure_future(asking(found).waiting(ALONE, CALL))
            await found_hanging(worker, found[0])
            assert isinstance(await call, ScoreAnswer)

    run(work())


def begun(asked):
    return asked.begin(CALL)


def waited_for(asked):
    return asyncio.ensure_future(asked.waiting(ALONE, CALL))


@pytest.mark.parametrize("asked", [begun, waited_for])
def test_what_a_hanging_worker_was_asked_stays_with_it_while_the_budget_gives_no_second_try(monkeypatch, asked):
    monkeypatch.setattr(upstreams, "PROBE_SECONDS", 0.05)

    async def work():
        async with house(lambda path, calls: Late(0.4, good(path, calls)), good) as ([worker, other], found):
            found[1].in_flight += 1
            call = asked(asking_without_budget(found))
            await found_hanging(worker, found[0])
            await found[0].probe()
            assert not call.done()
            assert isinstance(await call, ScoreAnswer)
            assert [path for path, _ in other.seen] == [HEALTH]

    run(work())


@pytest.mark.parametrize("asked", [begun, waited_for])
def test_what_a_hanging_worker_was_asked_goes_elsewhere_as_soon_as_the_budget_gives_it_a_second_try(monkeypatch, asked):
    monkeypatch.setattr(upstreams, "PROBE_SECONDS", 0.05)

    async def work():
        budget = RetryBudget()
        async with house(lambda *_: HANG, good) as ([worker, _], found):
            found[1].in_flight += 1
            call = asked(asking(found, budget=budget))
            while budget.take(asyncio.get_running_loop().time()):
                pass
            await found_hanging(worker, found[0])
            await found[0].probe()
            assert not call.done()
            budget.called(asyncio.get_running_loop().time(), 100)
            await found[0].probe()
            assert isinstance(await asyncio.wait_for(call, 2.0), ScoreAnswer)

    run(work())


def test_a_worker_that_answers_again_is_asked_on_connections_that_wait_for_nothing(monkeypatch):
    monkeypatch.setattr(upstreams, "PROBE_SECONDS", 0.05)
    hanging = [True]

    async def work():
        async with house(lambda path, calls: HANG if hanging[0] else good(path, calls), good) as ([worker, _], found):
            found[1].in_flight += 1
            calls = [asking(found).begin(CALL)]
            await found_hanging(worker, found[0])
            worker.deaf = hanging[0] = False
            await found[0].probe()
            found[1].in_flight += 10
            calls += [asking(found[:1]).begin(CALL) for _ in range(3)]
            assert all(
                isinstance(answer, ScoreAnswer) for answer in await asyncio.wait_for(asyncio.gather(*calls), 2.0)
            )

    run(work())


def test_a_late_answer_is_taken_where_no_other_could_be_asked(monkeypatch):
    monkeypatch.setattr(upstreams, "TRY_SECONDS", 0.05)

    def late(path, calls):
        return Late(0.2, good(path, calls))

    async def work():
        async with house(late, good) as ([_, other], found):  # the budget is spent
            found[1].in_flight += 1
            assert isinstance(await asking_without_budget(found).begin(CALL), ScoreAnswer)
            assert [path for path, _ in other.seen] == [HEALTH]
        async with house(late) as (_, found):  # there is no other
            assert isinstance(await asking(found).begin(CALL), ScoreAnswer)
        async with house(late, lambda *_: CLOSE) as (_, found):  # the other fails
            found[1].in_flight += 1
            assert isinstance(await asking(found).begin(CALL), ScoreAnswer)

    run(work())


def test_a_late_call_is_asked_for_besides_where_somebody_is_there(monkeypatch):
    monkeypatch.setattr(upstreams, "TRY_SECONDS", 0.05)

    async def work():
        async with house(lambda *_: HANG, good, good) as (_, found):
            found[1].in_flight += 1
            found[2].in_flight += 2
            found[1]._port = 9  # where nobody listens
            found[1].give_up("gone")
            call = Asking(Means(RetryBudget(), AnswerFrames(), 5.0), tuple(found), 3)
            assert isinstance(await asyncio.wait_for(call.begin(CALL), 2.0), ScoreAnswer)

    run(work())


def test_calls_that_wait_behind_a_late_one_are_tried_elsewhere_as_well(monkeypatch):
    monkeypatch.setattr(upstreams, "TRY_SECONDS", 0.05)
    monkeypatch.setattr(upstreams, "NOW_CONNECTIONS", 1)

    async def work():
        async with house(lambda *_: HANG, good) as ([hanging, _], found):
            found[1].in_flight += 10
            first = asking(found).begin(CALL)
            await asyncio.sleep(0.01)
            second = asking(found).begin(CALL)
            assert all(isinstance(answer, ScoreAnswer) for answer in await asyncio.gather(first, second))
            assert [calls for path, calls in hanging.seen if path == NOW] == [1]

    run(work())


def test_a_call_that_nobody_else_can_be_asked_for_is_given_up_only_where_its_worker_hangs_for_long(monkeypatch):
    monkeypatch.setattr(upstreams, "PROBE_SECONDS", 0.05)

    async def asked_of_a_second_that_hangs(script):
        async with house(lambda *_: CLOSE, script) as ([_, second], found):
            found[1].in_flight += 1
            call = asyncio.ensure_future(asking(found).waiting(ALONE, CALL))
            await found_hanging(second, found[1])
            return await call

    async def work():
        answer = await asked_of_a_second_that_hangs(lambda path, calls: Late(0.3, good(path, calls)))
        assert isinstance(answer, ScoreAnswer)
        monkeypatch.setattr(upstreams, "LOST_SECONDS", 0.0)
        with pytest.raises(WorkersUnreachableError):
            await asked_of_a_second_that_hangs(lambda *_: HANG)

    run(work())


def test_where_no_worker_answers_its_probes_what_they_were_asked_is_not_given_up(monkeypatch):
    monkeypatch.setattr(upstreams, "PROBE_SECONDS", 0.05)

    async def work():
        async with house(lambda path, calls: Late(0.3, good(path, calls)), others=False) as ([worker], found):
            call = asking(found).begin(CALL)
            await found_hanging(worker, found[0])
            assert isinstance(await call, ScoreAnswer)

    run(work())


def slow(path, calls):
    """Each call takes a hundredth of a second, as a worker's do that answers one after another."""
    return Late(0.01 * calls, good(path, calls)) if path != HEALTH else WELL


def learned(found):
    """Have upstreams know that a call takes a hundredth of a second."""
    now = asyncio.get_running_loop().time()
    for one in found:
        for at in range(100):
            one._gate.answered(now + (at - 99) * 0.01, 0.01, 1, behind=1)


def test_of_slow_models_few_go_together_so_that_none_is_given_up():
    async def work():
        async with house(slow) as ([worker], found):
            learned(found)
            answers = await asyncio.gather(*(asking(found).begin(CALL) for _ in range(30)))
            assert [answer.scores.item() for answer in answers] == [1.0] * 30
            assert worker.seen[1:] == [(NOW, 1)] * 30

    run(work())


def test_where_too_much_work_lies_before_a_call_another_worker_is_asked_and_then_nobody():
    async def work():
        async with house(slow, slow) as (workers, found):
            learned(found)
            budget, calls = RetryBudget(), []
            with pytest.raises(OverloadedError):
                calls.extend(asking(found, budget=budget).begin(CALL) for _ in range(1000))
            assert len(calls) == pytest.approx(2 * QUEUE_SECONDS / 0.01, abs=2)
            answers = await asyncio.gather(*calls)
            assert [answer.scores.item() for answer in answers] == [1.0] * len(calls)
            assert budget._retries == 0
            assert sum(calls for worker in workers for path, calls in worker.seen if path == NOW) == len(calls)
            assert isinstance(await asking(found).begin(CALL), ScoreAnswer)

    run(work())


def test_who_waits_for_a_connection_of_its_own_is_refused_where_that_takes_too_long_and_a_bulk_is_not(monkeypatch):
    monkeypatch.setattr(upstreams, "ALONE_CONNECTIONS", 1)

    def cold(path, calls):
        return COLD * calls if path == NOW else Late(0.05, good(path, calls))

    async def work():
        async with house(cold) as (_, found):
            now = asyncio.get_running_loop().time()
            for at in range(100):
                found[0]._gate_alone.answered(now + (at - 99) * 0.2, 0.2, 1, behind=1)
            bulks = [asyncio.ensure_future(asking(found).waiting(ALONE, CALL)) for _ in range(5)]
            await asyncio.sleep(0)
            with pytest.raises(OverloadedError):
                await asking(found).begin(CALL)
            assert all(isinstance(answer, ScoreAnswer) for answer in await asyncio.gather(*bulks))

    run(work())


def test_a_probe_whose_end_this_process_is_too_late_to_hear_says_nothing_of_the_worker():
    async def work():
        async with house(good) as ([worker], [found]):
            for _ in range(3):
                probe = asyncio.ensure_future(found.probe())
                await asyncio.sleep(0)
                time.sleep(2 * upstreams.PROBE_SECONDS)  # noqa: ASYNC251 - the one loop of both hears nobody meanwhile
                await probe
            assert not found.record.hangs
            worker.deaf, worker.script = True, lambda *_: HANG
            for _ in range(2):
                await found.probe()
            assert found.record.hangs

    run(work())
