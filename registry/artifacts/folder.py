"""The artifact store of a single machine: a folder of content-addressed files.

`objects/ab/cdef...` holds the object of digest `abcdef...`; `staged/` holds uploads nobody has proved yet and objects
still being written. An object becomes visible by one rename after its bytes are on the disk, so a crash leaves it whole
or absent; what the crash left in `staged/` has a name nobody knows, and gc sweeps it.
"""

import asyncio
import errno
import fcntl
import os
import stat
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from hashlib import file_digest, sha256
from pathlib import Path
from typing import BinaryIO, Final
from uuid import uuid4

from registry.artifacts.names import checked_digest, checked_name, is_digest, is_name
from registry.artifacts.store import StoredObject
from registry.errors import ArtifactDamagedError, ArtifactMissingError, StorageFullError, UploadTooLargeError
from registry.failpoints import failpoint

FAILPOINTS: Final = (
    "store.put.created",
    "store.put.written",
    "store.put.synced",
    "store.put.renamed",
    "store.put.settled",
    "store.stage.created",
    "store.stage.written",
    "store.stage.synced",
    "store.delete.unlinked",
)

_BUFFER: Final = 1 << 20
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class FolderStore:
    """An `ArtifactStore` over a folder of this machine.

    Holds no open files and no state, so any number of processes and threads may use one folder at once. Names are
    checked and links are refused: nothing outside the folder is ever read, written or removed.
    """

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self._root = root.resolve()
        self._objects = self._root / "objects"
        self._staged = self._root / "staged"
        for folder in (self._objects, self._staged):  # one disk holds both: a rename moves from one to the other
            self._confine(folder)
            folder.mkdir(exist_ok=True)

    def put(
        self, chunks: Iterable[bytes], *, first: Callable[[Path, StoredObject], None] = lambda _path, _written: None
    ) -> StoredObject:
        """Write an object; whole and durable on return, absent after a crash.

        Writing it again heals a damaged copy and makes the object young, so that gc spares what is about to be named.
        `first` is called with the file and what it holds before it is an object here; what it raises prevents that.
        """
        digest = sha256()
        size = 0
        with self._arriving() as (temporary, file):
            failpoint("store.put.created")
            for chunk in chunks:
                digest.update(chunk)
                size += file.write(chunk)
            failpoint("store.put.written")
            _sync(file)
            failpoint("store.put.synced")
            name = digest.hexdigest()
            written = StoredObject(name, size, os.fstat(file.fileno()).st_mtime)
            first(temporary, written)
            self._settle(temporary, name)
        failpoint("store.put.settled")
        return written

    def prepare(self) -> None:
        """There is nothing to load."""

    def path(self, digest: str) -> Path:
        """The file of an object. Its digest was computed from the very bytes that were written.

        Raises:
            ArtifactMissingError: if there is none.
            ArtifactDamagedError: if it is no plain file of this folder.
        """
        return self._plain_file(self._object_path(digest), f"object {digest}")

    def size(self, digest: str) -> int:
        """Bytes of an object. Raises as `path`."""
        return self.path(digest).stat().st_size

    def verify(self, digest: str) -> None:
        """Read the whole object and compare its digest. Raises as `path`."""
        with self.path(digest).open("rb") as file:
            found = file_digest(file, "sha256").hexdigest()
        if found != digest:
            raise ArtifactDamagedError(f"object {digest} has the digest {found}")

    def delete(self, digest: str, *, unless_since: float | None = None) -> bool:
        """Remove an object, unless it was written at or after a moment (seconds since 1970); whether it went."""
        path = self._object_path(digest)
        with self._lock(fcntl.LOCK_EX):
            try:
                if unless_since is not None and path.lstat().st_mtime >= unless_since:
                    return False
                path.unlink()
            except FileNotFoundError:
                return False
        failpoint("store.delete.unlinked")
        return True

    def objects(self) -> Iterator[StoredObject]:
        """All objects, in no order; links and files with other names are passed over."""
        for folder in _entries(self._objects):
            if not folder.is_dir(follow_symlinks=False):
                continue
            for entry in _entries(folder.path):
                name = folder.name + entry.name
                if is_digest(name) and (found := _plain_stat(entry)) is not None:
                    yield StoredObject(name, found.st_size, found.st_mtime)

    async def stage(self, chunks: AsyncIterator[bytes], limit: int) -> tuple[str, int]:
        """Write an upload of at most `limit` bytes under a new name; answers (name, bytes).

        Raises:
            UploadTooLargeError: past the limit; nothing is left behind.
        """
        size = 0
        with self._arriving() as (path, file):
            failpoint("store.stage.created")
            async for chunk in chunks:
                size += len(chunk)
                if size > limit:
                    raise UploadTooLargeError(f"the upload is over the limit of {limit} bytes")
                await asyncio.to_thread(file.write, chunk)
            failpoint("store.stage.written")
            await asyncio.to_thread(_sync, file)
            failpoint("store.stage.synced")
            await asyncio.to_thread(_sync_folder, self._staged)
        return path.name, size

    def stage_as(self, name: str, chunks: Iterable[bytes]) -> Path:
        """Write an upload that another machine took, under the name it has there; its file."""
        target = self._staged_path(name)
        with self._arriving() as (path, file):
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            path.replace(target)
        return target

    def staged(self, name: str) -> Path:
        """The file of a staged upload. Raises ArtifactMissingError."""
        return self._plain_file(self._staged_path(name), f"staged upload {name}")

    def unstage(self, name: str) -> None:
        """Remove a staged upload; absent is fine."""
        self._staged_path(name).unlink(missing_ok=True)

    def staged_names(self) -> Iterator[tuple[str, float]]:
        """Every staged upload and every leftover of a crash, with its last change in seconds since 1970."""
        for entry in _entries(self._staged):
            if is_name(entry.name) and (found := _plain_stat(entry)) is not None:
                yield entry.name, found.st_mtime

    @contextmanager
    def _arriving(self) -> Iterator[tuple[Path, BinaryIO]]:
        """A new file in `staged/`, removed again when the body raises.

        Raises:
            StorageFullError: in place of the OSError that says so.
        """
        path = self._staged / uuid4().hex
        with _full_said(), path.open("xb", buffering=_BUFFER) as file:
            try:
                yield path, file
            except BaseException:
                # Closing waits for a write that a thread of a cancelled call still carries out.
                with suppress(OSError):
                    file.close()
                path.unlink(missing_ok=True)
                raise

    def _settle(self, temporary: Path, digest: str) -> None:
        target = self._object_path(digest)
        self._confine(target.parent)
        if not target.parent.exists():
            target.parent.mkdir(exist_ok=True)
            _sync_folder(self._objects)
        with self._lock(fcntl.LOCK_SH):
            temporary.replace(target)
        failpoint("store.put.renamed")
        _sync_folder(target.parent)

    @contextmanager
    def _lock(self, kind: int) -> Iterator[None]:
        """Keeps a deletion's look at the age and its unlink together, as seen by a concurrent `put`."""
        with (self._root / "lock").open("wb") as file:
            fcntl.flock(file, kind)
            yield

    def _object_path(self, digest: str) -> Path:
        checked_digest(digest)
        return self._objects / digest[:2] / digest[2:]

    def _staged_path(self, name: str) -> Path:
        return self._staged / checked_name(name)

    def _plain_file(self, path: Path, what: str) -> Path:
        try:
            mode = path.lstat().st_mode
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ArtifactMissingError(f"there is no {what}") from error
        if not stat.S_ISREG(mode):
            raise ArtifactDamagedError(f"{what} is no plain file")
        self._confine(path.parent)
        return path

    def _confine(self, folder: Path) -> None:
        """Refuse a folder that leads out of the store; the root itself may be a link, which is its owner's choice."""
        if folder.is_symlink():
            raise ArtifactDamagedError(f"{folder.name!r} leads out of the artifact folder through a link")


@contextmanager
def _full_said() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFullError(f"the artifact store cannot take more: {error.strerror}") from error
        raise


def _entries(folder: Path | str) -> Iterator["os.DirEntry[str]"]:
    with os.scandir(folder) as found:
        yield from found


def _plain_stat(entry: "os.DirEntry[str]") -> os.stat_result | None:
    with suppress(FileNotFoundError):  # removed while the folder was being listed
        found = entry.stat(follow_symlinks=False)
        if stat.S_ISREG(found.st_mode):
            return found
    return None


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
