"""What can be answered on the spot is, in one write; everything else takes the ordinary way and loses nothing."""

import asyncio
import re
from functools import partial

import pytest
import uvicorn
from uvicorn.server import ServerState

from gateway.protocol import PROMPT_BYTES, PromptProtocol
from gateway.reply import Later, Reply
from gateway.stalls import HEAD_BYTES
from tests.support.transport import Recorder

PROMPT = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 6\r\nx-request-id: id\r\n\r\nprompt"


class Front:
    """Answers bodies of `warm` on the spot, breaks on `broken`, and answers everything as ASGI with what it read."""

    def __init__(self):
        self.seen = []
        self.closed = False
        self.awaited = []  # what answers to `later` wait for
        self.made_of = []
        self.gate = asyncio.Event()  # what `slow` requests wait for

    def prompt_route(self, path):
        predict = re.fullmatch(rb"/v1/groups/([A-Za-z0-9._-]+)/predict", path)
        return partial(self.prompt_answer, predict[1].decode()) if predict else None

    def prompt_answer(self, group, headers, body):
        self.seen.append((group, dict(headers), body))
        if body == b"broken":
            raise RuntimeError("broken")
        if body == b"later":
            begun = asyncio.get_running_loop().create_future()
            self.awaited.append(begun)
            return Later(begun, self.made)
        return Reply(200, b"prompt", b"text/plain", b"id") if body == b"warm" else None

    def made(self, begun):
        self.made_of.append(begun.result())
        return Reply(200, begun.result(), b"text/plain", b"id")

    async def __call__(self, scope, receive, send):
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        await (self.gate.wait() if body == b"slow" else asyncio.sleep(0))
        answer = b"asgi " + scope["path"].encode() + b" " + body[:40]
        length = b"%d" % len(answer)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
        await send({"type": "http.response.body", "body": answer})


def talk(*pieces, work=None, keep_alive=75):
    """Feed a connection; answers the application, the transport and what was written at once, before any task ran."""

    async def main():
        front, transport = Front(), Recorder()
        config = uvicorn.Config(
            front, log_config=None, access_log=False, lifespan="off", ws="none", timeout_keep_alive=keep_alive
        )
        protocol = PromptProtocol(config, ServerState(), {}, asyncio.get_running_loop())
        protocol.connection_made(transport)
        for piece in pieces:
            protocol.data_received(piece)
        if work is not None:
            work(protocol)
        at_once = list(transport.writes)
        for _ in range(20):
            await asyncio.sleep(0)
        front.closed = transport.closed
        protocol.connection_lost(None)
        return front, transport, at_once

    return asyncio.run(main())


def request(body, path="/v1/groups/oj/predict", headers="", version="1.1", method="POST"):
    return f"{method} {path} HTTP/{version}\r\nhost: x\r\ncontent-length: {len(body)}\r\n{headers}\r\n{body}".encode()


def test_a_warm_predict_is_answered_where_it_was_read_in_one_write():
    front, transport, at_once = talk(request("warm", headers="X-Request-Id: 7\r\n"))
    assert at_once == transport.writes == [PROMPT]
    group, headers, body = front.seen[0]
    assert (group, headers[b"x-request-id"], body) == ("oj", b"7", b"warm")


def test_a_body_in_pieces_is_answered_with_its_last_byte():
    raw = request("warm")
    _, _, at_once = talk(*[raw[i : i + 1] for i in range(len(raw))])
    assert at_once == [PROMPT]


def test_several_requests_in_one_read_are_answered_in_order():
    _, transport, at_once = talk(request("warm") * 3)
    assert at_once == transport.writes == [PROMPT] * 3


@pytest.mark.parametrize("body", ["cold", "broken"])
def test_what_cannot_be_answered_at_once_reaches_the_application_whole(body):
    raw = request(body)
    _, transport, at_once = talk(raw[:-2], raw[-2:])
    assert at_once == []
    assert b"".join(transport.writes).endswith(b"asgi /v1/groups/oj/predict " + body.encode())


