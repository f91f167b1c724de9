"""What predictions and lookups answer, as immutable values; see `records` and `state` for the rest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from manymodels.frames import read_stream, releases, values
from manymodels.reading import pick

_ANSWER_COLUMNS: Final = frozenset({"fallback_level", "error_code", "error_detail"})


@dataclass(frozen=True, slots=True)
class ModelUse:
    """Which model answered.

    Attributes:
        key: canonical text of the model's own key; a fallback model's is partial, the whole group's is empty.
        version, release, deployment: exactly which one.
        fallback_level: 0 for the key's own model, n for the group's n-th fallback.
        trained_through: the last moment its training data covers, as its author wrote it.
    """

    key: str
    version: int
    release: int
    deployment: str
    fallback_level: int
    trained_through: str | None = None


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer for one key.

    Attributes:
        predictions: one a row: a plain value, an array of class probabilities, or an object by output name.
        model: which model answered.
    """

    predictions: list[Any]
    model: ModelUse

    @classmethod
    def from_json(cls, body: Any) -> "Prediction":
        """Read the JSON form."""
        return pick(cls, body, model=pick(ModelUse, body.get("model")))


@dataclass(frozen=True, slots=True)
class RowError:
    """Why one row of a bulk call has no prediction."""

    row: int
    code: str
    detail: str
    field: str | None = None


@dataclass(frozen=True, slots=True)
class BulkResult:
    """The answer of a bulk call; row i of the request is entry i of every column.

    Attributes:
        predictions: one a row, None where the row failed; as in `Prediction`.
        fallback_level: one a row, None where the row failed.
        errors: the rows that failed, in order.
        releases: deployment -> the release it served during the whole call.
        models: the models that answered, if asked to explain.
        model_index: position in `models` per row, None where the row failed, if asked to explain.
        table: the `pyarrow.Table` as served, for calls in Arrow form.
    """

    predictions: Sequence[Any]
    fallback_level: Sequence[int | None]
    errors: tuple[RowError, ...]
    releases: Mapping[str, int]
    models: tuple[ModelUse, ...] | None = None
    model_index: Sequence[int | None] | None = None
    table: Any = None

    @classmethod
    def from_json(cls, body: Any) -> "BulkResult":
        """Read the JSON form."""
        models = body.get("models")
        return pick(
            cls,
            body,
            errors=tuple(pick(RowError, error) for error in body.get("errors", ())),
            models=None if models is None else tuple(pick(ModelUse, model) for model in models),
        )

    @classmethod
    def from_arrow(cls, stream: bytes) -> "BulkResult":
        """Read the Arrow form: a column an output, then `fallback_level`, `error_code` and `error_detail`."""
        table = read_stream(stream)
        columns = {name: values(table, name) for name in table.column_names if name not in _ANSWER_COLUMNS}
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        return cls(
            predictions=rows if len(columns) > 1 else next(iter(columns.values()), []),
            fallback_level=values(table, "fallback_level"),
            errors=tuple(
                RowError(row, code, detail or "")
                for row, (code, detail) in enumerate(
                    zip(values(table, "error_code"), values(table, "error_detail"), strict=True)
                )
                if code is not None
            ),
            releases=releases(table),
            table=table,
        )


@dataclass(frozen=True, slots=True)
class Member:
    """A worker as discovery sees it."""

    id: str
    uri: str
    state: str


@dataclass(frozen=True, slots=True)
class Standing:
    """Why a member stands where it stands for a shard.

    Attributes:
        rank: in which turn it is asked, from 1; None if it is not.
        reason: in words.
        seat: where it sits, None for a member that holds everything.
        zone: where it says it stands.
        score: 0 to 1; of equal members the greater is preferred.
    """

    id: str
    uri: str
    state: str
    rank: int | None
    reason: str
    seat: str | None
    zone: str
    score: float


@dataclass(frozen=True, slots=True)
class Lookup:
    """Where a key is served.

    Attributes:
        group, key: what was asked for, the key in canonical text.
        slot, shard: where the key's models lie.
        release, deployment, version, model_key, fallback_level: which model answers.
        members: who serves the shard, preferred first.
        revision: of the snapshot this was read from.
        ttl: seconds for which the answer may be kept.
        explanation: how every member stands, those asked first, if it was asked for; else None.
    """

    group: str
    key: str
    slot: int
    shard: int
    release: int
    deployment: str
    members: tuple[Member, ...]
    version: int
    model_key: str
    fallback_level: int
    revision: str
    ttl: float
    explanation: tuple[Standing, ...] | None = None

    @classmethod
    def from_json(cls, body: Any) -> "Lookup":
        """Read the JSON form."""
        told = body.get("explanation")
        return pick(
            cls,
            body,
            members=tuple(pick(Member, member) for member in body.get("members", ())),
            explanation=None if told is None else tuple(pick(Standing, standing) for standing in told),
        )
