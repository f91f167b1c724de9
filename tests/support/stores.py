"""A fleet of stores whose every model answers a number of its own, so that any answer tells whose it is.

The model of store n answers 1000 + n while the first release is live.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from manymodels import Client
from manymodels.errors import ApiError
from tests.support.constant import ROW, SIGNATURE, constant, fleet_file
from tests.support.ledger import Outcome, Traffic, failed
from tests.support.waiting import until

GROUP = "oj"
PREDICT = f"/v1/groups/{GROUP}/predict"


def key(store: int) -> dict[str, str]:
    return {"store": str(store), "brand": "a"}


def import_stores(
    client: Client,
    folder: Path,
    stores: Sequence[int],
    *,
    more: Mapping[str, bytes] | None = None,
    cached: Sequence[int] = (),
    fallback: Sequence[Sequence[str]] = (),
    replicas: int | None = None,
) -> None:
    """A group of these stores, live soon, with `more` models by their keys' text.

    The models of the `cached` ones are no packs: each worker has them in its cache.
    """
    client.create_group(GROUP, key=["store", "brand"], signature=SIGNATURE, fallback=fallback, replicas=replicas)
    models = {f"store={n}/brand=a": constant(1000 + n, padding=1000 if n in cached else 0) for n in stores}
    client.import_fleet(GROUP, fleet_file(folder / "live.parquet", models | dict(more or {})))


def asking(stores: Sequence[int]) -> Callable[[int], tuple[str, Mapping[str, Any]]]:
    """The path and body of the n-th request, which asks for the stores in turn."""
    return lambda number: (PREDICT, {"key": key(stores[number % len(stores)]), "instances": [ROW]})


def value(client: Client, store: int) -> Any:
    """What is answered for a store; None while nothing is."""
    try:
        return client.predict(GROUP, key(store), [ROW]).predictions[0]
    except ApiError:
        return None


def wrong(outcomes: list[Outcome]) -> list[Outcome]:
    """Answers that are not their key's, besides those that failed."""
    return failed(outcomes) + [
        outcome
        for outcome in outcomes
        if outcome.status == 200
        and outcome.answer["predictions"][0] != 1000 + int(outcome.answer["model"]["key"].split("/")[0][6:])
    ]


def flowing_on(flowing: Traffic, requests: int) -> None:
    """Wait for so many more requests of this traffic."""
    seen = len(flowing.outcomes)
    until(lambda: len(flowing.outcomes) >= seen + requests, 60, "traffic")