def test_a_warm_request_behind_a_cold_one_waits_its_turn():
    _, transport, _ = talk(request("cold") + request("warm"))
    written = b"".join(transport.writes)
    assert written.count(b"HTTP/1.1 200") == 2
    assert written.index(b"cold") < written.index(b"warm")
    assert b"prompt" not in written


def test_a_connection_that_answered_a_cold_one_answers_warm_ones_at_once_again():
    front, transport = Front(), Recorder()

    async def main():
        config = uvicorn.Config(front, log_config=None, access_log=False, lifespan="off", ws="none")
        protocol = PromptProtocol(config, ServerState(), {}, asyncio.get_running_loop())
        protocol.connection_made(transport)
        protocol.data_received(request("cold"))
        for _ in range(20):
            await asyncio.sleep(0)
        transport.writes.clear()
        protocol.data_received(request("warm"))
        assert transport.writes == [PROMPT]
        protocol.connection_lost(None)

    asyncio.run(main())


def test_a_long_body_takes_the_ordinary_way_from_where_it_grew_long():
    body = "x" * (PROMPT_BYTES + 10)
    raw = request(body)
    front, transport, _ = talk(raw[:1000], raw[1000:-5], raw[-5:])
    assert front.seen == []
    assert b"asgi /v1/groups/oj/predict xxx" in b"".join(transport.writes)


@pytest.mark.parametrize(
    "raw",
    [
        request("warm", version="1.0"),
        request("warm", headers="connection: close\r\n"),
        request("warm", headers="expect: 100-continue\r\n"),
        request("warm", method="PUT"),
        request("warm", path="/v1/groups/oj/predict?x=1"),
        request("warm", path="/v1/groups/oj?x=/predict"),
        request("warm", path="/v1/groups/oj#/predict"),
        request("warm", path="/v1/groups/%6fj/predict"),
        request("warm", path="/v1/groups/oj/predict/bulk"),
        request("warm", path="/v1/groups/oj"),
    ],
)
def test_everything_out_of_the_ordinary_takes_the_ordinary_way(raw):
    front, transport, _ = talk(raw)
    assert front.seen == []
    assert b"asgi /v1/groups/oj" in b"".join(transport.writes)


def test_a_slow_reader_is_not_written_to_on_the_spot():
    raw = request("warm")
    front, transport, _ = talk(raw, work=lambda protocol: (protocol.pause_writing(), protocol.data_received(raw)))
    assert len(front.seen) == 1
    assert transport.writes == [PROMPT]


def test_a_request_half_read_at_shutdown_is_answered_before_the_connection_closes():
    raw = request("warm")

    def work(protocol):
        protocol.shutdown()
        protocol.data_received(raw[-2:])

    _, transport, at_once = talk(raw[:-2], work=work)
    assert at_once == []
    assert b"asgi /v1/groups/oj/predict warm" in b"".join(transport.writes)
    assert transport.closed


