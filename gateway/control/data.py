"""The data routes as operations: served raw by `gateway.data`, documented here beside all others."""

from typing import Annotated, Any, Final, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from gateway.control.bodies import Body, KeyValue
from gateway.control.operation import GROUP, JSON, KEY_PROBLEMS, Answer, Operation, Parameter, Payload

ARROW: Final = "application/vnd.apache.arrow.stream"
Level = Annotated[int | None, Field(ge=0, description="deepest fallback allowed; 0: the exact key only")]
_ROWS: Final = "each {}; any other row is an error of that row alone"
Row = Annotated[list[Any], Field(description="cells in the order of the signature's inputs")]


class PredictBody(Body):
    """Rows for one key: objects by input name, or arrays in signature order."""

    key: dict[str, KeyValue]
    instances: Annotated[list[dict[str, Any] | Row], Field(min_length=1)]
    max_fallback_level: Level = None


class BulkColumnsBody(Body):
    """Rows of many keys by columns: all key fields and the inputs that are sent."""

    columns: Annotated[list[str], Field(min_length=1, json_schema_extra={"uniqueItems": True})]
    data: Annotated[list[Any], Field(min_length=1, description=_ROWS.format("an array in the order of `columns`"))]
    max_fallback_level: Level = None
    explain: bool = False


class BulkRowsBody(Body):
    """Rows of many keys as objects that hold key fields and inputs side by side."""

    rows: Annotated[list[Any], Field(min_length=1, description=_ROWS.format("an object"))]
    max_fallback_level: Level = None
    explain: bool = False


class ModelUseJson(TypedDict):
    """Which model answered."""

    key: str
    version: int
    release: int
    deployment: str
    fallback_level: int
    trained_through: str | None


class RowErrorJson(TypedDict):
    """Why a row has no prediction."""

    row: int
    code: str
    detail: str
    field: NotRequired[str]


class PredictJson(TypedDict):
    """One prediction a row, and the model that made them; `errors` names rows whose answer is not finite."""

    predictions: list[Any]
    model: ModelUseJson
    errors: NotRequired[list[RowErrorJson]]


class BulkJson(TypedDict):
    """One prediction a row, null for a row in `errors`; with `explain` the models and each row's place in them."""

    predictions: list[Any]
    fallback_level: list[int | None]
    releases: dict[str, int]
    errors: list[RowErrorJson]
    models: NotRequired[list[ModelUseJson]]
    model_index: NotRequired[list[int | None]]


_ROW_PROBLEMS: Final = (
    "json_invalid",
    "body_invalid",
    "body_too_large",
    "unsupported_media_type",
    "rows_empty",
    "too_many_rows",
    "row_width",
    "feature_missing",
    "feature_unknown",
    "feature_type",
    "feature_null",
    *KEY_PROBLEMS,
    "group_not_found",
    "nothing_live",
    "release_not_ready",
    "overloaded",
)
_LEVEL: Final = Parameter(
    "max_fallback_level",
    "query",
    "deepest fallback allowed; for Arrow bodies, which have no member for it (a JSON body's own counts first)",
    {"type": "integer", "minimum": 0, "maximum": 999_999_999},
)
_BINARY: Final = {"type": "string", "format": "binary"}

OPERATIONS: Final = (
    Operation(
        "POST",
        "/v1/groups/{group}/predict",
        "predict",
        "predict",
        "Answer rows of one key",
        (Answer(200, "predictions in row order", PredictJson),),
        description="The key's own model answers, or the first model of its fallback chain.",
        parameters=(GROUP,),
        payload=Payload(
            "key and rows",
            PredictBody,
            example={"key": {"store": "2", "brand": "tropicana"}, "instances": [{"price": 3.87, "feat": 0}]},
        ),
        problems=(*_ROW_PROBLEMS, "partition_not_found", "prediction_failed", "model_load_failed", "segment_damaged"),
    ),
    Operation(
        "POST",
        "/v1/groups/{group}/predict/bulk",
        "predictBulk",
        "predict",
        "Answer rows of many keys",
        (
            Answer(200, "predictions in row order", BulkJson),
            Answer(200, "predictions in row order", media=ARROW, schema=_BINARY),
        ),
        description="One snapshot answers the whole call; a bad row is an error of that row alone. An Arrow stream is"
        " answered by an Arrow stream of one column an output, `fallback_level`, `error_code` and `error_detail`.",
        parameters=(GROUP, _LEVEL),
        payload=Payload(
            "rows by columns, rows as objects, or an Arrow stream",
            BulkColumnsBody | BulkRowsBody,
            media=(JSON, ARROW),
            example={"columns": ["store", "brand", "price", "feat"], "data": [["2", "tropicana", 3.87, 0]]},
        ),
        problems=(*_ROW_PROBLEMS, "arrow_invalid", "deadline_exceeded"),
    ),
)
