"""Segments with real packs in them, with stored models beside, and what every one of their models answers."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import lightgbm as lgb
import numpy as np
import pandas as pd

from registry.artifacts.frames import compress
from registry.signature import Label, Signature
from tests.support import models
from tests.support.models import LIGHTGBM_PARAMS, TinyModel
from tests.support.segments import in_memory
from workers.packing.verdicts import PACKED
from workers.runtimes.lightgbm import LIGHTGBM
from workers.runtimes.runtime import Binding
from workers.segments.layout import StoredEntry
from workers.segments.writer import SegmentModel, write_segment

GROUP = "oj-sales"
CLASSES = ("lo", "mid", "hi")
NUMBERS = Signature.from_json(
    {
        "inputs": [
            {"name": "price", "nullable": True},
            {"name": "feat", "nullable": True},
            {"name": "colour", "dtype": "string", "nullable": True},
            {"name": "kind", "nullable": True},
        ],
        "outputs": [{"name": "sales"}],
    }
)
CHOICES = Signature.from_json(
    {
        "inputs": [{"name": "price", "nullable": True}, {"name": "feat", "nullable": True}],
        "outputs": [
            {"name": "level", "kind": "label", "classes": list(CLASSES)},
            {"name": "share", "kind": "probabilities", "classes": list(CLASSES)},
        ],
    }
)


class Written(NamedTuple):
    """A segment as bytes, and the signature that its packs are bound to."""

    signature: Signature
    data: bytes


def by_kind(seed: int = 0) -> TinyModel:
    """A LightGBM booster that splits a column of numbers by sets of them."""
    table = models.frame(400, seed)
    table["kind"] = np.random.default_rng(seed).integers(0, 70, len(table))
    params = LIGHTGBM_PARAMS | {"objective": "regression", "min_data_per_group": 1, "max_cat_to_onehot": 1}
    answers = models.target(table, seed) + 9.0 * (table["kind"] % 3)
    booster = lgb.train(params, lgb.Dataset(table, answers, categorical_feature=["kind"]), num_boost_round=4)
    return TinyModel("lightgbm", booster, booster.model_to_string().encode())


def missing_as_category(seed: int = 0) -> TinyModel:
    """A LightGBM booster on zero-heavy data that reads zero as missing: its splits are special."""
    table = pd.DataFrame(np.random.default_rng(seed).integers(-2, 3, (300, 2)).astype(float), columns=["price", "feat"])
    params = LIGHTGBM_PARAMS | {"objective": "regression", "zero_as_missing": True}
    booster = lgb.train(params, lgb.Dataset(table, models.target(table, seed)), num_boost_round=4)
    return TinyModel("lightgbm", booster, booster.model_to_string().encode())


def numbers() -> Written:
    """Regressions: plain, with sets of numbers, with categories of text, zero as missing; a Ridge and an ONNX graph."""
    found = {f"store={seed}": models.lightgbm_regressor(seed) for seed in range(4)}
    found |= {f"store={4 + seed}": by_kind(seed) for seed in range(2)}
    found |= {
        f"store={6 + seed}": models.lightgbm_categorical(("red", "green", "blue"), seed, name="colour")
        for seed in range(2)
    }
    found |= {"store=8": missing_as_category(), "store=9": models.ridge(), "store=10": models.onnx_sum()}
    return Written(NUMBERS, written(NUMBERS, found))


def choices() -> Written:
    """Classifiers: over all classes, over two of them, and a stored one."""
    found = {"store=0": models.lightgbm_multiclass(0), "store=1": models.lightgbm_multiclass(1)}
    found |= {"store=2": models.lightgbm_binary(2), "store=3": models.logistic(CLASSES)}
    return Written(CHOICES, written(CHOICES, found, classes={"store=2": ("hi", "lo")}))


def written(
    signature: Signature,
    found: Mapping[str, TinyModel],
    *,
    classes: Mapping[str, tuple[Label, ...]] | None = None,
) -> bytes:
    """A segment of these models: LightGBM's as packs, the others stored."""
    listed = [_model(signature, key, model, (classes or {}).get(key, ())) for key, model in found.items()]
    return b"".join(write_segment(listed, group=GROUP, shard=1, shards=4))


def _model(signature: Signature, key: str, model: TinyModel, classes: tuple[Label, ...]) -> SegmentModel:
    known: dict[str, Any] = {"trained_through": "2026-11-19", "classes": classes}
    digest = hashlib.sha256(model.data).hexdigest()
    entry = StoredEntry(key, 3, model.runtime, digest, len(model.data), 20_000, **known)
    if model.runtime != "lightgbm":
        return in_memory(_said(entry, "runtime"), compress(model.data))
    loaded = LIGHTGBM.load(model.data, Binding(signature, classes))
    pack, _ = LIGHTGBM.pack(model.data, loaded, signature)
    codes = tuple((position, tuple(values.items())) for position, values in pack.codes)
    words = pack.words.tobytes()
    return in_memory(_said(entry, PACKED, codes), words)


def _said(entry: StoredEntry, verdict: str, codes: Any = ()) -> StoredEntry:
    return replace(entry, verdict=verdict, codes=codes)