CHUNKED = b"POST /v1/groups/oj/predict/bulk HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("begin", "piece"),
    [
        (b"POST /", b"a" * 8192),
        (b"POST / HTTP/1.1\r\nx: ", b"a" * 8192),
        (b"POST / HTTP/1.1\r\n", b"x: a\r\n" * 2048),
        (b"", b"\r\n" * 4096),
        (request("warm"), b"\r\n" * 4096),
        (CHUNKED + b"4\r\nwarm\r\n0\r\nx: ", b"a" * 8192),
    ],
)
def test_a_head_or_trailer_that_does_not_end_is_refused_and_the_connection_closed(begin, piece):
    front, transport, _ = talk(begin, *[piece] * (HEAD_BYTES // len(piece) + 1))
    assert front.closed
    assert transport.writes[-1].startswith(b"HTTP/1.1 431 ")


def test_a_long_head_a_long_body_and_many_requests_in_one_read_are_taken():
    long_head = request("warm", headers=f"x: {'a' * (HEAD_BYTES - 200)}\r\n")
    assert talk(long_head[:30_000], long_head[30_000:])[2] == [PROMPT]
    many = request("warm") * 1000
    assert talk(many[:-10], many[-10:])[2] == [PROMPT] * 1000
    pieces = [b"1000\r\n" + b"x" * 4096 + b"\r\n"] * 40
    front, transport, _ = talk(CHUNKED, *pieces, b"0\r\n\r\n")
    assert not front.closed
    assert b"asgi /v1/groups/oj/predict/bulk xxx" in b"".join(transport.writes)


def test_an_idle_connection_closes_at_shutdown():
    _, transport, _ = talk(request("warm"), work=lambda protocol: protocol.shutdown())
    assert transport.writes == [PROMPT]
    assert transport.closed


def test_a_connection_that_asks_nothing_more_is_closed_after_a_while():
    assert talk(request("warm"), keep_alive=0)[0].closed
    assert not talk(request("warm"))[0].closed


def test_a_connection_is_not_closed_while_the_second_of_two_requests_is_under_way():
    front, transport = Front(), Recorder()

    async def main():
        config = uvicorn.Config(
            front, log_config=None, access_log=False, lifespan="off", ws="none", timeout_keep_alive=0
        )
        protocol = PromptProtocol(config, ServerState(), {}, asyncio.get_running_loop())
        protocol.connection_made(transport)
        protocol.data_received(request("warm") + request("cold") + request("slow"))
        for _ in range(20):
            await asyncio.sleep(0)
        protocol._idle_due()
        assert (len(transport.writes), transport.closed) == (2, False)
        front.gate.set()
        for _ in range(20):
            await asyncio.sleep(0)
        protocol.connection_lost(None)

    asyncio.run(main())


def test_a_connection_is_not_closed_in_the_middle_of_a_request():
    raw = request("warm")
    assert not talk(raw, raw[:-2], keep_alive=0)[0].closed


def talk_later(*pieces, work):
    """As `talk`, but `work` is a coroutine function of the application, the protocol and the transport."""
    front, transport = Front(), Recorder()

    async def main():
        config = uvicorn.Config(front, log_config=None, access_log=False, lifespan="off", ws="none")
        protocol = PromptProtocol(config, ServerState(), {}, asyncio.get_running_loop())
        protocol.connection_made(transport)
        for piece in pieces:
            protocol.data_received(piece)
        await work(front, protocol, transport)
        protocol.connection_lost(None)

    asyncio.run(main())
    return front, transport


async def steps():
    for _ in range(20):
        await asyncio.sleep(0)


def test_an_answer_that_comes_later_is_written_when_it_comes_and_the_connection_goes_on():
    async def work(front, protocol, transport):
        assert transport.writes == []
        front.awaited[0].set_result(b"prompt")
        await steps()
        assert transport.writes == [PROMPT]
        protocol.data_received(request("warm"))
        assert transport.writes == [PROMPT] * 2

    talk_later(request("later"), work=work)


@pytest.mark.parametrize("behind", ["warm", "cold", "later"])
def test_a_request_behind_one_whose_answer_comes_later_waits_its_turn(behind):
    async def work(front, _protocol, transport):
        await steps()
        assert transport.writes == []
        front.awaited[0].set_result(b"first!")
        await steps()

    _, transport = talk_later(request("later") + request(behind), work=work)
    written = b"".join(transport.writes)
    assert written.count(b"HTTP/1.1 200") == 2
    assert written.index(b"first!") < written.index(b"asgi")


def test_an_answer_whose_caller_left_is_still_counted_and_not_written():
    async def work(front, protocol, transport):
        protocol.connection_lost(ConnectionResetError())
        front.awaited[0].set_result(b"prompt")
        await steps()

    front, transport = talk_later(request("later"), work=work)
    assert front.made_of == [b"prompt"]
    assert transport.writes == []


def test_an_answer_that_is_awaited_at_shutdown_is_sent_and_then_the_connection_closes():
    async def work(front, protocol, transport):
        protocol.shutdown()
        assert not transport.closed
        front.awaited[0].set_result(b"prompt")
        await steps()
        assert transport.closed

    _, transport = talk_later(request("later"), work=work)
    assert b"connection: close\r\n" in transport.writes[0]
    assert transport.writes[0].endswith(b"prompt")
