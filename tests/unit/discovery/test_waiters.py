import asyncio
import threading

import pytest

from discovery.errors import WatchersFullError
from discovery.waiters import Waiters


async def enrolled(waiters, entered):
    async with waiters.woken() as woken:
        entered.release()
        await woken


async def enrol(waiters, count):
    entered = asyncio.Semaphore(0)
    tasks = [asyncio.create_task(enrolled(waiters, entered)) for _ in range(count)]
    for _ in tasks:
        await entered.acquire()
    return tasks


def test_a_thread_wakes_all_waiters_of_all_loops():
    waiters, ready = Waiters(10), threading.Barrier(3)

    async def wait():
        tasks = await enrol(waiters, 3)
        ready.wait(10)
        await asyncio.gather(*tasks)

    loops = [threading.Thread(target=asyncio.run, args=(wait(),)) for _ in range(2)]
    for loop in loops:
        loop.start()
    ready.wait(10)
    assert len(waiters) == 6
    waiters.wake()
    for loop in loops:
        loop.join(10)
        assert not loop.is_alive()
    assert len(waiters) == 0


def test_past_the_limit_a_waiter_is_refused_and_a_free_place_is_given_again():
    async def scenario():
        waiters = Waiters(2)
        tasks = await enrol(waiters, 2)
        with pytest.raises(WatchersFullError) as caught:
            async with waiters.woken():
                pass
        assert caught.value.code == "watchers_full"
        tasks[0].cancel()
        await asyncio.wait(tasks[:1])
        tasks = tasks[1:] + await enrol(waiters, 1)
        waiters.wake()
        await asyncio.gather(*tasks)

    asyncio.run(scenario())


def test_close_ends_all_waits_now_and_from_then_on():
    async def scenario():
        waiters = Waiters(1)
        tasks = await enrol(waiters, 1)
        waiters.close()
        await asyncio.gather(*tasks)
        async with waiters.woken() as woken:
            await woken
        assert waiters.closed

    asyncio.run(scenario())


def test_a_loop_that_is_gone_does_no_harm():
    waiters, left = Waiters(2), []

    async def leave_behind():
        context = waiters.woken()
        await context.__aenter__()
        left.append(context)

    asyncio.run(leave_behind())
    waiters.wake()
