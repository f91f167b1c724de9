"""A model that crashes, never ends or fills the memory when it is asked the wrong thing: its own request fails, nobody
else's does, no serving process is lost, and after three times it is asked no more.
"""

import os
import signal
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from deploy.local.house import House, Kind
from manymodels import Client
from tests.support.clusters import SETTINGS, all_ask, callers_of_gateways, serving
from tests.support.constant import ROW
from tests.support.installed import needed
from tests.support.ledger import callers_of_each, traffic
from tests.support.moody import ENDLESS, GREEDY, moody
from tests.support.processes import descendants, living
from tests.support.served import served
from tests.support.stores import GROUP, PREDICT, asking, flowing_on, import_stores, key, value, wrong
from tests.support.waiting import until

STORES = range(1, 17)
NATIVE = range(9, 17)  # in the sandboxes, beside the moody ones
CRASHING, LOOPING, HOARDING, LOST = 61, 62, 63, 64
MOODY = (CRASHING, LOOPING, HOARDING, LOST)
RATE = 60
PROCESSES = 2
SANDBOXED = {
    "sandboxed_runtimes": "lightgbm,onnx,sklearn",
    "sandbox_bytes": 2 << 30,
    "predict_seconds": 2.0,
}
predict = asking(STORES)


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    root = tmp_path_factory.mktemp("house")
    with served(root / "home", processes=PROCESSES, settings=SANDBOXED) as running, Client(running.url) as client:
        import_stores(client, root, STORES, cached=NATIVE)
        for store in MOODY:
            client.register(GROUP, key(store), moody(1000.0 + store), runtime="onnx")
        client.promote(GROUP)
        for store in (*STORES, *MOODY):
            until(lambda store=store: value(client, store) == 1000 + store, 60, "the fleet")
        yield running


@pytest.fixture
def callers(house):
    """Two connections to each serving process."""
    with callers_of_each(house.port, PROCESSES, times=2) as found:
        for caller in found:  # each process has all models before the test looks at the traffic
            for store in (*STORES, LOOPING, HOARDING, LOST):
                assert caller.call("POST", PREDICT, body(store, ROW)).status == 200
        yield found


def body(store, row):
    return {"key": key(store), "instances": [row]}


def sandboxes(pid):
    """The processes in which models run, of all below a process."""
    return {child for child in descendants(pid) if b"workers.sandbox" in Path(f"/proc/{child}/cmdline").read_bytes()}


def processor_ticks(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11])


def busy(pid, spent):
    """The sandbox that works, if one does: it spent a while since its ticks were noted."""
    return next((child for child in sandboxes(pid) if processor_ticks(child) > spent.get(child, 0) + 30), None)


def crash(caller, pid, store):
    """Have a model crash as it answers: what a fault in its code does, done to it from outside."""
    assert caller.call("POST", PREDICT, body(store, ROW)).status == 200  # it is loaded, so what works answers
    spent = {child: processor_ticks(child) for child in sandboxes(pid)}
    outcomes = []
    asking_ = threading.Thread(target=lambda: outcomes.append(caller.call("POST", PREDICT, body(store, ENDLESS))))
    asking_.start()
    os.kill(until(lambda: busy(pid, spent), 10, "a model at work"), signal.SIGSEGV)
    asking_.join()
    return outcomes[0]


def told(outcome):
    return outcome.status, outcome.answer["code"]


FAILED, QUARANTINED = (422, "prediction_failed"), (503, "model_quarantined")


