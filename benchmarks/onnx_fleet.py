"""The same fleet as ONNX, for the rival: each trained model converted once, its copies given their own leaves.

A conversion takes about 150 ms, so a thousand would take minutes. The copies differ in their leaf values only, and
those lie in one attribute of the converted graph; where each leaf went is found by its value.
"""

from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxmltools  # type: ignore[import-untyped] # ships no types
from numpy.typing import NDArray
from onnx import ModelProto
from onnxmltools.convert.common.data_types import FloatTensorType  # type: ignore[import-untyped] # ships no types

from benchmarks.fleet import FEATURES, TRAINED, Key, Trained, keys, train

INPUT: Final = "input"
_WEIGHTS: Final = "target_weights"


def onnx_fleet(count: int) -> dict[Key, bytes]:
    """ONNX file of each of the first `count` models of the fleet: one float32 tensor of all features in."""
    trained = train(min(count, TRAINED))
    converted = [_convert(model) for model in trained]
    places = [_places(graph, model) for graph, model in zip(converted, trained, strict=True)]
    models: dict[Key, bytes] = {}
    for number, key in enumerate(keys(count)):
        at = number % len(trained)
        leaves = trained[at].jittered(number).astype(np.float32).ravel()
        weights = _weights(converted[at])
        del weights[:]
        weights.extend(leaves[places[at]].tolist())
        models[key] = converted[at].SerializeToString()
    return models


def write_onnx_fleet(folder: Path, count: int) -> None:
    """Write one file a model, named `store~brand.onnx`."""
    folder.mkdir(parents=True, exist_ok=True)
    for (store, brand), model in onnx_fleet(count).items():
        (folder / f"{store}~{brand}.onnx").write_bytes(model)


def _convert(model: Trained) -> ModelProto:
    shape = [(INPUT, FloatTensorType([None, len(FEATURES)]))]
    graph: ModelProto = onnxmltools.convert_lightgbm(model.booster, initial_types=shape, zipmap=False)
    return graph


def _places(graph: ModelProto, model: Trained) -> NDArray[np.intp]:
    """For each weight of the graph, the position of its leaf among all leaves of the model."""
    leaves = model.leaves.astype(np.float32).ravel()
    order = np.argsort(leaves)
    weights = np.array(_weights(graph), dtype=np.float32)
    assert len(weights) == len(leaves), "the conversion must keep every leaf"
    assert len(np.unique(leaves)) == len(leaves), "leaves must be told apart by value"
    found: NDArray[np.intp] = order[np.searchsorted(leaves, weights, sorter=order)]
    assert np.array_equal(leaves[found], weights), "the conversion must keep leaf values"
    return found


def _weights(graph: ModelProto) -> Any:
    ensemble = next(node for node in graph.graph.node if node.op_type == "TreeEnsembleRegressor")
    return next(attribute.floats for attribute in ensemble.attribute if attribute.name == _WEIGHTS)
