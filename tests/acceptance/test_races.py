"""A hundred callers register at once, through both processes of a house: the same bytes are one version whoever comes
first, different ones are all kept, and none is refused.
"""

from concurrent.futures import ThreadPoolExecutor

import pytest

from manymodels import Client
from tests.support.constant import ROW, SIGNATURE, constant
from tests.support.served import served
from tests.support.stores import GROUP, key
from tests.support.waiting import until

RACERS = 100


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    with served(tmp_path_factory.mktemp("house") / "home", processes=2) as running, Client(running.url) as client:
        client.create_group(GROUP, key=["store", "brand"], signature=SIGNATURE, auto_release=False)
        yield running


def racing(house, store, model):
    """What is told to each of them; `model` makes what the n-th one registers."""

    def one(number):
        with Client(house.url) as client:
            return client.register(GROUP, key(store), model(number))

    with ThreadPoolExecutor(RACERS) as racers:
        return list(racers.map(one, range(RACERS)))


def test_the_same_model_is_one_version(house):
    told = racing(house, 1, lambda _: constant(1001))
    assert {one.version for one in told} == {1}
    assert len({one.digest for one in told}) == 1


def test_different_models_are_all_kept_and_the_last_version_goes_live(house):
    told = racing(house, 2, lambda number: constant(2000 + number))
    assert sorted(one.version for one in told) == list(range(1, RACERS + 1))
    last = next(number for number, one in enumerate(told) if one.version == RACERS)
    with Client(house.url) as client:
        client.promote(GROUP, client.release(GROUP).number)
        until(lambda: client.predict(GROUP, key(2), [ROW]).predictions == [2000 + last], 30, "the last version")
