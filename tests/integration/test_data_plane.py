"""The rows of bulks: within their deadline, and never behind what waits for a disk."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import orjson
import pyarrow as pa

from gateway.data import plane
from gateway.data.answers import AnswerReader
from gateway.data.rows import RowReader
from gateway.settings import Settings
from tests.support.constant import SIGNATURE, constant
from tests.support.house import running_house
from tests.support.tables import STREAM, arrow_stream, made_live, read_stream
from tests.support.views import view

KEY = {"store": "1", "brand": "a"}
LARGE = orjson.dumps({"columns": [*KEY, "price"], "data": [[*KEY.values(), 1.0]] * 10_000})


def test_bulks_are_answered_while_all_threads_for_sql_wait(tmp_path):
    assert len(LARGE) > plane.INLINE_BYTES
    with running_house(tmp_path, sql_threads=1) as house:
        group = house.create("g", signature=SIGNATURE)
        made_live(house, group, [{**KEY, "model": constant(3)}])
        written = threading.Event()
        waiting = house.assembly.context.executor.submit(written.wait)
        stream = arrow_stream(pa.table({name: [value] for name, value in (KEY | {"price": 1.0}).items()}))
        try:
            by_json = house.client.post(f"{group}/predict/bulk", content=LARGE)
            by_arrow = house.client.post(f"{group}/predict/bulk", content=stream, headers=STREAM)
            assert not waiting.done()
        finally:
            written.set()
    assert by_json.json()["predictions"] == [3.0] * 10_000
    assert read_stream(by_arrow.content)["sales"].to_pylist() == [3.0]


def answered(receive, *, query=b"", **fields):
    """Status and code with which a data plane refuses a bulk."""
    sent = []

    async def send(message):
        sent.append(message)

    async def main():
        context = plane.Context(**(dict.fromkeys(plane.Context.__dataclass_fields__) | fields))
        data = plane.DataPlane(context)
        seen = view()
        data._group = lambda name: (seen, RowReader(seen.signature), AnswerReader(seen.signature))
        await data.bulk("g", {"headers": [], "query_string": query}, receive, send, b"id")

    asyncio.run(main())
    return sent[0]["status"], orjson.loads(sent[1]["body"])["code"]


def test_the_deadline_of_a_bulk_counts_reading_its_rows(monkeypatch):
    read = threading.Event()
    monkeypatch.setattr(plane, "read_json_bulk", lambda *_: read.wait())

    async def receive():
        return {"type": "http.request", "body": LARGE}

    with ThreadPoolExecutor(2) as computing:
        try:
            refused = answered(receive, settings=Settings(request_seconds=0.01), computing=computing)
        finally:
            read.set()
    assert refused == (503, "deadline_exceeded")


def test_parameters_are_refused_before_the_body_is_read():
    async def receive():
        raise AssertionError

    assert answered(receive, query=b"level=1", settings=Settings()) == (400, "parameter_invalid")
