"""Answers leave in one write where they can, and nothing that is held is ever lost."""

import asyncio

from gateway.protocol import JOINED_BYTES, HeadHolder
from tests.support.transport import Recorder

HEAD = b"HTTP/1.1 200 OK\r\n\r\n"


def run(work):
    async def main():
        recorder = Recorder()
        await work(HeadHolder(recorder, asyncio.get_running_loop()))
        return recorder

    return asyncio.run(main())


def test_a_head_and_its_body_leave_in_one_write():
    async def work(holder):
        holder.write(HEAD)
        holder.write(b"body")
        await asyncio.sleep(0)

    assert run(work).writes == [HEAD + b"body"]


def test_a_long_body_leaves_right_behind_its_head():
    body = b"x" * (JOINED_BYTES + 1)

    async def work(holder):
        holder.write(HEAD)
        holder.write(body)
        await asyncio.sleep(0)

    assert run(work).writes == [HEAD + body]


def test_a_head_that_nothing_follows_leaves_with_the_next_step_of_the_loop():
    async def work(holder):
        holder.write(HEAD)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        holder.write(b"late")

    assert run(work).writes == [HEAD, b"late"]


def test_closing_sends_what_is_held_first():
    async def work(holder):
        holder.write(HEAD)
        holder.close()
        await asyncio.sleep(0)

    recorder = run(work)
    assert recorder.writes == [HEAD]
    assert recorder.closed


def test_everything_else_is_the_transports_own():
    async def work(holder):
        holder.write(b"HTTP/1.1 100 Continue"[:4])
        assert holder.is_closing() is False

    assert run(work).writes == [b"HTTP"]
