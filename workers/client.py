"""The one seam between a gateway and a worker, whether the worker is in this process or across the network.

A call carries rows for one group and one release; every distinct key of the call is resolved once. The answer holds
the scores of all rows side by side, and for each distinct key either the model that answered or why none did.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import orjson
from numpy.typing import NDArray

from registry.errors import Problem
from workers.features import Features, Matrix


@dataclass(slots=True, unsafe_hash=True)
class ModelUse:
    """Which model answered for a key: what the response's `model` object says, but for the deployment.

    Never changed once it is made (and not frozen, because that costs a cold key more than looking up its model).
    """

    key: str  # canonical text of the model's own key
    version: int
    release: int
    fallback_level: int
    trained_through: str | None
    _wire: bytes | None = field(init=False, repr=False, compare=False, default=None)

    @property
    def wire(self) -> bytes:
        """That object as JSON, made once: a warm answer has no time to make it again."""
        return self._wire or self._written()

    def _written(self) -> bytes:
        body = {
            "key": self.key,
            "version": self.version,
            "release": self.release,
            "fallback_level": self.fallback_level,
            "trained_through": self.trained_through,
        }
        # Copied, because the bytes that orjson answers keep a buffer of 4 KB, and thousands of these are remembered.
        self._wire = bytes(bytearray(orjson.dumps(body)))
        return self._wire


@dataclass(slots=True)
class ScoreCall:
    """Rows to score.

    Attributes:
        group, release: exactly this release answers.
        keys: distinct full keys of the call, each the checked text values in field order.
        key_rows: int32, shape (rows,): position in `keys` of each row; None when there is one key only.
        features: the rows.
        max_level: the deepest fallback level the caller allows.
        disabled: identities that are passed over (holds).
    """

    group: str
    release: int
    keys: Sequence[tuple[str, ...]]
    key_rows: NDArray[np.int32] | None
    features: Features
    max_level: int
    disabled: frozenset[bytes]


@dataclass(slots=True)
class ScoreAnswer:
    """Scores of a call.

    Attributes:
        scores: float64, shape (rows, signature.width); rows whose key failed hold NaN.
        models: per distinct key, the model that answered, or None.
        problems: position in `keys` -> why none answered (PartitionNotFoundError, ModelLoadError,
            PredictionFailedError, SegmentDamagedError).
    """

    scores: Matrix
    models: Sequence[ModelUse | None]
    problems: Mapping[int, Problem]


class WorkerClient(Protocol):
    """Reaches the worker that serves a shard."""

    def score_now(self, call: ScoreCall) -> ScoreAnswer | None:
        """The answer of `score` if it can be given without waiting; None if it must be awaited.

        Raises:
            ReleaseNotReadyError: if the worker does not hold exactly that release, or not the shards of all its keys.
        """

    def begin(self, call: ScoreCall) -> "asyncio.Future[ScoreAnswer] | None":
        """The answer of `score` on its way, where that costs less than to await it; None if it must be awaited.

        Raises:
            Problem: as the future may: what `score` raises.
        """

    async def score(self, call: ScoreCall) -> ScoreAnswer:
        """Score rows.

        Raises:
            ReleaseNotReadyError: if the worker does not hold exactly that release, or not the shards of all its keys.
        """

    async def resolve(
        self, group: str, release: int, key: tuple[str, ...], max_level: int, disabled: frozenset[bytes]
    ) -> ModelUse:
        """Say which model would answer, without running it.

        Raises:
            ReleaseNotReadyError, PartitionNotFoundError.
        """
