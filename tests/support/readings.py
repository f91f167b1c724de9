"""All that a segment answers, read the way a worker reads it."""

from pathlib import Path
from typing import Any, Final

import numpy as np

from registry.keys import KeySchema
from registry.signature import Signature
from workers.errors import PredictionFailedError, SegmentDamagedError
from workers.features import Features
from workers.mappings import Mappings
from workers.packed import PackedModels
from workers.resolving import HeldRelease, Resolved
from workers.segments.reader import Segment

_TEXTS: Final = ("red", "green", "blue", "a colour nobody has seen", None, "red")


def rows_of(signature: Signature) -> Features:
    """Six rows: ordinary ones, missing values, infinite and huge ones, codes in and out of sets."""
    matrix = np.array(
        [[3.0, 4.5, 2.0, 9.0], [0.0] * 4, [np.nan] * 4, [np.inf] * 4, [-1e300] * 4, [7.5, 1.0, 0.0, 69.0]]
    )
    matrix = np.ascontiguousarray(np.resize(matrix, (6, 4))[:, : len(signature.inputs)])
    texts = {at: list(_TEXTS) for at, spec in enumerate(signature.inputs) if spec.dtype == "string"}
    for at in texts:
        matrix[:, at] = np.nan
    return Features(matrix, texts)


def read_all(path: Path, signature: Signature) -> dict[bytes, Any]:
    """Of each identity in a segment what is said of its model and what it answers, None where it is damaged.

    Raises:
        SegmentDamagedError: if the segment cannot be opened.
    """
    segment = Segment.open(path)
    release = HeldRelease(
        group="g", release=1, manifest_digest="", schema=KeySchema(("store",)), signature=signature,
        signature_number=0, shards=1, segments={0: segment}, damaged={},
    )  # fmt: skip
    packed = PackedModels(Mappings(1 << 30), threads=1)
    return {segment.identity(row): _read(release, segment, row, packed) for row in range(len(segment))}


def _read(release: HeldRelease, segment: Segment, row: int, packed: PackedModels) -> Any:
    try:
        resolved = release.entry_resolved(segment, row, 0)
        if resolved.pack < 0:
            return segment.entry(row), segment.read(row)
        return segment.entry(row), _scored(resolved, packed)
    except SegmentDamagedError:
        return None


def _scored(resolved: Resolved, packed: PackedModels) -> Any:
    pin = packed.pin
    address = packed.address(resolved) or packed.bring(resolved)
    features = rows_of(resolved.signature)
    answers = []
    for rows in (features, features.take(np.array([0])), features.take(np.array([5]))):
        try:
            answers.append(packed.score(resolved, address, rows).tobytes())
        except PredictionFailedError as error:
            answers.append(error.detail)
    del pin
    return answers
