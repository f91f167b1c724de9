"""The files through which the serving processes of a home share their metrics, with their bytes set aside at the start.

prometheus_client maps files with holes. On a disk that is full, whoever writes into a hole is killed by SIGBUS, so a
process that serves would be lost to a counter.
"""

import logging
import os
import tempfile
from pathlib import Path
from typing import Final

from registry.home import Home

log = logging.getLogger("manymodels.gateway")

VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
FILE_BYTES: Final = 1 << 18  # several times what all series there can be take: no label ever names a model
KINDS: Final = ("counter", "histogram", "gauge_livemax", "gauge_livesum")  # of metrics, as files are named by them


def set_aside(home: Home) -> None:
    """Make this process's files; before prometheus_client is imported. Without room they lie in a temporary folder.

    Raises:
        OSError: if there is no room for them anywhere.
    """
    try:
        _allocate(home.metrics)
    except OSError as error:
        folder = Path(tempfile.mkdtemp(prefix="manymodels-metrics-"))
        log.warning("metrics of this process are not shared with others and lie in %s: %s", folder, error.strerror)
        _allocate(folder)
        os.environ[VARIABLE] = str(folder)


def _allocate(folder: Path) -> None:
    for kind in KINDS:
        path = folder / f"{kind}_{os.getpid()}.db"
        with path.open("wb") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, FILE_BYTES)
            except OSError:
                path.unlink()
                raise
