"""Objects of a distant store on this machine's disk: within a budget of bytes, the least recently used go first.

An object is kept only after its digest was compared, under one rename, so what is found is whole. To remove a file that
a process of this machine keeps open would free nothing, and it would be brought again: whoever keeps one open says so
with a shared lock on it (`hold`), and it stays.
"""

import fcntl
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from registry.artifacts.folder import FolderStore
from registry.artifacts.names import checked_digest
from registry.artifacts.store import StoredObject
from registry.errors import ArtifactDamagedError, ArtifactMissingError, StorageFullError

log = logging.getLogger("manymodels.registry")

SPARE_BYTES: Final = 1 << 16  # what folders and the end of a block take
ROOM_BYTES: Final = 256 << 20
GRACE_SECONDS: Final = 60.0  # between being told of a file and opening it


class DiskCache:
    """A folder of objects and uploads. Any number of processes may use one; safe from any thread."""

    def __init__(self, root: Path, budget_bytes: int, *, now: Callable[[], float] = time.time) -> None:
        """`now` tells seconds since 1970."""
        self.files = FolderStore(root)
        self._root = root
        self._budget = budget_bytes
        self._now = now
        self._lock = threading.Lock()
        self._room = 0  # bytes that may come before the folder is looked through again
        self._bringing: dict[str, threading.Lock] = {}

    def find(self, digest: str) -> Path | None:
        """The file of an object, from now on recently used; None if it is not here. Raises as `FolderStore.path`."""
        checked_digest(digest)
        try:
            path = self.files.path(digest)
            os.utime(path, ns=(int(self._now() * 1e9), path.stat().st_mtime_ns))
        except (ArtifactMissingError, FileNotFoundError):
            return None
        return path

    def bring(self, digest: str, fetch: Callable[[], Iterable[bytes]], size: Callable[[], int]) -> Path:
        """The file of an object, fetched if it is not here; once, however many ask.

        Args:
            digest: its name.
            fetch: its bytes.
            size: how many they are; asked only where the disk is full.

        Raises:
            ArtifactDamagedError: if what was fetched has another digest; it is not kept.
            StorageFullError: if the disk has no room for it, also without what was least recently used.
        """
        with self._alone(digest):
            path = self.find(digest)
            if path is None:
                found = self._arrived(fetch, size)
                if found.digest != digest:
                    self.files.delete(found.digest)
                    raise ArtifactDamagedError(f"object {digest} arrived with the digest {found.digest}")
                path = self.find(digest)
                self.grown(found.size, spare=digest)
            if path is None:
                raise ArtifactMissingError(f"object {digest} was removed while it arrived")
            return path

    def grown(self, size: int, *, spare: str) -> None:
        """Make room, if need be, after an object of so many bytes came; it stays itself."""
        with self._lock:
            self._room -= size
            if self._room >= 0:
                return
        self.make_room(spare=spare)

    def make_room(self, *, spare: str = "", least: int = 0) -> int:
        """Remove what was least recently used until the rest is within the budget, and at least so many bytes.

        Answers how many bytes went.
        """
        used: list[tuple[float, str, int]] = []
        for found in self.files.objects():
            with suppress(ArtifactMissingError, FileNotFoundError):
                used.append((self.files.path(found.digest).stat().st_atime, found.digest, found.size))
        over = sum(size for _, _, size in used) - self._budget
        with self._lock:
            self._room = max(-over, 0) // 2  # the other half is left to this machine's other processes
        over = max(over, least)
        freed = 0
        for at, digest, size in sorted(used):
            if freed >= over or at > self._now() - GRACE_SECONDS:
                break
            if digest != spare and not _is_held(self.files.path(digest)) and self.files.delete(digest):
                freed += size
        return freed

    def make_room_on_disk(self, size: int) -> bool:
        """Remove so much that a file of so many bytes fits on the disk; whether that is so now.

        A disk may be full before the budget is reached: it is smaller, or others write to it.
        """
        free = shutil.disk_usage(self._root).free
        wanted = size + SPARE_BYTES - free
        return wanted <= 0 or self.make_room(least=wanted) >= wanted

    def make_room_for_next(self) -> None:
        """After a full disk refused what cannot be had again: it finds room when it is sent once more."""
        self.make_room_on_disk(ROOM_BYTES)

    def _arrived(self, fetch: Callable[[], Iterable[bytes]], size: Callable[[], int]) -> StoredObject:
        try:
            return self.files.put(fetch())
        except StorageFullError as error:
            if not self.make_room_on_disk(size()):
                raise
            log.warning("%s; what was least recently used goes", error.detail)
        return self.files.put(fetch())

    @contextmanager
    def _alone(self, digest: str) -> Iterator[None]:
        """Whoever brings an object is alone at it in this process."""
        with self._lock:
            lock = self._bringing.setdefault(digest, threading.Lock())
        with lock:
            try:
                yield
            finally:
                with self._lock:
                    self._bringing.pop(digest, None)


def hold(descriptor: int) -> None:
    """Keep an open file from being removed to make room, until it is closed."""
    fcntl.flock(descriptor, fcntl.LOCK_SH)


def _is_held(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
