"""What only a folder on a disk must show: confinement, and being whole or absent after a crash."""

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from registry.artifacts.folder import FAILPOINTS, FolderStore
from registry.errors import ArtifactDamagedError, ArtifactMissingError

ROOT = Path(__file__).parents[3]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "artifacts"


@pytest.fixture
def store(root: Path) -> FolderStore:
    return FolderStore(root)


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def place(root: Path, digest: str) -> Path:
    return root / "objects" / digest[:2] / digest[2:]


def test_an_object_lies_under_the_first_two_digits_of_its_digest(store: FolderStore, root: Path) -> None:
    digest = store.put([b"bytes"]).digest
    assert place(root, digest).read_bytes() == b"bytes"


def test_a_link_in_place_of_an_object_is_refused_and_its_target_untouched(
    store: FolderStore, root: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"secret")
    digest = digest_of(b"secret")
    place(root, digest).parent.mkdir()
    place(root, digest).symlink_to(outside)
    with pytest.raises(ArtifactDamagedError):
        store.path(digest)
    with pytest.raises(ArtifactDamagedError):
        store.verify(digest)
    assert list(store.objects()) == []
    assert store.delete(digest) is True
    assert outside.read_bytes() == b"secret"


def test_a_linked_folder_is_neither_read_listed_nor_written_through(
    store: FolderStore, root: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    digest = digest_of(b"bytes")
    (outside / digest[2:]).write_bytes(b"bytes")
    place(root, digest).parent.symlink_to(outside)
    with pytest.raises(ArtifactDamagedError):
        store.path(digest)
    (outside / digest[2:]).unlink()
    with pytest.raises(ArtifactDamagedError):
        store.put([b"bytes"])
    assert list(outside.iterdir()) == []
    assert list(store.objects()) == []
    assert list(store.staged_names()) == []


def test_a_link_in_place_of_an_upload_is_refused(store: FolderStore, root: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(b"secret")
    (root / "staged" / ("a" * 32)).symlink_to(tmp_path / "outside")
    with pytest.raises(ArtifactDamagedError):
        store.staged("a" * 32)
    store.unstage("a" * 32)
    assert (tmp_path / "outside").exists()


def test_a_folder_in_place_of_an_object_is_refused(store: FolderStore, root: Path) -> None:
    place(root, "b" * 64).mkdir(parents=True)
    with pytest.raises(ArtifactDamagedError):
        store.path("b" * 64)


def test_a_file_in_place_of_a_folder_of_objects_holds_nothing(store: FolderStore, root: Path) -> None:
    (root / "objects" / "cc").write_bytes(b"stray")
    with pytest.raises(ArtifactMissingError):
        store.path("c" * 64)
    assert list(store.objects()) == []


def test_stray_files_are_not_listed(store: FolderStore, root: Path) -> None:
    (root / "objects" / "ab").mkdir()
    (root / "objects" / "ab" / "stray.txt").write_bytes(b"")
    (root / "staged" / "stray.txt").write_bytes(b"")
    assert list(store.objects()) == []
    assert list(store.staged_names()) == []


def test_a_root_reached_through_a_link_works(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    store = FolderStore(tmp_path / "link" / "artifacts")
    digest = store.put([b"bytes"]).digest
    assert store.path(digest).read_bytes() == b"bytes"


def test_a_store_whose_own_folders_are_links_is_refused(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts" / "objects").symlink_to(tmp_path / "disk")
    with pytest.raises(ArtifactDamagedError):
        FolderStore(tmp_path / "artifacts")


FULL = """
import asyncio, resource, sys
from pathlib import Path
from registry.artifacts.folder import FolderStore
from registry.errors import StorageFullError

async def chunks():
    for _ in range(50):
        yield bytes(100_000)

store = FolderStore(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
try:
    store.put(bytes(100_000) for _ in range(50))
except StorageFullError:
    print("put refused")
try:
    asyncio.run(store.stage(chunks(), 10_000_000))
except StorageFullError:
    print("upload refused")
"""


def test_a_disk_without_room_refuses_and_keeps_nothing(store: FolderStore, root: Path) -> None:
    said = subprocess.run(
        [sys.executable, "-c", FULL, str(root)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert said.splitlines() == ["put refused", "upload refused"]
    assert list((root / "staged").iterdir()) == []
    assert list(store.objects()) == []


SCRIPT = """
import asyncio, sys
from pathlib import Path
from registry.artifacts.folder import FolderStore

async def chunks():
    yield b"upload"

store = FolderStore(Path(sys.argv[1]))
store.put([b"bytes " * 1000])
asyncio.run(store.stage(chunks(), 100))
store.delete(store.put([b"to go"]).digest)
"""


@pytest.mark.parametrize("name", FAILPOINTS)
def test_a_crash_between_any_two_steps_leaves_each_object_whole_or_absent(
    store: FolderStore, root: Path, name: str
) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(root)],
        env={**os.environ, "MANYMODELS_FAILPOINT": name, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    for found in store.objects():
        store.verify(found.digest)
    assert len(list(store.staged_names())) <= 1
    written = store.put([b"bytes " * 1000])
    assert store.path(written.digest).read_bytes() == b"bytes " * 1000
    for staged, _ in list(store.staged_names()):
        store.unstage(staged)
    assert list((root / "staged").iterdir()) == []
