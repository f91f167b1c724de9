"""What every artifact store promises, whichever it is."""

import hashlib
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from registry.artifacts.folder import FolderStore
from registry.artifacts.store import ArtifactStore
from registry.errors import ArtifactDamagedError, ArtifactMissingError, UploadTooLargeError


async def chunks_of(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


def stage(store: ArtifactStore, *chunks: bytes, limit: int = 1 << 20) -> tuple[str, int]:
    import asyncio

    return asyncio.run(store.stage(chunks_of(*chunks), limit))


@pytest.fixture(params=[FolderStore])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    make: Callable[[Path], ArtifactStore] = request.param
    return make(tmp_path / "artifacts")


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


def test_a_missing_object_is_said_to_be_missing(store: ArtifactStore) -> None:
    absent = hashlib.sha256(b"never written").hexdigest()
    with pytest.raises(ArtifactMissingError):
        store.path(absent)
    with pytest.raises(ArtifactMissingError):
        store.verify(absent)


@pytest.mark.parametrize("name", ["", "..", "../../etc/passwd", "a" * 63, "A" * 64, "a" * 64 + "\n", "a/" + "b" * 62])
def test_a_name_that_is_no_digest_names_nothing(store: ArtifactStore, name: str) -> None:
    for call in (store.path, store.verify, store.delete):
        with pytest.raises(ArtifactMissingError):
            call(name)
    for call in (store.staged, store.unstage):
        with pytest.raises(ArtifactMissingError):
            call(name)


def test_verify_finds_one_flipped_bit_and_writing_again_heals_it(store: ArtifactStore) -> None:
    digest = store.put([b"x" * 100_000]).digest
    store.verify(digest)
    path = store.path(digest)
    damaged = bytearray(path.read_bytes())
    damaged[70_000] ^= 1
    path.write_bytes(damaged)
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


def test_ages_follow_the_last_write(store: ArtifactStore) -> None:
    digest = store.put([b"old"]).digest
    os.utime(store.path(digest), (1_000, 1_000))
    assert [found.modified for found in store.objects()] == [1_000]
    assert store.put([b"old"]).modified > 1_000
    assert next(store.objects()).modified > 1_000
