"""Other families than LightGBM: forests and linear models of scikit-learn, each a group of its own in a served home.

They are asked with the same keys, inputs and rows as the LightGBM group, so that what differs is the model alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import skops.io
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks import payloads
from benchmarks.control import Control
from benchmarks.fleet import FEATURES, LEAVES, TREES, keys, rows, sales

MODELS: Final = 200
TRAINED: Final = 10
TOLERANCE: Final = 1e-12  # relative


def _forest(seed: int) -> Any:
    return RandomForestRegressor(TREES, max_leaf_nodes=LEAVES, random_state=seed)


def _linear(_seed: int) -> Any:
    return make_pipeline(StandardScaler(), Ridge())


FAMILIES: Final[dict[str, Callable[[int], Any]]] = {"forest": _forest, "linear": _linear}


@dataclass(frozen=True)
class Family:
    """A group of models of one family, live.

    Attributes:
        name: of the family and its group.
        predict: path of its single predict.
        bodies: file of such requests, a body a line.
    """

    name: str
    predict: str
    bodies: Path


def import_families(port: int, folder: Path) -> list[Family]:
    """Bring every family into a served home; every model is asked, and answers as the native one does."""
    return [_import(Control(port, name), folder, make) for name, make in FAMILIES.items()]


def _import(control: Control, folder: Path, make: Callable[[int], Any]) -> Family:
    name = control.group
    fitted = [_fitted(make, seed) for seed in range(TRAINED)]
    control.create_group()
    control.import_fleet(_written(folder / f"{name}.parquet", [skops.io.dumps(model) for model in fitted]))
    report = control.call("GET", f"{control.path}/releases")["releases"][0]["report"]
    assert report["packed"] == MODELS, f"{name}: all models must be packed, {report}"
    bodies = payloads.singles(MODELS, 5 * MODELS)
    answers = [orjson.loads(answer)["predictions"][0] for answer in control.predict(f"{control.path}/predict", bodies)]
    number_of = {key: number for number, key in enumerate(keys(MODELS))}
    for body, answer in zip(map(orjson.loads, bodies), answers, strict=True):
        model = fitted[number_of[body["key"]["store"], body["key"]["brand"]] % TRAINED]
        native = model.predict(np.array([[body["instances"][0][feature] for feature in FEATURES]], dtype=np.float64))[0]
        assert abs(answer - native) <= TOLERANCE * abs(native), f"{name}: {answer} is not {native}"
    return Family(name, f"{control.path}/predict", payloads.write_lines(folder / f"{name}.jsonl", bodies))


def _fitted(make: Callable[[int], Any], seed: int) -> Any:
    table = rows(1000, seed)
    return make(seed).fit(table, sales(table, np.random.default_rng(seed)))


def _written(path: Path, models: list[bytes]) -> Path:
    """The bulk Parquet of a family's models, the fitted ones in turn."""
    known = keys(MODELS)
    columns = {
        "store": [store for store, _ in known],
        "brand": [brand for _, brand in known],
        "model": [models[number % len(models)] for number in range(MODELS)],
        "runtime": ["sklearn"] * MODELS,
    }
    pq.write_table(pa.table(columns), path)
    return path
