"""What the rest of the house asks of an artifact store, wherever the bytes lie.

Objects are content-addressed by the SHA-256 of their bytes (64 lower-case hex digits), written once and never changed.
Staged files are what callers uploaded and nobody has proved yet; they have a name instead of a digest.
"""

from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as a listing sees it: digest, size in bytes, last change in seconds since 1970."""

    digest: str
    size: int
    modified: float


class ArtifactStore(Protocol):
    """Content-addressed objects and staged uploads. Safe to call from any thread or process."""

    def prepare(self) -> None:
        """Load what the first access would else wait for; asks nobody anything, and may be left out."""

    def put(self, chunks: Iterable[bytes]) -> StoredObject:
        """Write an object; whole and durable on return, absent after a crash. Writing it again is a no-op.

        Raises:
            StorageFullError: if there is no room for it; nothing is left behind.
        """

    def path(self, digest: str) -> Path:
        """A local file that holds the object, its full digest verified when it reached this disk.

        Raises:
            ArtifactMissingError: if there is none.
            ArtifactDamagedError: if its bytes do not have the digest.
        """

    def size(self, digest: str) -> int:
        """Bytes of an object. Raises ArtifactMissingError."""

    def verify(self, digest: str) -> None:
        """Read the whole object and compare its digest. Raises as `path`."""

    def delete(self, digest: str, *, unless_since: float | None = None) -> bool:
        """Remove an object; absent is fine. Answers whether one went.

        With `unless_since` (seconds since 1970) an object written or re-written at or after that moment stays, decided
        in one step with the removal: a sweep must not take what a build has just put and is about to name.
        """

    def objects(self) -> Iterator[StoredObject]:
        """All objects, in no order."""

    async def stage(self, chunks: AsyncIterator[bytes], limit: int) -> tuple[str, int]:
        """Write an upload of at most `limit` bytes under a new name; answers (name, bytes).

        Raises:
            UploadTooLargeError, StorageFullError: past the limit, or without room; nothing is left behind.
        """

    def staged(self, name: str) -> Path:
        """The file of a staged upload. Raises ArtifactMissingError."""

    def unstage(self, name: str) -> None:
        """Remove a staged upload; absent is fine."""

    def staged_names(self) -> Iterator[tuple[str, float]]:
        """Every staged upload, and every object left half-written by a crash, with its last change as in `objects`."""
