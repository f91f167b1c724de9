"""A scan asks for a whole cold fleet, each model once, while a few models are asked for again and again: these stay in
memory and are answered as before, and the scan loads no more at once than it may.
"""

import pytest

from manymodels import Client
from tests.support.constant import ROW
from tests.support.ledger import callers_of_each, traffic
from tests.support.served import served
from tests.support.shown import metric
from tests.support.stores import PREDICT, asking, flowing_on, import_stores, value, wrong
from tests.support.waiting import until

HOT = 40
STORES = range(1, 2501)  # the first of them are the hot ones
BUDGET = 2 << 20
RATE = 100
BULK = 50
EARLIER = 800  # of the scan: they take the places of what was loaded before anybody asked
FIELDS = ("store", "brand", *ROW)
MISSED = 0.05  # of the hot requests


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """Its models are no packs, and those that fit into its cache at once are a small part of them."""
    folder = tmp_path_factory.mktemp("scan")
    with served(folder / "home", settings={"cache_bytes": BUDGET}) as running, Client(running.url) as client:
        import_stores(client, folder, STORES, cached=STORES)
        until(lambda: value(client, STORES[0]) == 1000 + STORES[0], 120, "the fleet")
        yield running


def scan(caller, stores):
    """Ask for stores by bulks; what was answered wrong."""
    found = []
    for some in (stores[start : start + BULK] for start in range(0, len(stores), BULK)):
        rows = [[str(store), "a", *ROW.values()] for store in some]
        said = caller.call("POST", f"{PREDICT}/bulk", {"columns": FIELDS, "data": rows})
        if said.status != 200 or said.answer["predictions"] != [1000 + store for store in some]:
            found.append(said)
    return found


def test_a_scan_over_the_cold_fleet_leaves_the_hot_models_in_memory(house):
    with callers_of_each(house.port, 1, times=4) as [scanning, *callers]:
        with traffic(callers, RATE, asking(STORES[:HOT])) as flowing:
            flowing_on(flowing, 4 * HOT)
            assert scan(scanning, STORES[HOT : HOT + EARLIER]) == []
            before, asked = metric(scanning, "manymodels_cache_misses_total"), len(flowing.outcomes)
            assert scan(scanning, STORES[HOT + EARLIER :]) == []
            flowing_on(flowing, 4 * HOT)
            misses = metric(scanning, "manymodels_cache_misses_total") - before
            asked = len(flowing.outcomes) - asked
            assert metric(scanning, "manymodels_cache_bytes") <= BUDGET
        cold = len(STORES) - HOT - EARLIER
        print(f"{asked} hot requests, {misses - cold:.0f} of them missed beside {cold} cold ones")
        assert misses >= cold  # none of the scan was in memory, or the figure would mean nothing
        assert misses - cold <= MISSED * asked
        assert wrong(flowing.outcomes) == []
