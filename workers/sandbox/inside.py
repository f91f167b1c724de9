"""What happens in a sandbox's child: models are loaded and asked, one at a time.

A module of functions with the loaded models beside them, because a child is given jobs by a function's dotted name.
The library of a runtime is imported when its first model is loaded: a fleet of one kind loads one library.
"""

import gc
import resource
import time
from collections.abc import Iterator
from typing import Final

from workers.children.child import mapped, note
from workers.memory import limit_arenas
from workers.runtimes.finding import found_runtime
from workers.runtimes.runtime import LoadedModel
from workers.sandbox.wire import LoadOrder, PredictOrder, features_of, joined, loaded, read_order, refusal, scores

PREPARE: Final = f"{__name__}:prepare"
LOAD: Final = f"{__name__}:load"
PREDICT: Final = f"{__name__}:predict"
TIGHT_SHARE: Final = 0.75
MOMENT_SECONDS: Final = 0.001
COLLECT_AFTER: Final = (50_000, 20, 50)  # models are many objects and no garbage

_models: Final[dict[int, LoadedModel]] = {}


def prepare() -> None:
    """Before the limits stand. What every model needs is imported with this module."""
    limit_arenas()
    gc.set_threshold(*COLLECT_AFTER)


def load(catalog: bytes, payload: bytes) -> Iterator[bytes]:
    """A job: load one model. `catalog` is the dotted name of the function that knows the runtimes."""
    order: LoadOrder = read_order(payload)
    for number in order.dropped:
        _models.pop(number, None)
    try:
        _models[order.number] = found_runtime(catalog.decode(), order.runtime).load(order.data, order.binding)
    except Exception as error:  # noqa: BLE001 - whatever a library raises of a stranger's bytes is told
        yield refusal(error, tight=_is_tight())
    else:
        yield loaded()


def predict(_catalog: bytes, payload: bytes) -> Iterator[bytes]:
    """A job: have models answer, each its rows. Quick ones share a message, and none waits long for others."""
    orders: list[PredictOrder] = read_order(payload)
    answers: list[bytes] = []
    sent = time.perf_counter()
    for item, order in enumerate(orders):
        note(item)
        try:
            answers.append(scores(_models[order[0]].predict(features_of(order))))
        except Exception as error:  # noqa: BLE001 - as above
            answers.append(refusal(error, tight=_is_tight()))
        if time.perf_counter() - sent > MOMENT_SECONDS:
            yield joined(answers)
            answers, sent = [], time.perf_counter()
    if answers:
        yield joined(answers)


def _is_tight() -> bool:
    """Whether so little memory is left that even a good model may fail."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return limit != resource.RLIM_INFINITY and mapped() > TIGHT_SHARE * limit
