"""A fleet of distinct LightGBM models, 50 trees of 15 leaves, as the bulk Parquet that a nightly training job writes.

Thirty models are trained; the others are those thirty with every leaf value jittered in the model text, which costs a
millisecond instead of a training and leaves each model with its own bytes, its own answers and its own heap.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import lightgbm as lgb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

GROUP: Final = "bench"
BRANDS: Final = tuple(f"brand-{number}" for number in range(10))
FEATURES: Final = ("price", "feat", "display", "week", "income", "lag_1")
WHOLE: Final = frozenset({"feat", "display", "week"})
TREES: Final = 50
LEAVES: Final = 15
TRAINED: Final = 30
ROW_GROUP: Final = 500

Key = tuple[str, str]
Doubles = NDArray[np.float64]


def group_body() -> dict[str, Any]:
    """The group as `POST /v1/groups` takes it; nothing is fed from defaults, so that every cell is really read."""
    inputs = [{"name": name, "dtype": "int64" if name in WHOLE else "float64"} for name in FEATURES]
    return {
        "name": GROUP,
        "key": ["store", "brand"],
        "signature": {"inputs": inputs, "outputs": [{"name": "sales"}]},
        "auto_release": True,
    }


def keys(count: int) -> list[Key]:
    """The first `count` keys: stores of ten brands each."""
    return [(str(number // len(BRANDS) + 1), BRANDS[number % len(BRANDS)]) for number in range(count)]


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


@dataclass(frozen=True)
class Trained:
    """One trained model: its text cut at the leaf values, so that copies with other leaves can be put together.

    Attributes:
        booster: the native model.
        head, tail: what stands before the line of tree sizes, and after the last tree.
        trees: each tree's text before and after its leaf values.
        leaves: the leaf values, float64, shape (trees, leaves).
    """

    booster: lgb.Booster
    head: str
    tail: str
    trees: tuple[tuple[str, str], ...]
    leaves: Doubles

    def jittered(self, seed: int) -> Doubles:
        """Leaf values of a copy: each within a few percent of the trained one."""
        noise = np.random.default_rng(seed).uniform(0.97, 1.03, self.leaves.shape)
        changed: Doubles = self.leaves * noise
        return changed

    def text(self, leaves: Doubles) -> bytes:
        """The model file with these leaf values."""
        trees = [
            f"{before}leaf_value={' '.join(map(repr, values))}\n{after}"
            for (before, after), values in zip(self.trees, leaves.tolist(), strict=True)
        ]
        sizes = " ".join(str(len(tree)) for tree in trees)
        return f"{self.head}tree_sizes={sizes}\n\n{''.join(trees)}{self.tail}".encode()


def train(count: int = TRAINED) -> list[Trained]:
    """Train the models that all others are copies of."""
    return [_cut(_booster(seed)) for seed in range(count)]


def fleet(count: int) -> Iterator[tuple[Key, bytes]]:
    """Key and model file of each model, in key order."""
    trained = train(min(count, TRAINED))
    for number, key in enumerate(keys(count)):
        of = trained[number % len(trained)]
        yield key, of.text(of.jittered(number))


def write_fleet(path: Path, count: int) -> None:
    """Write the bulk Parquet of `count` models: columns store, brand, model and runtime."""
    schema = pa.schema(
        [("store", pa.string()), ("brand", pa.string()), ("model", pa.binary()), ("runtime", pa.string())]
    )
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        batch: list[tuple[Key, bytes]] = []
        for item in fleet(count):
            batch.append(item)
            if len(batch) == ROW_GROUP:
                writer.write_table(_table(batch, schema))
                batch = []
        if batch:
            writer.write_table(_table(batch, schema))


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


def _table(batch: Sequence[tuple[Key, bytes]], schema: pa.Schema) -> pa.Table:
    columns = [
        [key[0] for key, _ in batch],
        [key[1] for key, _ in batch],
        [model for _, model in batch],
        ["lightgbm"] * len(batch),
    ]
    return pa.table(columns, schema=schema)


def _booster(seed: int) -> lgb.Booster:
    table = rows(2000, seed)
    random = np.random.default_rng(seed)
    pull = random.uniform(0.5, 1.5, len(FEATURES))
    price, feat, display, week, income, lag = table.T * pull[:, None]
    sales = 300 / price + 60 * feat + 25 * display + 20 * np.sin(week / 8) + 4 * income + 0.4 * lag
    data = lgb.Dataset(table, sales + random.normal(0, 5, len(sales)), feature_name=list(FEATURES))
    wanted = {"objective": "regression", "num_leaves": LEAVES, "num_threads": 1, "verbosity": -1, "seed": seed}
    return lgb.train(wanted, data, TREES)


def _cut(booster: lgb.Booster) -> Trained:
    text = booster.model_to_string()
    head, _, rest = text.partition("tree_sizes=")
    _, _, rest = rest.partition("\n\n")
    forest, end, tail = rest.partition("end of trees")
    trees: list[tuple[str, str]] = []
    leaves: list[list[float]] = []
    for tree in forest.split("Tree=")[1:]:
        before, _, after = f"Tree={tree}".partition("leaf_value=")
        values, _, after = after.partition("\n")
        trees.append((before, after))
        leaves.append([float(value) for value in values.split()])
    assert {len(values) for values in leaves} == {LEAVES}, "every tree must be grown to its full number of leaves"
    return Trained(booster, head, end + tail, tuple(trees), np.array(leaves))