def test_a_model_that_crashes_fails_alone_and_is_asked_no_more_after_three_times(house, callers):
    serving_ = set(house.children())
    bad, *others = callers
    with traffic(others, RATE, predict) as flowing:
        for _ in range(3):
            outcome = crash(bad, house.process.pid, CRASHING)
            assert told(outcome) == FAILED
            assert "signal 11" in outcome.answer["detail"]
            flowing_on(flowing, RATE // 2)
        assert told(bad.call("POST", PREDICT, body(CRASHING, ROW))) == QUARANTINED
        rows = [[*key(store).values(), *ROW.values()] for store in (*STORES, CRASHING)]
        bulk = bad.call("POST", f"{PREDICT}/bulk", {"columns": [*key(0), *ROW], "data": rows})
        flowing_on(flowing, RATE)
    assert wrong(flowing.outcomes) == []
    assert bulk.answer["predictions"] == [1000 + n for n in STORES] + [None]
    assert [(error["row"], error["code"]) for error in bulk.answer["errors"]] == [(len(STORES), "model_quarantined")]
    assert set(house.children()) == serving_
    print(f"slowest answer of the others {max(outcome.seconds for outcome in flowing.outcomes):.2f} s")


def test_a_model_that_never_ends_is_ended_at_its_deadline_and_delays_its_neighbours_at_most_so_long(house, callers):
    serving_ = set(house.children())
    bad, *others = callers
    with traffic(others, RATE, predict) as flowing:
        flowing_on(flowing, RATE)
        outcome = bad.call("POST", PREDICT, body(LOOPING, ENDLESS))
        flowing_on(flowing, 2 * RATE)
    assert told(outcome) == FAILED
    assert "no answer" in outcome.answer["detail"]
    assert wrong(flowing.outcomes) == []
    assert set(house.children()) == serving_
    assert bad.call("POST", PREDICT, body(LOOPING, ROW)).status == 200
    packed = [
        one.seconds for one in flowing.outcomes if int(one.answer["model"]["key"].split("/")[0][6:]) not in NATIVE
    ]
    print(f"slowest answer {max(one.seconds for one in flowing.outcomes):.3f} s, of packs {max(packed):.3f} s")


def test_a_model_that_wants_all_memory_gets_no_answer_and_costs_nobody_anything(house, callers):
    everyone = descendants(house.process.pid)
    bad, *others = callers
    with traffic(others, RATE, predict) as flowing:
        flowing_on(flowing, RATE)
        outcome = bad.call("POST", PREDICT, body(HOARDING, GREEDY))
        flowing_on(flowing, RATE)
    assert told(outcome) == FAILED
    assert wrong(flowing.outcomes) == []
    assert descendants(house.process.pid) == everyone
    assert bad.call("POST", PREDICT, body(HOARDING, ROW)).status == 200


def test_sandboxes_that_the_machine_ends_are_nobodys_fault(house, callers):
    """The kernel does that where memory is short: they are the first that it ends."""
    found = sandboxes(house.process.pid)
    assert {Path(f"/proc/{pid}/oom_score_adj").read_text().strip() for pid in found} == {"1000"}
    for pid in found:
        os.kill(pid, signal.SIGKILL)
    until(lambda: not living(found), 10, "their end")
    for caller in callers:
        for store in (*STORES, LOST):
            assert caller.call("POST", PREDICT, body(store, ROW)).answer["predictions"] == [1000 + store]
    assert len(sandboxes(house.process.pid)) == len(found)


def test_in_a_cluster_a_model_that_crashes_costs_one_sandbox_each_time_and_is_not_sent_elsewhere(tmp_path):
    settings = SETTINGS | {f"MANYMODELS_{name.upper()}": str(value) for name, value in SANDBOXED.items()}
    kinds = (Kind("discovery"), Kind("worker", 2), Kind("builder", listens=False), Kind("gateway"))
    with ExitStack() as left:
        made = needed(lambda: House(tmp_path, services=kinds, settings=settings))
        house = left.enter_context(serving(made, STORES, cached=NATIVE))
        all_ask(house, 2)
        client = left.enter_context(Client(house["gateway-1"].address))
        client.register(GROUP, key(CRASHING), moody(1000.0 + CRASHING), runtime="onnx")
        client.promote(GROUP)
        until(lambda: value(client, CRASHING) == 1000 + CRASHING, 60, "the model")
        workers = [house[name].pid for name in ("worker-1", "worker-2")]
        bad, *others = left.enter_context(callers_of_gateways(house, times=4))
        seen = set()
        with traffic(others, RATE, predict) as flowing:
            flowing_on(flowing, RATE)
            for _ in range(2):
                before = [sandboxes(pid) for pid in workers]
                assert told(bad.call("POST", PREDICT, body(CRASHING, ENDLESS))) == FAILED
                flowing_on(flowing, RATE)
                after = [sandboxes(pid) for pid in workers]
                seen.add(sum(len(one - other) for one, other in zip(before, after, strict=True)))
        assert wrong(flowing.outcomes) == []
        assert seen == {1}
        assert all(house[name].is_running for name in ("worker-1", "worker-2"))
