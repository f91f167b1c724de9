"""What an ONNX file says of itself, and what in it is refused before a session is made of it.

A file is walked as bare protobuf first, which tells it from every other format by its bytes, and is then read by the
onnx library for what onnxruntime would not refuse by itself: weights kept in other files.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import onnx
import orjson
from onnx.external_data_helper import uses_external_data

from workers.errors import ArtifactInvalidError

# Field numbers of ModelProto, and the wire type each has (https://protobuf.dev/programming-guides/encoding).
_WIRE_TYPES: Final = {1: 0, 2: 2, 3: 2, 4: 2, 5: 0, 6: 2, 7: 2, 8: 2, 14: 2, 20: 2, 25: 2, 26: 2}
_GRAPH: Final = 7
_CLASS_LABELS: Final = ("classlabels_strings", "classlabels_ints", "classlabels_int64s")


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What serving wants to know beside the session.

    Attributes:
        features: names of the columns of a single input tensor, from the metadata `feature_names` (a JSON list).
        classes: labels of a classifier's outputs in its own order, empty if it names none (or several lists).
    """

    features: tuple[str, ...]
    classes: tuple[Any, ...]


def sniff_model(data: bytes) -> None:
    """Refuse bytes that are not one whole ModelProto.

    Raises:
        ArtifactInvalidError: saying where they stop being one.
    """
    fields = set()
    at = 0
    try:
        while at < len(data):
            tag, at = _varint(data, at)
            number, wire = tag >> 3, tag & 7
            if _WIRE_TYPES.get(number) != wire:
                raise ArtifactInvalidError(f"not an ONNX model: its bytes begin with {data[:12]!r}")
            size, at = _varint(data, at)
            at += size if wire == 2 else 0
            fields.add(number)
    except IndexError as error:
        raise ArtifactInvalidError("the ONNX model is cut off") from error
    if at != len(data) or _GRAPH not in fields:
        raise ArtifactInvalidError("the ONNX model is cut off" if at > len(data) else "the ONNX model has no graph")


def read_model(data: bytes) -> ModelFacts:
    """Read a model that `sniff_model` let pass.

    Raises:
        ArtifactInvalidError: if it does not parse, or keeps weights in other files.
    """
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # protobuf has several names for a message it cannot decode
        raise ArtifactInvalidError(f"the ONNX model does not parse: {error}"[:500]) from error
    for message in _messages(model):
        if isinstance(message, onnx.TensorProto) and (uses_external_data(message) or message.external_data):
            raise ArtifactInvalidError(
                f"the weights {message.name!r} lie in another file; save the model with all its data inside"
            )
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    return ModelFacts(_features(metadata.get("feature_names")), _classes(model.graph.node))


def _messages(message: Any) -> Iterator[Any]:
    """A message and all messages in it: tensors hide in nodes, attributes, subgraphs and functions."""
    waiting = [message]
    while waiting:
        current = waiting.pop()
        yield current
        for field, value in current.ListFields():
            if field.message_type is None:
                continue
            waiting.extend(value if hasattr(value, "__len__") else (value,))


def _features(text: str | None) -> tuple[str, ...]:
    if text is None:
        return ()
    try:
        names = orjson.loads(text)
    except ValueError as error:
        raise ArtifactInvalidError("the metadata 'feature_names' is no JSON list of texts") from error
    if not isinstance(names, list) or any(type(name) is not str for name in names):
        raise ArtifactInvalidError("the metadata 'feature_names' is no JSON list of texts")
    return tuple(names)


def _classes(nodes: Any) -> tuple[Any, ...]:
    lists = {
        tuple(value.decode() for value in attribute.strings) or tuple(attribute.ints)
        for node in nodes
        for attribute in node.attribute
        if attribute.name in _CLASS_LABELS
    } - {()}
    return lists.pop() if len(lists) == 1 else ()


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ArtifactInvalidError(f"not an ONNX model: its bytes begin with {data[:12]!r}")
