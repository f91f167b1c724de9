"""What is compiled once is there for everybody at once."""

import fcntl
import subprocess
import sys

import workers.packed  # noqa: F401 - compiles what is not cached
from workers.packing.compiling import LOCK, cache_folder


def test_what_is_cached_is_taken_while_another_process_compiles_or_has_no_time_to_go_on():
    with (cache_folder() / LOCK).open("a", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        subprocess.run([sys.executable, "-c", "import workers.packed"], check=True, timeout=60)
