"""From a Parquet file of ten thousand models to answers, and from one new model or one `disable` to answers.

Each clock starts before the request is sent and stops when a predict shows the change, so that it holds everything
between: upload, proof in a builder child, segment, promotion, and the serving process taking it up.
"""

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, Final

import orjson

from benchmarks import payloads
from benchmarks.control import Control, query, until
from benchmarks.fleet import GROUP, UNUSED, Key, keys, model_text, rows
from benchmarks.payloads import BULK, PREDICT
from benchmarks.processes import house
from benchmarks.report import Figure, say, spread

TIMES: Final = 5


def import_figures(home: Path, parquet: Path, *, models: int) -> list[Figure]:
    """Import the fleet into a new home, then change single models of it; leaves the home ready to be served again."""
    with house(home) as served:
        control = Control(served.port)
        control.ready()
        control.create_group()
        say(f"importing {models:,} models")
        started = time.perf_counter()
        control.import_fleet(parquet)
        seconds = time.perf_counter() - started
        answered = _answering(control, models)
        changed = keys(models)[:: models // TIMES][:TIMES]
        hotfixes = [_hotfix(control, key, seed) for seed, key in enumerate(changed)]
        rewritten = max(_changed_shards(control))
        disables = [_disable(control, key) for key in changed]
    size = parquet.stat().st_size / 1e6
    return [
        Figure(
            f"{models:,} models from Parquet to live, all proved",
            seconds,
            "s",
            f"{models / seconds:,.0f} models/s from a file of {size:,.0f} MB; {answered:,} of {models:,} answer",
            most=120.0,
        ),
        Figure(
            "one-model hotfix to live",
            median(hotfixes),
            "s",
            f"{spread(hotfixes, 's', 2)}; shards rewritten by one hotfix: {rewritten}",
            most=1.0,
        ),
        Figure("disable to live", median(disables), "s", spread(disables, "s", 2), most=1.0),
    ]


def _answering(control: Control, models: int) -> int:
    """How many of all keys have an answer."""
    known = keys(models)
    answered = 0
    for start in range(0, models, payloads.BULK_KEYS):
        chosen = known[start : start + payloads.BULK_KEYS]
        answer = control.call("POST", BULK, orjson.loads(payloads.bulk(chosen, rows(len(chosen)).tolist())))
        answered += sum(prediction is not None for prediction in answer["predictions"])
    return answered


def _hotfix(control: Control, key: Key, seed: int) -> float:
    model = model_text(UNUSED + seed)
    body = payloads.single(key, rows(1)[0].tolist())
    version = control.call("POST", PREDICT, body)["model"]["version"]

    def live() -> bool:
        return bool(control.call("POST", PREDICT, body)["model"]["version"] == version + 1)

    return _timed(lambda: control.register(key, model), live)


def _disable(control: Control, key: Key) -> float:
    body = payloads.single(key, rows(1)[0].tolist())
    path = f"/v1/groups/{GROUP}/holds?{query(key)}"

    def hold() -> None:
        control.call("PUT", path, {"action": "disable", "reason": "negative answers"})

    def refused() -> bool:
        return control.ask("POST", PREDICT, body)[0] == 404

    seconds = _timed(hold, refused)
    control.call("DELETE", path, expect=204)
    return seconds


def _timed(act: Callable[[], Any], done: Callable[[], bool]) -> float:
    started = time.perf_counter()
    act()
    until(done, "changed")
    return time.perf_counter() - started


def _changed_shards(control: Control) -> list[int]:
    """Shards that each hotfix release rewrote (all releases but the first, which is the import's)."""
    releases = control.call("GET", f"/v1/groups/{GROUP}/releases")["releases"]
    return [release["report"]["changed_shards"] for release in releases if release["number"] > 1]
