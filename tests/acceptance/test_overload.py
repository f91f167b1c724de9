"""More is asked than can be answered: what is taken is answered right and soon, all else is refused at once and with one
word, and when it is over, it is over. The load is open: it leaves by the clock, whatever becomes of it.
"""

import json

import pytest

from benchmarks.ledger import Asked, outcomes
from benchmarks.processes import load
from deploy.local.house import House, Kind
from manymodels import Client
from tests.support.clusters import SETTINGS, serving
from tests.support.constant import ROW, stumps
from tests.support.installed import needed
from tests.support.moody import LOOPS, moody
from tests.support.served import served
from tests.support.stores import GROUP, PREDICT, import_stores, key, value
from tests.support.waiting import until

pytestmark = pytest.mark.alone

LARGE, LOOPING = 41, 42
TREES = 3000
SLOW = {"price": LOOPS + 5000}
# What is asked: the large model, which is packed, for rows that are scored on the event loop and for some that are scored
# in a thread, and the looping one, which runs in a sandbox. Each takes some milliseconds.
ASKED = {"packed": (LARGE, [ROW] * 300), "in threads": (LARGE, [ROW] * 500), "sandboxed": (LOOPING, [SLOW])}
SECONDS = 2.0
SERVICES = (Kind("discovery"), Kind("worker"), Kind("builder", listens=False), Kind("gateway"))


@pytest.fixture(scope="module")
def port(request, tmp_path_factory):
    """Where a fleet with two models that take their time is served, in one process or by a gateway and a worker."""
    folder = tmp_path_factory.mktemp("house")
    if request.param == "serve":
        with served(folder / "home") as running:
            with Client(running.url) as client:
                import_stores(client, folder, [1])
            register(running.url)
            yield running.port
        return
    house = needed(lambda: House(folder, services=SERVICES, settings=SETTINGS))
    with serving(house, [1]):
        [gateway] = house.of("gateway")
        register(gateway.address)
        yield gateway.port


def register(url):
    with Client(url) as client:
        client.register(GROUP, key(LARGE), stumps(1000 + LARGE, TREES))
        client.register(GROUP, key(LOOPING), moody(1000.0 + LOOPING), runtime="onnx")
        for store in (LARGE, LOOPING):
            until(lambda store=store: value(client, store) == 1000 + store, 60, "the models")


@pytest.fixture
def files(kind, tmp_path):
    """A body, and what it is answered."""
    store, rows = ASKED[kind]
    bodies, expected = tmp_path / "bodies.jsonl", tmp_path / "expected.json"
    bodies.write_text(json.dumps({"key": key(store), "instances": rows}) + "\n")
    expected.write_text(json.dumps([{str(release): 1000 + store for release in range(1, 9)}]))
    return bodies, expected


@pytest.mark.parametrize(
    ("port", "kind"),
    [("serve", "packed"), ("serve", "in threads"), ("cluster", "packed"), ("cluster", "sandboxed")],
    indirect=["port"],
    scope="module",  # two kinds are asked of the same processes
)
def test_what_is_taken_is_answered_all_else_refused_at_once_and_soon_after_nobody_is(port, files):
    asked = Asked([port], PREDICT, *files)
    capacity = load(port, PREDICT, files[0], "--connections", "4", "--seconds", "1").rate
    for times in (2, 5):
        came = outcomes(asked, rate=times * capacity, burst=16, seconds=SECONDS)
        answered = [one for one in came if one.wrong is None]
        refused = [one.wrong for one in came if one.wrong is not None]
        share = len(answered) / SECONDS / capacity
        slowest = max(one.took for one in answered)
        print(f"{capacity:.0f} a second, at {times} x {share:.2f} of it answered within {slowest:.2f} s")
        assert [said for said in refused if not (said.startswith("429") and '"code":"overloaded"' in said)] == []
        assert refused or times == 2  # what a server takes is measured in a second
        assert share > 0.1  # who takes everything answers hardly anybody in time
    after = outcomes(asked, rate=0.1 * capacity, burst=1, seconds=2 * SECONDS)
    assert [one for one in after if one.wrong is not None and one.at > SECONDS] == []
