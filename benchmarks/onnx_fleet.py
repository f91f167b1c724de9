"""The same fleet as ONNX, for the rival: each trained model converted once, its copies given their own numbers.

A conversion takes tens of milliseconds, twenty times what a copy takes. Copies differ in thresholds and leaf values
only, and those lie in two attributes of the converted graph. What is converted is a copy too: its numbers differ from
each other even as float32, so where each of them went is found by its value.
"""

from itertools import count as numbers_from
from pathlib import Path
from typing import Any, Final

import lightgbm as lgb
import numpy as np
import onnxmltools  # type: ignore[import-untyped] # ships no types
from numpy.typing import NDArray
from onnx import ModelProto
from onnxmltools.convert.common.data_types import FloatTensorType  # type: ignore[import-untyped] # ships no types

from benchmarks.copies import Original, leaf_values, thresholds
from benchmarks.fleet import FEATURES, TRAINED, Key, key_of, model_text, originals

INPUT: Final = "input"
_WEIGHTS: Final = "target_weights"
_VALUES: Final = "nodes_values"
_TINY: Final = 1e-30  # below it lies the one threshold that all copies share, beside zero

Places = NDArray[np.intp]


class _Converted:
    """One trained model as ONNX, and where each number of a copy belongs."""

    def __init__(self, original: Original) -> None:
        text = _distinct(original)
        shape = [(INPUT, FloatTensorType([None, len(FEATURES)]))]
        booster = lgb.Booster(model_str=text.decode())
        self._graph: ModelProto = onnxmltools.convert_lightgbm(booster, initial_types=shape, zipmap=False)
        self._weights = self._attribute(_WEIGHTS)
        self._values = self._attribute(_VALUES)
        self._leaf_of_weight = _found(self._weights, leaf_values(text))
        values = np.array(self._values, dtype=np.float32)
        self._splits = np.flatnonzero(np.abs(values) > _TINY)
        self._threshold_of_split = _found(values[self._splits], thresholds(text))

    def copy(self, text: bytes) -> bytes:
        """The ONNX file of a copy."""
        values = np.array(self._values, dtype=np.float32)
        values[self._splits] = thresholds(text)[self._threshold_of_split]
        self._values[:] = values.tolist()
        self._weights[:] = leaf_values(text)[self._leaf_of_weight].tolist()
        file: bytes = self._graph.SerializeToString()
        return file

    def _attribute(self, name: str) -> Any:
        ensemble = next(node for node in self._graph.graph.node if node.op_type == "TreeEnsembleRegressor")
        return next(attribute.floats for attribute in ensemble.attribute if attribute.name == name)


def onnx_fleet(count: int) -> dict[Key, bytes]:
    """ONNX file of each of the first `count` models of the fleet: one float32 tensor of all features in."""
    converted = [_Converted(original) for original in originals()[:count]]
    return {key_of(number): converted[number % TRAINED].copy(model_text(number)) for number in range(count)}


def write_onnx_fleet(folder: Path, count: int) -> None:
    """Write one file a model, named `store~brand.onnx`."""
    folder.mkdir(parents=True, exist_ok=True)
    for (store, brand), model in onnx_fleet(count).items():
        (folder / f"{store}~{brand}.onnx").write_bytes(model)


def _distinct(original: Original) -> bytes:
    """A copy whose leaf values, and whose thresholds, can be told apart as float32."""
    for number in numbers_from():
        text = original.copy(number)
        splits = thresholds(text)
        if all(_are_distinct(found) for found in (leaf_values(text), splits[np.abs(splits) > _TINY])):
            return text
    raise AssertionError


def _are_distinct(found: NDArray[np.float64]) -> bool:
    return len(np.unique(found.astype(np.float32))) == len(found)


def _found(converted: Any, given: NDArray[np.float64]) -> Places:
    """For each converted number its position among the given ones."""
    wanted = np.array(converted, dtype=np.float32)
    known = given.astype(np.float32)
    order = np.argsort(known)
    found: Places = order[np.searchsorted(known, wanted, sorter=order).clip(max=len(order) - 1)]
    assert np.array_equal(known[found], wanted), "the conversion must keep every number"
    return found
