"""More is asked than can be answered: what is still answered in time, and what follows.

`python -m benchmarks.overload` asks for predicts that take milliseconds each, by the clock and without regard to what
becomes of them, at 0.3, 2 and 5 times what a server takes, each time at 0.3 after that. Beside ours (a serving process,
and a gateway before a worker) it asks the limit, the same server that refuses nobody, and the rival, Envoy with its
adaptive concurrency before that. An answer is good if it is right and took at most a second; a caller would not wait
longer.
"""

import argparse
import json
import math
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

import lightgbm as lgb
import numpy as np

from benchmarks import fleet
from benchmarks.control import Control
from benchmarks.ledger import Asked, Entry, outcomes
from benchmarks.machine import LOAD_CORE, SERVER_CORE, machine
from benchmarks.payloads import write_lines
from benchmarks.processes import Served, house, load, place, tree
from benchmarks.report import Figure, as_text, say, write_into
from deploy.local.front import Front
from deploy.local.house import House, Kind

TREES: Final = 1000
ROWS: Final = 100  # of a request
PATH: Final = f"/v1/groups/{fleet.GROUP}/predict"
SERVICES: Final = (Kind("discovery"), Kind("worker"), Kind("builder", listens=False), Kind("gateway"))
UNLOADED: Final = 0.3
TIMES: Final = (2.0, 5.0)
GOOD_SECONDS: Final = 1.0
WARM_SECONDS: Final = 1.0  # at the start of each load, in which a rush may still queue
ENDLESS: Final = "86400"  # seconds of work that may lie before a request of a server that refuses nobody


@dataclass(frozen=True)
class Subject:
    """A server that is asked; `behind` is where what stands behind it takes whatever comes, to find its capacity."""

    name: str
    port: int
    behind: int


def large_model() -> lgb.Booster:
    """A model of so many trees that a request takes milliseconds."""
    table = fleet.rows(2000)
    data = lgb.Dataset(table, fleet.sales(table, np.random.default_rng(5)), feature_name=list(fleet.FEATURES))
    wanted = {"objective": "regression", "num_leaves": fleet.LEAVES, "num_threads": 1, "verbosity": -1}
    return lgb.train(wanted, data, TREES)


def prepared(control: Control, folder: Path, model: lgb.Booster) -> tuple[Path, Path]:
    """One model that is live; the body of a request for it, and what it answers first."""
    control.create_group()
    control.register(fleet.key_of(0), model.model_to_string().encode())
    control.until_live(fleet.key_of(0))
    table = fleet.rows(ROWS)
    rows = [dict(zip(fleet.FEATURES, row.tolist(), strict=True)) for row in table]
    for row in rows:
        row.update({name: int(row[name]) for name in fleet.WHOLE})
    store, brand = fleet.key_of(0)
    body = json.dumps({"key": {"store": store, "brand": brand}, "instances": rows}).encode()
    expected = folder / "expected.json"
    expected.write_text(json.dumps([{"1": float(model.predict(table[:1], num_threads=1)[0])}]))
    return write_lines(folder / "large.jsonl", [body]), expected


def asked(subject: Subject, files: tuple[Path, Path], rate: float, seconds: float) -> list[Entry]:
    """What came of requests at a rate."""
    burst = max(1, round(rate / 100))
    return outcomes(Asked([subject.port], PATH, *files), rate=rate, burst=burst, seconds=seconds)


def is_good(one: Entry) -> bool:
    """Whether a request was answered right and in time."""
    return one.wrong is None and one.took <= GOOD_SECONDS


def figures(subject: Subject, files: tuple[Path, Path], seconds: float) -> list[Figure]:
    """One server, unloaded, overloaded, and unloaded again."""
    capacity = load(subject.behind, PATH, files[0], "--connections", "8", "--seconds", "3").rate
    calm = asked(subject, files, UNLOADED * capacity, seconds)
    unloaded = _p99([one.took for one in calm])
    found = []
    for times in TIMES:
        steady = [one for one in asked(subject, files, times * capacity, seconds) if one.at >= WARM_SECONDS]
        good = [one.took for one in steady if is_good(one)]
        share = len(good) / (seconds - WARM_SECONDS) / capacity
        p99 = _p99(good)
        refusals = Counter((one.wrong or "too late")[:60] for one in steady if not is_good(one))
        beside = (
            f"{len(good):,} of {len(steady):,} answered in time, p50 {1000 * median(good or [math.nan]):.0f} ms, "
            f"p99 {1000 * p99:.0f} ms (unloaded {1000 * unloaded:.0f} ms); others: "
            + ("; ".join(f"{count:,} x {what}" for what, count in refusals.most_common(2)) or "none")
        )
        found.append(Figure(f"{subject.name}: good answers at {times:g} x, over its capacity", share, "x", beside))
        after = asked(subject, files, UNLOADED * capacity, seconds)
        late = max((one.at for one in after if not is_good(one)), default=0.0)
        found.append(Figure(f"{subject.name}: seconds after {times:g} x until all is well", late, "s"))
        time.sleep(GOOD_SECONDS)
    return found


