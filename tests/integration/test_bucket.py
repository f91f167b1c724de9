"""The artifact store in a real bucket: what is written, what is fetched, and what happens while it is away."""

import asyncio
import os
import subprocess
import sys
import time

import pytest

from registry.artifacts.bucket import BucketStore
from registry.artifacts.disk_cache import DiskCache
from registry.errors import ArtifactDamagedError, ArtifactMissingError, StoreAwayError, StoreInvalidError
from tests.support.bucket import bucket_server
from tests.support.waiting import until


@pytest.fixture
def server(tmp_path, monkeypatch):
    with bucket_server(tmp_path) as running:
        for name, value in running.credentials.items():
            monkeypatch.setenv(name, value)
        yield running


@pytest.fixture
def machine(server, tmp_path):
    """Opens the store as another machine sees it: with a cache of its own."""

    def opened(name, url="s3://models/fleet"):
        return BucketStore(url, DiskCache(tmp_path / name, 1 << 30))

    return opened


def test_objects_lie_in_the_bucket_as_in_a_folder(server, machine):
    digest = machine("a").put([b"content"]).digest
    assert server.file(f"fleet/objects/{digest[:2]}/{digest[2:]}").read_bytes() == b"content"


def test_what_one_machine_wrote_another_reads(machine):
    digest = machine("a").put([b"content"]).digest
    assert machine("b").path(digest).read_bytes() == b"content"


def test_a_large_object_goes_up_in_parts_and_comes_back_whole(machine):
    chunks = [bytes([number]) * (1 << 20) for number in range(40)]
    digest = machine("a").put(iter(chunks)).digest
    assert machine("b").path(digest).read_bytes() == b"".join(chunks)


