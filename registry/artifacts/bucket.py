"""The artifact store of a cluster: a bucket of any S3-compatible service, with a cache on this machine's disk.

Objects lie under `objects/`, uploads that nobody has proved yet under `staged/`, as in a folder. What is written goes
through the disk, which names it by its digest and makes a retry cheap; what is read is compared with its digest as it
arrives, and fetched once more if it differs or comes in part. Endpoint, region and credentials are boto3's own
(`AWS_ENDPOINT_URL`, `AWS_REGION`, `AWS_ACCESS_KEY_ID` and so on).
"""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager, suppress
from hashlib import file_digest
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from registry.artifacts.disk_cache import DiskCache
from registry.artifacts.names import checked_digest, checked_name, is_digest
from registry.artifacts.settling import SETTLE_SECONDS, Settling
from registry.artifacts.store import StoredObject
from registry.errors import (
    ArtifactDamagedError,
    ArtifactMissingError,
    StorageFullError,
    StoreAwayError,
    StoreInvalidError,
)

log = logging.getLogger("manymodels.registry")

SCHEME: Final = "s3"
CONNECT_SECONDS: Final = 2.0
READ_SECONDS: Final = 5.0
ATTEMPTS: Final = 2  # for who waits to read
WRITE_ATTEMPTS: Final = 6  # a build goes on for hours: a moment's 500 or "slow down" should not end it
CONNECTIONS: Final = 32
REST_SECONDS: Final = 1.0
CHUNK_BYTES: Final = 1 << 20
PART_BYTES: Final = 16 << 20  # a larger object goes up in parts
OLD_SECONDS: Final = 3600.0  # an object older than this may be about to be swept
MOST_TRIES: Final = 5

_MISSING: Final = frozenset({"404", "NoSuchKey", "NotFound"})


