"""Named points between two I/O steps where a test can make the process die as if by power loss.

Crash safety is a promise about every pair of I/O steps, so each step of registration, import, release, promotion and
gc passes a failpoint by name. With the environment variable unset a failpoint is one comparison with None.
"""

import os
import signal
from typing import Final

VARIABLE: Final = "MANYMODELS_FAILPOINT"

_armed: Final = os.environ.get(VARIABLE)


def failpoint(name: str) -> None:
    """Kill this process with SIGKILL if `name` is armed by the environment variable MANYMODELS_FAILPOINT."""
    if _armed is not None and _armed == name:
        os.kill(os.getpid(), signal.SIGKILL)
