"""What can be wrong with a call, said without any transport.

Every package grows its own small tree from `Problem`; the gateway alone maps the stable `code` of a problem to an
HTTP status. A problem says what is wrong (`detail`), and where there is one, at which `row` and `field`.
"""

from typing import ClassVar


class Problem(Exception):  # noqa: N818 - the root of all error trees is named after what it reports
    """Something a caller can act on; `code` is stable across releases, `detail` is for people."""

    code: ClassVar[str] = "problem"

    def __init__(self, detail: str, *, field: str | None = None, row: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.field = field
        self.row = row


class AwayError(Problem):
    """What keeps the house's state cannot be reached now: the same may succeed in a moment.

    Nothing was changed, unless it is an `OutcomeUnknownError`.
    """

    code = "away"


class RegistryError(Problem):
    """A registry call that cannot be carried out."""

    code = "registry_error"


class GroupNotFoundError(RegistryError):
    """No group has this name."""

    code = "group_not_found"


class GroupExistsError(RegistryError):
    """A group of this name exists already with another definition."""

    code = "group_exists"


class GroupInvalidError(RegistryError):
    """A group definition breaks a rule (names, key fields, fallback chain)."""

    code = "group_invalid"


class SignatureInvalidError(RegistryError):
    """A signature definition breaks a rule."""

    code = "signature_invalid"


class KeyFieldMissingError(RegistryError):
    """A key lacks a field of its group."""

    code = "key_field_missing"


class KeyFieldUnknownError(RegistryError):
    """A key names a field its group does not have."""

    code = "key_field_unknown"


class KeyTypeError(RegistryError):
    """A key value is not text or an integer, or is empty."""

    code = "key_type"


class KeyTooLongError(RegistryError):
    """A key value is longer than the limit."""

    code = "key_too_long"


class VersionNotFoundError(RegistryError):
    """No such version of this key."""

    code = "version_not_found"


class PartitionNotFoundError(RegistryError):
    """No model answers for this key, nor for any fallback the request allows."""

    code = "partition_not_found"


class ReleaseNotFoundError(RegistryError):
    """The group has no release of this number."""

    code = "release_not_found"


class ReleaseStateError(RegistryError):
    """The release is not in a state that allows this (building, blocked, failed or retired)."""

    code = "release_state"


class DeploymentInvalidError(RegistryError):
    """A deployment definition breaks a rule."""

    code = "deployment_invalid"


class PreconditionFailedError(RegistryError):
    """The caller's If-Match names a state that is no longer the current one."""

    code = "precondition_failed"


class PromotionRefusedError(RegistryError):
    """The release could not be made ready on every shard in time; the old one goes on."""

    code = "promotion_refused"


class HoldInvalidError(RegistryError):
    """A hold definition breaks a rule."""

    code = "hold_invalid"


class HoldNotFoundError(RegistryError):
    """The key has no hold."""

    code = "hold_not_found"


class ImportNotFoundError(RegistryError):
    """The group has no import of this number."""

    code = "import_not_found"


class ImportStateError(RegistryError):
    """The import has ended, or has gone past what is asked of it."""

    code = "import_state"


class ConfirmationError(RegistryError):
    """A destructive call lacks its confirmation."""

    code = "confirmation_required"


class CursorInvalidError(RegistryError):
    """A listing cursor is not one of ours."""

    code = "cursor_invalid"


class MetaInvalidError(RegistryError):
    """Tags, metrics, provenance or examples of a model are malformed."""

    code = "meta_invalid"


class ArtifactMissingError(RegistryError):
    """The artifact store holds no object of this digest."""

    code = "artifact_missing"


class ArtifactDamagedError(RegistryError):
    """Stored bytes no longer have the digest they are named by."""

    code = "artifact_damaged"


class DatabaseBusyError(RegistryError, AwayError):
    """The database stayed locked past the deadline; try again."""

    code = "database_busy"


class OutcomeUnknownError(DatabaseBusyError):
    """The connection was lost while a change was committed: it is made whole or not at all, and nobody here knows."""


class DatabaseUnknownError(RegistryError):
    """A database's address that names no database we know."""

    code = "database_unknown"


class DatabaseTooNewError(RegistryError):
    """The database was written by a later version of manymodels."""

    code = "database_too_new"


class TaskNotFoundError(RegistryError):
    """No task has this number, or it was pruned long after it ended."""

    code = "task_not_found"


class StoreAwayError(RegistryError, AwayError):
    """The artifact store cannot be reached, or refuses; try again."""

    code = "store_away"


class StoreInvalidError(RegistryError):
    """An artifact store's address that is none."""

    code = "store_invalid"


class StorageFullError(RegistryError):
    """The disk (or its quota) that holds the artifacts is full."""

    code = "storage_full"


class UploadTooLargeError(RegistryError):
    """An upload is over the limit."""

    code = "upload_too_large"


class HomeInvalidError(RegistryError):
    """The home folder cannot be used: a file is in its place, or it may not be written."""

    code = "home_invalid"


class HomeInUseError(RegistryError):
    """Another process serves this home."""

    code = "home_in_use"