def test_what_takes_long_to_load_is_loaded_before_the_first_access_by_who_asks_for_it(server, tmp_path):
    code = f"""
import sys
from pathlib import Path
from registry.artifacts.bucket import BucketStore
from registry.artifacts.disk_cache import DiskCache
store = BucketStore("s3://bucket", DiskCache(Path({str(tmp_path)!r}), 1 << 20))
assert "boto3" not in sys.modules
store.prepare()
before = set(sys.modules)
try:
    store.path("0" * 64)
except Exception as error:
    print(type(error).__name__, sorted(name for name in set(sys.modules) - before if name.startswith(("boto", "s3tr"))))
"""
    environment = os.environ | {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout == "StoreAwayError []\n", done.stderr


def test_prefixes_of_a_bucket_see_nothing_of_each_other(machine):
    one, other, whole = machine("a"), machine("b", "s3://models/other"), machine("c", "s3://models")
    digest = one.put([b"content"]).digest
    assert list(other.objects()) == list(whole.objects()) == []
    with pytest.raises(ArtifactMissingError):
        other.path(digest)


def test_bytes_that_were_changed_in_the_bucket_never_become_an_object_here(server, machine):
    digest = machine("a").put([b"content"]).digest
    server.file(f"fleet/objects/{digest[:2]}/{digest[2:]}").write_bytes(b"convent")
    reader = machine("b")
    for call in (reader.path, reader.verify):
        with pytest.raises(ArtifactDamagedError):
            call(digest)
    assert list(reader._cache.files.objects()) == []


def test_a_copy_that_was_damaged_here_is_fetched_anew(machine):
    store = machine("a")
    digest = store.put([b"content"]).digest
    store.path(digest).write_bytes(b"convent")
    store.verify(digest)
    assert store.path(digest).read_bytes() == b"content"


def test_an_upload_that_one_machine_took_is_built_on_another(machine):
    async def chunks():
        yield b"part one, "
        yield b"part two"

    taker, builder = machine("a"), machine("b")
    name, size = asyncio.run(taker.stage(chunks(), 100))
    assert size == 18
    assert list(taker._cache.files.staged_names()) == []
    assert builder.staged(name).read_bytes() == b"part one, part two"
    assert [found for found, _ in builder.staged_names()] == [name]
    builder.unstage(name)
    assert list(machine("c").staged_names()) == []
    with pytest.raises(ArtifactMissingError):
        machine("c").staged(name)


def test_while_the_bucket_is_away_what_is_here_is_read_and_all_else_says_so(server, machine):
    writer, reader = machine("a"), machine("b")
    known, unknown = writer.put([b"known"]).digest, writer.put([b"unknown"]).digest
    reader.path(known)
    server.kill()
    assert reader.path(known).read_bytes() == b"known"
    reader.verify(known)
    for call in (reader.path, reader.verify, reader.size, reader.delete, lambda _: list(reader.objects())):
        with pytest.raises(StoreAwayError, match="not answer"):
            call(unknown)
    with pytest.raises(StoreAwayError):
        reader.put([b"new"])
    assert len(list(reader._cache.files.objects())) == 1
    server.start()
    until(lambda: fetched(reader, unknown) == b"unknown", 30, "the unknown")
    reader.put([b"new"])


def test_an_upload_that_cannot_reach_the_bucket_leaves_nothing(server, machine):
    async def chunks():
        yield b"upload"

    store = machine("a")
    server.kill()
    with pytest.raises(StoreAwayError):
        asyncio.run(store.stage(chunks(), 100))
    assert list(store._cache.files.staged_names()) == []


def test_a_bucket_that_hangs_is_given_up(server, machine, monkeypatch):
    monkeypatch.setattr("registry.artifacts.bucket.READ_SECONDS", 0.3)
    digest = machine("a").put([b"content"]).digest
    server.freeze()
    with pytest.raises(StoreAwayError, match="does not answer"):
        machine("b").path(digest)
    server.thaw()
    assert machine("b").path(digest).read_bytes() == b"content"


def test_a_bucket_that_did_not_answer_is_not_asked_again_for_a_moment(server, machine, monkeypatch):
    monkeypatch.setattr("registry.artifacts.bucket.READ_SECONDS", 0.3)
    monkeypatch.setattr("registry.artifacts.bucket.REST_SECONDS", 60.0)
    writer, reader = machine("a"), machine("b")
    digests = [writer.put([b"content", bytes([number])]).digest for number in range(50)]
    reader.path(digests[0])
    server.freeze()
    began = time.monotonic()
    for digest in digests[1:]:
        with pytest.raises(StoreAwayError):
            reader.path(digest)
    assert reader.path(digests[0]).exists()
    assert time.monotonic() - began < 15  # and not a second or more for each
    server.thaw()


def fetched(store, digest):
    try:
        return store.path(digest).read_bytes()
    except StoreAwayError:
        return None


def test_a_secret_that_is_wrong_is_refused(machine, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    with pytest.raises(StoreAwayError, match="refuses"):
        machine("a").put([b"content"])


def test_a_bucket_that_is_not_there_refuses_and_that_is_no_silence(machine):
    store = machine("a", "s3://nowhere")
    for _ in range(2):
        with pytest.raises(StoreAwayError, match="refuses"):
            store.put([b"content"])


def test_an_old_object_that_was_swept_just_as_it_was_written_again_is_written_once_more(server, tmp_path):
    store = BucketStore("s3://models", DiskCache(tmp_path / "a", 1 << 30), settle_seconds=0.3)
    digest = store.put([b"content"]).digest
    file = server.file(f"objects/{digest[:2]}/{digest[2:]}")
    os.utime(file, (1_000, 1_000))
    server.look_again()
    store.put([b"content"])
    file.unlink()
    server.look_again()
    until(file.exists, 30, "the object")
    assert file.read_bytes() == b"content"


@pytest.mark.parametrize("url", ["", "models", "http://models", "s3://", "s3://user:secret@models", "s3://models?x=1"])
def test_an_address_that_names_no_bucket_is_refused(url, tmp_path):
    with pytest.raises(StoreInvalidError, match="s3://bucket/prefix"):
        BucketStore(url, DiskCache(tmp_path, 1))