def _p99(values: Sequence[float]) -> float:
    return float(np.percentile(values, 99)) if values else math.nan


@contextmanager
def subjects(folder: Path, model: lgb.Booster) -> Iterator[tuple[list[Subject], tuple[Path, Path]]]:
    """All servers, each with the model; whatever scores stands on one core and all else on the other."""
    with ExitStack() as stack:
        ours = stack.enter_context(house(folder / "ours"))
        bare = stack.enter_context(house(folder / "bare", environment={"MANYMODELS_QUEUE_SECONDS": ENDLESS}))
        cluster = stack.enter_context(House(folder, services=SERVICES))
        [gateway] = cluster.of("gateway")
        files = prepared(Control(gateway.port), folder, model)
        for server in (ours, bare):
            prepared(Control(server.port), folder, model)
        rival = Front(folder, [bare.port], _adaptive)
        rival.start()
        stack.callback(rival.kill)
        cluster["builder-1"].stop()
        _place(cluster, (ours, bare))
        yield (
            [
                Subject("one process", ours.port, ours.port),
                Subject("gateway and worker", gateway.port, gateway.port),
                Subject("refusing nobody", bare.port, bare.port),
                Subject("Envoy before that", rival.port, bare.port),
            ],
            files,
        )


def _place(cluster: House, servers: Sequence[Served]) -> None:
    for server in servers:
        server.place(SERVER_CORE)
    for service, core in ((cluster.of("worker")[0], SERVER_CORE), (cluster.of("gateway")[0], LOAD_CORE)):
        for pid in tree(service.pid):
            place(pid, core)


def _adaptive(body: dict[str, Any]) -> None:
    """Envoy's own load shedding, before a server that answers 503 to nobody: no probes, no second tries."""
    resources = body["static_resources"]
    connections = resources["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    connections["route_config"]["virtual_hosts"][0]["routes"] = [
        {"match": {"prefix": "/"}, "route": {"cluster": "gateways", "timeout": "75s"}}
    ]
    kind = "type.googleapis.com/envoy.extensions.filters.http.adaptive_concurrency.v3.AdaptiveConcurrency"
    controller = {
        "sample_aggregate_percentile": {"value": 50},
        "concurrency_limit_params": {"concurrency_update_interval": "0.1s"},
        "min_rtt_calc_params": {"interval": "30s", "request_count": 25, "jitter": {"value": 10}},
    }
    shedding = {"@type": kind, "gradient_controller_config": controller, "enabled": {"default_value": True}}
    connections["http_filters"].insert(0, {"name": "envoy.filters.http.adaptive_concurrency", "typed_config": shedding})
    cluster = resources["clusters"][0]
    del cluster["health_checks"], cluster["outlier_detection"]
    most = {"max_connections": 100_000, "max_pending_requests": 100_000, "max_requests": 100_000}
    cluster["circuit_breakers"]["thresholds"] = [most]


def main() -> None:
    """Measure and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overload", description=__doc__)
    parser.add_argument("--seconds", type=float, default=6.0, help="of each load")
    parser.add_argument("--write", type=Path, metavar="FILE", help="replace the table of this document")
    given = parser.parse_args()
    for fact in machine():
        say(fact)
    found: list[Figure] = []
    with (
        tempfile.TemporaryDirectory(prefix="manymodels-bench-") as root,
        subjects(Path(root), large_model()) as (servers, files),
    ):
        for subject in servers:
            found += figures(subject, files, given.seconds)
            say(as_text(found[-2 * len(TIMES) :]))
    if given.write is not None:
        write_into(given.write, "benchmarks.overload", found)


if __name__ == "__main__":
    main()
