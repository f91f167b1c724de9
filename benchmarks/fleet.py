"""A fleet of distinct LightGBM models, 50 trees of 15 leaves, as the bulk Parquet that a nightly training job writes.

A hundred models are trained; the others are copies of those with digits of every leaf value and most thresholds
changed (`benchmarks.copies`), which costs a fraction of a millisecond instead of a training and leaves each model with
its own bytes, its own answers and its own heap. Everything follows from a model's number, so any process of a
benchmark can make any model of a fleet of millions again.
"""

from functools import cache
from pathlib import Path
from typing import Any, Final

import lightgbm as lgb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmarks.copies import Original

GROUP: Final = "bench"
BRANDS: Final = tuple(f"brand-{number}" for number in range(10))
FEATURES: Final = ("price", "feat", "display", "week", "income", "lag_1")
WHOLE: Final = frozenset({"feat", "display", "week"})
TREES: Final = 50
LEAVES: Final = 15
TRAINED: Final = 100
ROW_GROUP: Final = 500
UNUSED: Final = 1_000_000_000  # from here on numbers name models that are in no fleet

Key = tuple[str, str]
Doubles = NDArray[np.float64]


def group_body(*, auto_release: bool = True) -> dict[str, Any]:
    """The group as `POST /v1/groups` takes it; nothing is fed from defaults, so that every cell is really read."""
    inputs = [{"name": name, "dtype": "int64" if name in WHOLE else "float64"} for name in FEATURES]
    return {
        "name": GROUP,
        "key": ["store", "brand"],
        "signature": {"inputs": inputs, "outputs": [{"name": "sales"}]},
        "auto_release": auto_release,
    }


def key_of(number: int) -> Key:
    """The key of a model: stores of ten brands each."""
    return str(number // len(BRANDS) + 1), BRANDS[number % len(BRANDS)]


def keys(count: int, first: int = 0) -> list[Key]:
    """The keys of `count` models from number `first` on."""
    return [key_of(number) for number in range(first, first + count)]


def rows(count: int, seed: int = 7) -> Doubles:
    """Feature rows, float64, shape (count, features): whole numbers where the signature says int64."""
    random = np.random.default_rng(seed)
    return np.column_stack(
        [
            random.uniform(1, 6, count).round(2),
            random.integers(0, 2, count),
            random.integers(0, 2, count),
            random.integers(1, 53, count),
            random.uniform(9, 12, count).round(3),
            random.uniform(0, 400, count).round(1),
        ]
    )


@cache
def originals() -> tuple[Original, ...]:
    """The trained models that all others are copies of."""
    return tuple(Original(_trained(seed)) for seed in range(TRAINED))


def model_text(number: int) -> bytes:
    """The file of one model of the fleet; numbers from `UNUSED` on are models of no fleet."""
    return originals()[number % TRAINED].copy(number)


def booster(number: int) -> lgb.Booster:
    """One model of the fleet as LightGBM itself loads it."""
    return lgb.Booster(model_str=model_text(number).decode())


def write_fleet(path: Path, count: int, first: int = 0) -> int:
    """Write the bulk Parquet of `count` models from number `first` on; its bytes."""
    schema = pa.schema(
        [("store", pa.string()), ("brand", pa.string()), ("model", pa.binary()), ("runtime", pa.string())]
    )
    known = keys(count, first)
    # Written to be read once: a compression would cost more than all the rest and save a third.
    with pq.ParquetWriter(path, schema, compression="none", use_dictionary=False, write_statistics=False) as writer:
        for start in range(0, count, ROW_GROUP):
            of = range(start, min(start + ROW_GROUP, count))
            columns = [
                [known[at][0] for at in of],
                [known[at][1] for at in of],
                [model_text(first + at) for at in of],
                ["lightgbm"] * len(of),
            ]
            writer.write_table(pa.table(columns, schema=schema))
    return path.stat().st_size


def read_models(path: Path, count: int) -> list[bytes]:
    """The first `count` model files of a bulk Parquet, in key order."""
    models: list[bytes] = []
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(ROW_GROUP, columns=["model"]):
            models += batch.column(0).to_pylist()
            if len(models) >= count:
                break
    return models[:count]


def read_boosters(path: Path, count: int) -> list[lgb.Booster]:
    """The first `count` models of a bulk Parquet as LightGBM itself loads them."""
    return [lgb.Booster(model_str=model.decode()) for model in read_models(path, count)]


def sales(table: Doubles, random: np.random.Generator) -> Doubles:
    """What there is to learn: sales of each row, scattered."""
    price, feat, display, week, income, lag = table.T
    expected: Doubles = 300 / price + 60 * feat + 25 * display + 20 * np.sin(week / 8) + 4 * income + 0.4 * lag
    return expected + random.normal(0, 5, len(table))


def _trained(seed: int) -> bytes:
    table = rows(2000, seed)
    random = np.random.default_rng(seed)
    pull = random.uniform(0.5, 1.5, len(FEATURES))
    data = lgb.Dataset(table, sales(table * pull, random), feature_name=list(FEATURES))
    wanted = {"objective": "regression", "num_leaves": LEAVES, "num_threads": 1, "verbosity": -1, "seed": seed}
    text: str = lgb.train(wanted, data, TREES).model_to_string()
    assert text.count(f"\nnum_leaves={LEAVES}\n") == TREES, "every tree must be grown to its full number of leaves"
    return text.encode()
