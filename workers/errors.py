"""What a worker or a builder can refuse."""

from registry.errors import Problem


class WorkerError(Problem):
    """A call that a worker cannot carry out."""

    code = "worker_error"


class ReleaseNotReadyError(WorkerError):
    """The worker does not hold the release the caller named; another may."""

    code = "release_not_ready"


class ModelLoadError(WorkerError):
    """The model that answers for this key could not be loaded or mapped; it is refused for a short while."""

    code = "model_load_failed"


class ModelQuarantinedError(WorkerError):
    """The model ended the process that runs it so often that it is not asked again for a while."""

    code = "model_quarantined"


class PredictionFailedError(WorkerError):
    """The model was loaded, and its runtime failed on these rows."""

    code = "prediction_failed"


class SegmentDamagedError(WorkerError):
    """A segment file, or one model in it, is not what its writer wrote."""

    code = "segment_damaged"


class DeadlineError(WorkerError):
    """The answer did not come before the request's deadline."""

    code = "deadline_exceeded"


class OverloadedError(WorkerError):
    """More is asked than can be answered soon; try again in a moment."""

    code = "overloaded"


class HopInvalidError(WorkerError):
    """What came from the other end of the hop between gateway and worker is not what that end sends."""

    code = "hop_invalid"


class WorkersUnreachableError(WorkerError):
    """No worker that serves the key could be reached in time."""

    code = "workers_unreachable"


class ArtifactInvalidError(WorkerError):
    """An artifact is not what its runtime header says, or is beyond what its runtime may load."""

    code = "artifact_invalid"


class ArtifactTooLargeError(WorkerError):
    """An artifact is over the limit of bytes."""

    code = "artifact_too_large"


class SignatureMismatchError(WorkerError):
    """A model's inputs or outputs do not fit its group's signature."""

    code = "signature_mismatch"


class ExampleMismatchError(WorkerError):
    """A model does not answer its own example rows as its author expected."""

    code = "example_mismatch"


class ProofFailedError(WorkerError):
    """A model crashed, hung or failed its probe in a builder's child."""

    code = "proof_failed"


class ParquetInvalidError(WorkerError):
    """A bulk upload is not Parquet of the expected columns."""

    code = "parquet_invalid"


class ImportRejectedError(WorkerError):
    """Rows of an import were rejected, and its caller asked for all or nothing."""

    code = "import_rejected"


class BuilderUnavailableError(WorkerError):
    """No builder took up the work before the deadline."""

    code = "builder_unavailable"


class BuilderFailedError(WorkerError):
    """The builder itself failed at this work, through no fault of the caller; its log says more."""

    code = "builder_failed"


def prediction_failure(error: Exception) -> Problem:
    """What callers hear of a prediction that failed: a problem as it is, anything else as a model that broke."""
    if isinstance(error, Problem):
        return error
    return PredictionFailedError(f"the model broke: {type(error).__name__}: {error}"[:500])
