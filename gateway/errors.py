"""What the front door refuses before any model is asked."""

from typing import ClassVar

from registry.errors import Problem


class GatewayError(Problem):
    """A request that cannot be carried out as it was sent."""

    code = "bad_request"


class BodyTooLargeError(GatewayError):
    """The body is over the limit of its route."""

    code = "body_too_large"


class BodyInvalidError(GatewayError):
    """The body is well-formed and not of the expected shape."""

    code = "body_invalid"


class JsonInvalidError(GatewayError):
    """The body is not JSON, or nested too deeply."""

    code = "json_invalid"


class ArrowInvalidError(GatewayError):
    """The body is not an Arrow IPC stream, or its columns do not have usable types."""

    code = "arrow_invalid"


class UnsupportedMediaTypeError(GatewayError):
    """The route does not take bodies of this content type."""

    code = "unsupported_media_type"


class ParameterInvalidError(GatewayError):
    """A query parameter or header is malformed."""

    code = "parameter_invalid"


class RowsEmptyError(GatewayError):
    """The request carries no row."""

    code = "rows_empty"


class TooManyRowsError(GatewayError):
    """The request carries more rows than the limit."""

    code = "too_many_rows"


class RowWidthError(GatewayError):
    """A row has more or fewer cells than there are columns."""

    code = "row_width"


class FeatureMissingError(GatewayError):
    """A row lacks an input that has no default."""

    code = "feature_missing"


class FeatureUnknownError(GatewayError):
    """A row names an input the group's signature does not have."""

    code = "feature_unknown"


class FeatureTypeError(GatewayError):
    """A cell is not of its input's dtype."""

    code = "feature_type"


class FeatureNullError(GatewayError):
    """A cell is null and its input is not nullable."""

    code = "feature_null"


class NonFinitePredictionError(GatewayError):
    """The model answered NaN or infinity for this row."""

    code = "non_finite_prediction"


class SettingInvalidError(GatewayError):
    """An environment variable holds what it cannot."""

    code = "setting_invalid"


class DrainingError(GatewayError):
    """The process is being stopped and wants no new requests; it answers those that come all the same."""

    code = "draining"


class NotFoundError(GatewayError):
    """No such route."""

    code = "not_found"


class MethodNotAllowedError(GatewayError):
    """The route does not take this method."""

    code = "method_not_allowed"


class PortUnavailableError(GatewayError):
    """The address cannot be listened on."""

    code = "port_unavailable"


class InternalError(GatewayError):
    """Something of ours failed; the request id finds it in the log."""

    code = "internal_error"


class RecordedProblemError(GatewayError):
    """A problem that another process recorded; it keeps that problem's own code."""

    code: ClassVar[str] = "recorded_problem"

    def __init__(self, code: str, detail: str, *, field: str | None = None, row: int | None = None) -> None:
        super().__init__(detail, field=field, row=row)
        self.recorded_code = code


def code_of(problem: Problem) -> str:
    """The stable code a caller sees."""
    return problem.recorded_code if isinstance(problem, RecordedProblemError) else problem.code
