"""What every artifact store promises, whichever it is."""

import hashlib
import os
import secrets
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from deploy.local.servers import BucketServer
from registry.artifacts.bucket import BucketStore
from registry.artifacts.disk_cache import DiskCache
from registry.artifacts.folder import FolderStore
from registry.artifacts.store import ArtifactStore
from registry.errors import ArtifactDamagedError, ArtifactMissingError, UploadTooLargeError
from tests.support.bucket import bucket_server
from tests.support.waiting import until


async def chunks_of(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


def stage(store: ArtifactStore, *chunks: bytes, limit: int = 1 << 20) -> tuple[str, int]:
    import asyncio

    return asyncio.run(store.stage(chunks_of(*chunks), limit))


class Folder:
    """A store in a folder, and where its bytes lie."""

    def __init__(self, folder: Path, _request: pytest.FixtureRequest) -> None:
        self.store: ArtifactStore = FolderStore(folder / "artifacts")
        self._folder = folder / "artifacts"

    def file(self, digest: str) -> Path:
        return self._folder / "objects" / digest[:2] / digest[2:]

    def changed(self) -> None:
        """Nobody remembers how a file was."""

    def forget(self, digest: str) -> None:
        """There is no copy beside."""


class Bucket:
    """A store in a bucket of a real server."""

    def __init__(self, folder: Path, request: pytest.FixtureRequest) -> None:
        self._server: BucketServer = request.getfixturevalue("server")
        for name, value in self._server.credentials.items():
            request.getfixturevalue("monkeypatch").setenv(name, value)
        self._prefix = secrets.token_hex(4)
        self._cache = DiskCache(folder / "cache", 1 << 30)
        self.store: ArtifactStore = BucketStore(f"s3://models/{self._prefix}", self._cache)

    def file(self, digest: str) -> Path:
        return self._server.file(f"{self._prefix}/objects/{digest[:2]}/{digest[2:]}")

    def changed(self) -> None:
        self._server.look_again()

    def forget(self, digest: str) -> None:
        self._cache.files.delete(digest)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BucketServer]:
    with bucket_server(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(params=[Folder, Bucket])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> "Folder | Bucket":
    made: Folder | Bucket = request.param(tmp_path, request)
    return made


@pytest.fixture
def store(place: "Folder | Bucket") -> ArtifactStore:
    return place.store


def test_an_object_is_named_by_the_sha256_of_its_bytes(store: ArtifactStore) -> None:
    found = store.put([b"one ", b"", b"two"])
    assert found.digest == hashlib.sha256(b"one two").hexdigest()
    assert found.size == 7
    assert store.path(found.digest).read_bytes() == b"one two"


def test_an_empty_object_is_an_object(store: ArtifactStore) -> None:
    found = store.put([])
    assert found.size == 0
    assert store.path(found.digest).read_bytes() == b""


def test_writing_an_object_again_changes_nothing(store: ArtifactStore) -> None:
    first = store.put([b"same"])
    second = store.put([b"sa", b"me"])
    assert (second.digest, second.size) == (first.digest, first.size)
    assert [found.digest for found in store.objects()] == [first.digest]


def test_objects_lists_digest_size_and_age(store: ArtifactStore) -> None:
    put = {store.put([bytes([i]) * i]).digest: i for i in range(1, 40)}
    listed = list(store.objects())
    assert {found.digest: found.size for found in listed} == put
    assert all(found.modified > 1_600_000_000 for found in listed)


def test_the_size_of_an_object_is_that_of_its_bytes(store: ArtifactStore) -> None:
    assert store.size(store.put([b"seven b", b"ytes"]).digest) == 11


def test_a_missing_object_is_said_to_be_missing(store: ArtifactStore) -> None:
    absent = hashlib.sha256(b"never written").hexdigest()
    with pytest.raises(ArtifactMissingError):
        store.path(absent)
    with pytest.raises(ArtifactMissingError):
        store.verify(absent)
    with pytest.raises(ArtifactMissingError):
        store.size(absent)


@pytest.mark.parametrize("name", ["", "..", "../../etc/passwd", "a" * 63, "A" * 64, "a" * 64 + "\n", "a/" + "b" * 62])
def test_a_name_that_is_no_digest_names_nothing(store: ArtifactStore, name: str) -> None:
    for call in (store.path, store.verify, store.delete, store.size):
        with pytest.raises(ArtifactMissingError):
            call(name)
    for call in (store.staged, store.unstage):
        with pytest.raises(ArtifactMissingError):
            call(name)


def test_verify_finds_one_flipped_bit_and_writing_again_heals_it(place: "Folder | Bucket") -> None:
    store = place.store
    digest = store.put([b"x" * 100_000]).digest
    store.verify(digest)
    path = place.file(digest)
    damaged = bytearray(path.read_bytes())
    damaged[70_000] ^= 1
    path.write_bytes(damaged)
    place.forget(digest)
    with pytest.raises(ArtifactDamagedError):
        store.verify(digest)
    store.put([b"x" * 100_000])
    store.verify(digest)


def test_a_deleted_object_is_gone_and_deleting_it_again_is_fine(store: ArtifactStore) -> None:
    digest = store.put([b"gone"]).digest
    assert store.delete(digest) is True
    assert store.delete(digest) is False
    with pytest.raises(ArtifactMissingError):
        store.path(digest)
    assert list(store.objects()) == []


def test_an_object_written_again_survives_a_sweep_that_saw_it_old(store: ArtifactStore) -> None:
    written = store.put([b"young"])
    assert store.delete(written.digest, unless_since=written.modified) is False
    assert store.path(written.digest).exists()
    assert store.delete(written.digest, unless_since=written.modified + 1) is True


def test_a_put_that_fails_midway_leaves_nothing(store: ArtifactStore) -> None:
    def failing() -> Iterator[bytes]:
        yield b"begun"
        raise OSError("the source broke")

    with pytest.raises(OSError, match="the source broke"):
        store.put(failing())
    assert list(store.objects()) == []
    assert list(store.staged_names()) == []


def test_many_threads_may_put_and_delete_the_same_object(store: ArtifactStore) -> None:
    failures: list[OSError] = []

    def churn() -> None:
        try:
            for _ in range(30):
                digest = store.put([b"contended"]).digest
                store.delete(digest)
        except OSError as error:
            failures.append(error)

    threads = [threading.Thread(target=churn) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    store.verify(store.put([b"contended"]).digest)


def test_a_staged_upload_is_readable_until_it_is_unstaged(store: ArtifactStore) -> None:
    name, size = stage(store, b"part one, ", b"part two")
    assert size == 18
    assert store.staged(name).read_bytes() == b"part one, part two"
    assert [found for found, _ in store.staged_names()] == [name]
    store.unstage(name)
    store.unstage(name)
    with pytest.raises(ArtifactMissingError):
        store.staged(name)


def test_uploads_never_share_a_name(store: ArtifactStore) -> None:
    assert len({stage(store, b"same bytes")[0] for _ in range(20)}) == 20


def test_an_upload_over_its_limit_is_refused_and_leaves_nothing(store: ArtifactStore) -> None:
    assert stage(store, b"12345", limit=5)[1] == 5
    with pytest.raises(UploadTooLargeError):
        stage(store, b"123", b"456", limit=5)
    assert len(list(store.staged_names())) == 1


def test_an_upload_that_breaks_off_leaves_nothing(store: ArtifactStore) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"begun"
        raise ConnectionResetError

    async def call() -> None:
        await store.stage(broken(), 100)

    import asyncio

    with pytest.raises(ConnectionResetError):
        asyncio.run(call())
    assert list(store.staged_names()) == []


def test_staged_uploads_are_no_objects(store: ArtifactStore) -> None:
    stage(store, b"upload")
    assert list(store.objects()) == []


def test_ages_follow_the_last_write(place: "Folder | Bucket") -> None:
    store = place.store
    digest = store.put([b"old"]).digest
    os.utime(place.file(digest), (1_000, 1_000))
    place.changed()
    until(lambda: [found.modified for found in store.objects()] == [1_000], 10, "the age of the file")
    assert store.put([b"old"]).modified > 1_000
    assert next(store.objects()).modified > 1_000
