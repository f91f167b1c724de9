"""Callers who send a byte a second, stop in the middle, or never read what they asked for: they are let go within some
seconds, their memory with them, and nobody else notices.
"""

import asyncio
import json
import time
from pathlib import Path

import pytest

from gateway.stalls import STALL_SECONDS
from manymodels import Client
from tests.support.ledger import callers_of_each, traffic
from tests.support.processes import descendants
from tests.support.served import served
from tests.support.stores import GROUP, PREDICT, asking, flowing_on, import_stores, key, value, wrong
from tests.support.waiting import until

STORES = range(1, 9)
RATE = 50
CROWD = 200  # of callers of each kind
SLACK = 5.0  # until a stall is seen, on a busy machine
MEBIBYTE = 1 << 20
BULK = f"/v1/groups/{GROUP}/predict/bulk"
HEAD = f"POST {PREDICT} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n".encode()


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    root = tmp_path_factory.mktemp("house")
    with served(root / "home") as running, Client(running.url) as client:
        import_stores(client, root, STORES)
        until(lambda: value(client, 1) == 1001, 60, "the fleet")
        yield running


def memory(house):
    """Bytes in memory of all its processes but the builder and its children, which come and go."""
    [builder] = [pid for pid in house.children() if Path(f"/proc/{pid}/comm").read_text() == "mm-builder\n"]
    found = 0
    for pid in {house.process.pid, *descendants(house.process.pid)} - {builder, *descendants(builder)}:
        status = Path(f"/proc/{pid}/status").read_text()
        found += int(status.partition("RssAnon:")[2].split()[0]) * 1024
    return found


async def dripping(port, first, rest):
    """Send a byte a second after the first ones, until the other end closes; how long it took, and what was said."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    began = time.monotonic()
    try:
        writer.write(first)
        said = asyncio.ensure_future(reader.read())
        for byte in rest:
            done, _ = await asyncio.wait({said}, timeout=1.0)
            if done:
                break
            writer.write(bytes([byte]))
        try:
            return time.monotonic() - began, await said
        except ConnectionResetError:  # a byte was on its way as the other end closed: that can cost the answer
            return time.monotonic() - began, b""
    finally:
        writer.close()


async def never_reading(port, request):
    """Ask again and again and read nothing, until the other end closes; how long it took."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    reader._transport.pause_reading()  # else the loop itself reads
    began = time.monotonic()
    try:
        while True:
            writer.write(request)
            async with asyncio.timeout(2 * STALL_SECONDS):
                await writer.drain()
            await asyncio.sleep(0.05)
    except ConnectionError:
        return time.monotonic() - began
    finally:
        writer.close()


def test_callers_who_drip_are_let_go_and_cost_nobody_anything(house):
    drips = [(HEAD[:20], HEAD[20:]), (HEAD + b"{", b" " * 999), (b"", b"\r\n" * 500)]

    async def crowd():
        return await asyncio.gather(*(dripping(house.port, *drip) for drip in drips for _ in range(CROWD)))

    with callers_of_each(house.port, 1, times=2) as callers, traffic(callers, RATE, asking(STORES)) as flowing:
        flowing_on(flowing, RATE)
        before = memory(house)
        ends = asyncio.run(crowd())
        grown = memory(house) - before
        flowing_on(flowing, RATE)
    assert len(ends) == 3 * CROWD
    assert max(seconds for seconds, _ in ends) < STALL_SECONDS + SLACK
    assert min(seconds for seconds, _ in ends) > STALL_SECONDS - 1
    told = [said for _, said in ends if said]
    assert len(told) > 0.9 * len(ends)
    assert all(said.startswith(b"HTTP/1.1 408 ") for said in told)
    assert grown < 64 * MEBIBYTE
    assert wrong(flowing.outcomes) == []


def test_callers_who_never_read_are_let_go_and_cost_nobody_anything(house):
    rows = [{**key(store), "price": 1.0} for store in STORES] * 2000
    body = json.dumps({"rows": rows}).encode()
    head = f"POST {BULK} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    request = head.encode() + body

    async def crowd():
        return await asyncio.gather(*(never_reading(house.port, request) for _ in range(4)))

    with callers_of_each(house.port, 1, times=2) as callers, traffic(callers, RATE, asking(STORES)) as flowing:
        flowing_on(flowing, RATE)
        ends = asyncio.run(crowd())
        flowing_on(flowing, RATE)
    print(f"let go after {', '.join(f'{seconds:.1f}' for seconds in ends)} s")
    assert len(ends) == 4
    assert wrong(flowing.outcomes) == []


@pytest.mark.parametrize(
    ("more", "status"),
    [
        (b"".join(b"x-%d: a\r\n" % number for number in range(5000)), 431),
        (b"x: " + b"a" * 100_000 + b"\r\n", 431),
        (b"transfer-encoding: chunked\r\n", 400),
        (b"content-length: 5\r\n", 400),
        (b"content-length: +5\r\n", 400),
        (b"x: a\nhost: y\r\n", 400),
        (b" folded: a\r\n", 400),
    ],
    ids=["5000 headers", "a long one", "two framings", "two lengths", "a signed length", "a bare line end", "folded"],
)
def test_heads_that_two_servers_might_read_differently_or_that_are_too_large_are_refused(house, more, status):
    async def answered():
        reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
        writer.write(HEAD[:-2] + more + b"\r\n" + b" " * 1000)
        async with asyncio.timeout(STALL_SECONDS):
            said = await reader.read()  # to its end: the connection closes
        writer.close()
        return said

    assert asyncio.run(answered()).startswith(b"HTTP/1.1 %d " % status)
