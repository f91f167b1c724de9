import stat
import subprocess
import sys

import pytest

from registry.errors import HomeInUseError, HomeInvalidError
from registry.home import Home, HomeLock


def test_prepare_makes_folders_for_their_owner_alone(tmp_path):
    home = Home(tmp_path / "deep" / "home")
    home.prepare()
    home.prepare()
    for folder in (home.root, home.artifacts, home.metrics):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_nothing_is_made_before_prepare(tmp_path):
    home = Home(tmp_path / "home")
    assert home.registry_url.endswith("/home/registry.db")
    assert home.leases_url.endswith("/home/leases.db")
    assert not home.root.exists()


@pytest.mark.parametrize("taken", ["home", "home/artifacts", "home/metrics"])
def test_a_file_in_the_place_of_a_folder_is_named(tmp_path, taken):
    path = tmp_path / taken
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")
    with pytest.raises(HomeInvalidError, match=taken.rpartition("/")[2]) as caught:
        Home(tmp_path / "home").prepare()
    assert caught.value.code == "home_invalid"
    assert path.read_text() == "mine"


def test_a_home_under_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(HomeInvalidError, match="is a file"):
        Home(tmp_path / "file" / "home").prepare()


def test_a_home_is_served_by_one_at_a_time(tmp_path):
    home = Home(tmp_path)
    with HomeLock(home):
        with pytest.raises(HomeInUseError, match="already served by process") as caught:
            HomeLock(home).__enter__()
        assert caught.value.code == "home_in_use"
    with HomeLock(home):
        pass


def test_a_process_that_was_killed_leaves_no_lock(tmp_path):
    code = (
        "import os, signal; from pathlib import Path; from registry.home import Home, HomeLock\n"
        f"HomeLock(Home(Path({str(tmp_path)!r}))).__enter__()\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert (tmp_path / "serve.lock").exists()
    with HomeLock(Home(tmp_path)):
        pass