class BucketStore:
    """An `ArtifactStore` in a bucket. Opens its connections at first use; safe from any thread."""

    def __init__(self, url: str, cache: DiskCache, *, settle_seconds: float = SETTLE_SECONDS) -> None:
        """`url` is `s3://bucket` or `s3://bucket/prefix`; for `settle_seconds` see `Settling`.

        Raises:
            StoreInvalidError: if it is anything else.
        """
        parts = urlsplit(url)
        if parts.scheme != SCHEME or not parts.hostname or parts.query or parts.fragment or parts.username is not None:
            raise StoreInvalidError("the address names no bucket; s3://bucket/prefix does", field="artifacts")
        self._bucket = parts.netloc
        self._prefix = f"{parts.path.strip('/')}/".lstrip("/")
        self._cache = cache
        self._settling = Settling(self._look_again, seconds=settle_seconds)
        self._opening = threading.Lock()
        self._opened: dict[int, Any] = {}
        self._rest_until = 0.0

    def prepare(self) -> None:
        """Load boto3 and what it knows of S3: half a second of a processor, which requests beside it would feel."""
        with suppress(StoreAwayError), self._told():  # the first access says what is wrong with its settings
            self._client_trying(ATTEMPTS)

    def put(self, chunks: Iterable[bytes]) -> StoredObject:
        """Write an object; whole and durable in the bucket on return.

        One that is there already is written anew, because a sweep may have found it old; where it was old indeed, it is
        looked at again later (see `Settling`).
        """
        arrived: list[StoredObject] = []
        try:
            written = self._cache.files.put(chunks, first=lambda path, it: arrived.append(self._put(path, it)))
        except StorageFullError:
            self._cache.make_room_for_next()
            raise
        self._cache.grown(written.size, spare=written.digest)
        return arrived[0]

    def path(self, digest: str) -> Path:
        """A file of this machine that holds the object, fetched if it must be.

        Raises:
            ArtifactMissingError: if the bucket has none.
            ArtifactDamagedError: if what it has has another digest, or arrives in part, twice.
            StoreAwayError: if the bucket cannot be reached and the object is not here.
            StorageFullError: if this disk has no room for it.
        """
        found = self._cache.find(digest)
        if found is not None:
            return found
        try:
            return self._brought(digest)
        except ArtifactDamagedError as error:
            log.warning("%s; it is fetched once more", error)
            return self._brought(digest)

    def size(self, digest: str) -> int:
        """Bytes of an object in the bucket. Raises ArtifactMissingError, StoreAwayError."""
        found = self._head(self._object(digest))
        if found is None:
            raise ArtifactMissingError(f"there is no object {digest}")
        return found.size

    def verify(self, digest: str) -> None:
        """Read the whole object here, or fetch it, and compare its digest; a damaged copy here is fetched anew."""
        with self.path(digest).open("rb") as file:
            found = file_digest(file, "sha256").hexdigest()
        if found != digest:
            log.warning("object %s is damaged on this disk and fetched anew", digest)
            self._cache.files.delete(digest)
            self.path(digest)

    def delete(self, digest: str, *, unless_since: float | None = None) -> bool:
        """Remove an object from the bucket and this disk, unless it was written at or after a moment.

        A bucket cannot decide and remove in one step; `put` knows that.
        """
        found = self._head(self._object(digest))
        if found is not None and unless_since is not None and found.modified >= unless_since:
            return False
        if found is not None:
            with self._told():
                self._client.delete_object(Bucket=self._bucket, Key=self._object(digest))
        self._cache.files.delete(digest)
        return found is not None

    def objects(self) -> Iterator[StoredObject]:
        """All objects of the bucket, in no order."""
        for key, size, modified in self._listed("objects/"):
            digest = key.replace("/", "", 1)
            if is_digest(digest):
                yield StoredObject(digest, size, modified)

    async def stage(self, chunks: AsyncIterator[bytes], limit: int) -> tuple[str, int]:
        """Write an upload to the bucket, by way of this disk; see `ArtifactStore.stage`.

        Nothing stays here: it may be another machine that proves it, and says when it is no longer needed.
        """
        try:
            name, size = await self._cache.files.stage(chunks, limit)
        except StorageFullError:
            await asyncio.to_thread(self._cache.make_room_for_next)
            raise
        try:
            await asyncio.to_thread(self._upload, self._staged(name), self._cache.files.staged(name), ATTEMPTS)
        finally:
            self._cache.files.unstage(name)
        return name, size

    def staged(self, name: str) -> Path:
        """The file of a staged upload, fetched if another machine took it. Raises as `path`."""
        with suppress(ArtifactMissingError):
            return self._cache.files.staged(name)
        try:
            return self._cache.files.stage_as(name, self._chunks(self._staged(name)))
        except ArtifactDamagedError as error:  # an upload has no digest yet: all that is known is that it did not come
            raise StoreAwayError(error.detail) from error

    def unstage(self, name: str) -> None:
        """Remove a staged upload; absent is fine."""
        self._cache.files.unstage(name)
        with self._told():
            self._client.delete_object(Bucket=self._bucket, Key=self._staged(name))

    def staged_names(self) -> Iterator[tuple[str, float]]:
        """Every staged upload of the bucket, and what a crash left on this disk."""
        there = {key: modified for key, _, modified in self._listed("staged/")}
        yield from there.items()
        yield from (found for found in self._cache.files.staged_names() if found[0] not in there)

    def _brought(self, digest: str) -> Path:
        return self._cache.bring(digest, lambda: self._chunks(self._object(digest)), lambda: self.size(digest))

    def _put(self, path: Path, written: StoredObject) -> StoredObject:
        """Bring a file to the bucket, and see it there."""
        key = self._object(written.digest)
        before = self._head(key)
        for _ in range(MOST_TRIES):
            self._upload(key, path)
            found = self._head(key)
            if found is not None and found.size == written.size:
                if before is not None and before.modified < time.time() - OLD_SECONDS:
                    self._settling.add(written.digest)
                return StoredObject(written.digest, written.size, found.modified)
        raise StoreAwayError(f"the bucket {self._bucket!r} does not keep what it is given")

    def _look_again(self, digest: str) -> None:
        """Write an object once more if a sweep took it just after it was written."""
        if self._head(self._object(digest)) is None:
            log.warning("object %s was swept while it was written, and is written again", digest)
            self._upload(self._object(digest), self._cache.files.path(digest))

    def _upload(self, key: str, path: Path, attempts: int = WRITE_ATTEMPTS) -> None:
        from boto3.s3.transfer import TransferConfig  # noqa: PLC0415 - as boto3 below

        config = TransferConfig(multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES, use_threads=False)
        with self._told():
            self._client_trying(attempts).upload_file(str(path), self._bucket, key, Config=config)

    def _chunks(self, key: str) -> Iterator[bytes]:
        """The bytes of a key as they arrive.

        Raises:
            ArtifactMissingError, StoreAwayError: if none do.
            ArtifactDamagedError: if they arrive in part, or with another checksum than the bucket says.
        """
        with self._told(key):
            body = self._client.get_object(Bucket=self._bucket, Key=key)["Body"]
            from botocore.exceptions import (  # noqa: PLC0415 - as boto3 below
                FlexibleChecksumError,
                IncompleteReadError,
                ResponseStreamingError,
            )

            try:
                yield from body.iter_chunks(CHUNK_BYTES)
            except (FlexibleChecksumError, IncompleteReadError, ResponseStreamingError) as error:
                raise ArtifactDamagedError(f"{key!r} arrived spoilt: {type(error).__name__}") from error

    def _head(self, key: str) -> StoredObject | None:
        try:
            with self._told(key):
                found = self._client.head_object(Bucket=self._bucket, Key=key)
        except ArtifactMissingError:
            return None
        return StoredObject(key, found["ContentLength"], found["LastModified"].timestamp())

    def _listed(self, folder: str) -> Iterator[tuple[str, int, float]]:
        """Key below a folder, bytes and last change of all there is."""
        prefix = self._prefix + folder
        with self._told():
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix):
                for found in page.get("Contents", ()):
                    yield found["Key"].removeprefix(prefix), found["Size"], found["LastModified"].timestamp()

    def _object(self, digest: str) -> str:
        checked_digest(digest)
        return f"{self._prefix}objects/{digest[:2]}/{digest[2:]}"

    def _staged(self, name: str) -> str:
        checked_name(name)
        return f"{self._prefix}staged/{name}"

    @property
    def _client(self) -> Any:
        return self._client_trying(ATTEMPTS)

    def _client_trying(self, attempts: int) -> Any:
        """The client that tries so often what a server fails at, with pauses that grow."""
        with self._opening:
            if attempts not in self._opened:
                import boto3  # noqa: PLC0415 - takes a quarter of a second, which only who has a bucket should wait for
                from botocore.config import Config  # noqa: PLC0415 - as above

                config = Config(
                    connect_timeout=CONNECT_SECONDS,
                    read_timeout=READ_SECONDS,
                    retries={"total_max_attempts": attempts, "mode": "standard"},
                    max_pool_connections=CONNECTIONS,
                    signature_version="s3v4",
                )
                self._opened[attempts] = boto3.session.Session().client("s3", config=config)
            return self._opened[attempts]

    @contextmanager
    def _told(self, key: str = "") -> Iterator[None]:
        """Tell what boto3 raises as ours; `key` is what may be missing.

        A bucket that did not answer is not asked again for a moment: a release has hundreds of segments, and to wait
        for each until it is given up would hold up for an hour whoever maps them.
        """
        if time.monotonic() < self._rest_until:
            raise StoreAwayError(f"the bucket {self._bucket!r} did not answer a moment ago")
        from boto3.exceptions import S3UploadFailedError  # noqa: PLC0415 - as boto3 above
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - as above

        try:
            yield
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            if key and code in _MISSING:
                raise ArtifactMissingError(f"the bucket has no {key}") from error
            raise StoreAwayError(f"the bucket {self._bucket!r} refuses: {code}") from error
        except S3UploadFailedError as error:  # a ClientError in other clothes: it did answer
            raise StoreAwayError(f"the bucket {self._bucket!r} refuses an upload: {error}") from error
        except (BotoCoreError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # of this disk
            self._rest_until = time.monotonic() + REST_SECONDS
            raise StoreAwayError(f"the bucket {self._bucket!r} does not answer: {type(error).__name__}") from error
