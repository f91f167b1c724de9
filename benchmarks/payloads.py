"""Request bodies, made before anything is measured: one key with one row, and bulks of many distinct keys."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson

from benchmarks.fleet import FEATURES, GROUP, WHOLE, Key, keys, rows

PREDICT: Final = f"/v1/groups/{GROUP}/predict"
BULK: Final = f"/v1/groups/{GROUP}/predict/bulk"
BULK_KEYS: Final = 500
BULKS: Final = 20


def singles(models: int, count: int, seed: int = 1) -> list[bytes]:
    """Bodies of a single predict: `count` of `models` keys in random order, each key once a round."""
    random = np.random.default_rng(seed)
    order = np.concatenate([random.permutation(models) for _ in range(-(-count // models))])[:count].tolist()
    return _singles(order, keys(models), rows(count, seed))


def random_singles(models: int, count: int, seed: int = 2) -> list[bytes]:
    """Bodies of a single predict: keys drawn at random, each draw by itself."""
    order = np.random.default_rng(seed).integers(0, models, count).tolist()
    return _singles(order, keys(models), rows(count, seed))


def bulks(models: int, count: int = BULKS, seed: int = 3) -> list[bytes]:
    """Bodies of a bulk predict by columns: 500 rows of as many distinct keys each."""
    random = np.random.default_rng(seed)
    known = keys(models)
    bodies = []
    for number in range(count):
        chosen = random.permutation(models)[:BULK_KEYS].tolist()
        bodies.append(bulk([known[at] for at in chosen], rows(len(chosen), seed + number).tolist()))
    return bodies


def bulk(chosen: Sequence[Key], table: Sequence[Sequence[float]]) -> bytes:
    """One bulk body by columns, a row a key."""
    data = [[*key, *instance(row).values()] for key, row in zip(chosen, table, strict=True)]
    return orjson.dumps({"columns": ["store", "brand", *FEATURES], "data": data})


def single(key: Key, row: Sequence[float]) -> dict[str, Any]:
    """The body of a single predict of one row."""
    return {"key": {"store": key[0], "brand": key[1]}, "instances": [instance(row)]}


def instance(row: Sequence[float]) -> dict[str, Any]:
    """A row as an object by name, whole numbers as such."""
    return {name: int(value) if name in WHOLE else value for name, value in zip(FEATURES, row, strict=True)}


def write_lines(path: Path, bodies: Sequence[bytes]) -> Path:
    """One body a line, as the load generator reads them."""
    path.write_bytes(b"\n".join(bodies))
    return path


def _singles(order: Sequence[int], known: Sequence[Key], table: Any) -> list[bytes]:
    return [orjson.dumps(single(known[at], row)) for at, row in zip(order, table.tolist(), strict=True)]
