"""The home folder of an embedded house: where its databases, artifacts, metrics and lock lie.

One folder holds everything that must survive a restart, so that backing it up or moving it is a copy. One `serve` at a
time owns a home: its lock is a kernel lock on a file, which the kernel itself drops however the process ends.
"""

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from registry.database import sqlite_url
from registry.errors import HomeInUseError, HomeInvalidError


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the state of a house lies.

    Attributes:
        registry: URL of the registry's database.
        membership: of the members, as `discovery.memberships` reads it.
        artifacts: `s3://bucket/prefix`; empty is the home's own folder.
    """

    registry: str
    membership: str
    artifacts: str


@dataclass(frozen=True, slots=True)
class Home:
    """Paths and database URLs under one root folder; nothing is created before `prepare`."""

    root: Path

    @property
    def registry_url(self) -> str:
        """URL of the registry's database."""
        return sqlite_url(self.root / "registry.db")

    @property
    def leases_url(self) -> str:
        """URL of the members' leases: a file of their own, so that a long import cannot starve them."""
        return sqlite_url(self.root / "leases.db")

    def addresses(self, *, registry: str = "", membership: str = "", artifacts: str = "") -> Addresses:
        """Where things lie that settings may put elsewhere; what they leave empty lies in the home.

        Members are found in a registry's database that other machines reach, unless they have a place of their own.
        """
        leases = registry or self.leases_url
        return Addresses(registry or self.registry_url, membership or leases, artifacts)

    @property
    def artifacts(self) -> Path:
        """Root of the artifact folder store."""
        return self.root / "artifacts"

    @property
    def cache(self) -> Path:
        """Where this machine keeps copies of what lies in a bucket."""
        return self.root / "cache"

    @property
    def snapshot(self) -> Path:
        """The last picture of the house, for a start while its registry is away."""
        return self.root / "snapshot"

    @property
    def metrics(self) -> Path:
        """Folder in which serving processes share their metrics."""
        return self.root / "metrics"

    @property
    def lock(self) -> Path:
        """The file whose lock says that this home is served."""
        return self.root / "serve.lock"

    def prepare(self) -> None:
        """Create the folders, for their owner alone; those that exist stay as they are.

        Raises:
            HomeInvalidError: if a path is taken by a file or may not be written.
        """
        for folder in (self.root, self.artifacts, self.metrics):
            _make_folder(folder)


class HomeLock:
    """The right to serve a home, held from entering to leaving the context, or until the process ends.

    The file stays behind when the lock is dropped: removing it would let two processes lock two files of one name.
    """

    def __init__(self, home: Home) -> None:
        self._path = home.lock
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        """Take the lock.

        Raises:
            HomeInUseError: if another process holds it.
        """
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
            os.close(descriptor)
            raise HomeInUseError(
                f"{self._path.parent} is already served by process {holder or 'unknown'}; stop that one first, "
                "or talk to it by --url"
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Drop the lock."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise HomeInvalidError(
            f"{error.filename or folder} is a file where a folder is needed", field="home"
        ) from error
    except OSError as error:
        raise HomeInvalidError(f"{folder} cannot be created: {error.strerror}", field="home") from error
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise HomeInvalidError(f"{folder} cannot be written by this user", field="home")
