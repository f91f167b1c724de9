"""A large model is loaded once a process, however many ask for it at once while it is cold."""

import asyncio
import re

import lightgbm as lgb
import orjson
import pytest

from manymodels import Client
from tests.support import models
from tests.support.ledger import callers_of_each
from tests.support.served import served
from tests.support.shown import knows, metric
from tests.support.waiting import seconds_until

GROUP = "large"
REQUESTS = 1000
FEATURES = {"inputs": [{"name": "price"}, {"name": "feat"}], "outputs": [{"name": "sales"}]}
TREES = 1000  # some tens of milliseconds to load: all requests arrive meanwhile


@pytest.fixture(scope="module")
def model():
    """One that no pack represents, so that it must be loaded."""
    table = models.frame(400, 0)
    params = models.LIGHTGBM_PARAMS | {"objective": "regression", "linear_tree": True}
    booster = lgb.train(params, lgb.Dataset(table, models.target(table, 0), params=params), num_boost_round=TREES)
    return models.TinyModel("lightgbm", booster, booster.model_to_string().encode())


@pytest.fixture(scope="module")
def house(tmp_path_factory, model):
    home = tmp_path_factory.mktemp("large") / "home"
    settings = {"large_model_bytes": 64 * 1024}
    with served(home, processes=2, settings=settings) as running, Client(running.url) as client:
        client.create_group(GROUP, key=["store"], signature=FEATURES)
        client.register(GROUP, {"store": 1}, model.data)
        with callers_of_each(running.port, 2) as callers:
            seconds_until(
                lambda: all(knows(caller, GROUP, {"store": "1"}) for caller in callers), 60, "the first release"
            )
        yield running


async def ask(port: int, body: bytes, connected: asyncio.Barrier) -> tuple[int, str, dict]:
    """One request on a connection of its own, sent when all are connected: status, process, answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await connected.wait()
    head = f"POST /v1/groups/{GROUP}/predict HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    answered, _, content = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    found = re.search(rb"x-request-id: ([0-9a-f]+)-", answered)
    assert found is not None, answered
    return int(answered.split(b" ", 2)[1]), found.group(1).decode(), orjson.loads(content)


async def ask_all(port: int, rows: list[dict[str, float]]) -> list[tuple[int, str, dict]]:
    connected = asyncio.Barrier(len(rows))
    bodies = [orjson.dumps({"key": {"store": "1"}, "instances": [row]}) for row in rows]
    return await asyncio.gather(*(ask(port, body, connected) for body in bodies))


def test_a_thousand_first_requests_load_it_once_a_process_and_all_are_answered_right(house, model):
    with callers_of_each(house.port, 1) as [caller]:
        assert metric(caller, "manymodels_model_loads_total") == 0  # a large one is not warmed up
    table = models.frame(REQUESTS, seed=7)
    answers = asyncio.run(ask_all(house.port, table.to_dict("records")))
    assert {status for status, _, _ in answers} == {200}
    native = model.native.predict(table, num_threads=1)
    assert [answer["predictions"][0] for _, _, answer in answers] == native.tolist()
    processes = {process for _, process, _ in answers}
    with callers_of_each(house.port, 1) as [caller]:
        assert metric(caller, "manymodels_model_loads_total") == len(processes) == 2
        assert metric(caller, "manymodels_model_loads_failed_total") == 0
