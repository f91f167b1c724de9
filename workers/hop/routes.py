"""Where a worker answers hops, by version: both ends read it here."""

from typing import Final

NOW: Final = b"/internal/v1/score"
ALONE: Final = b"/internal/v1/score/waiting"
RESOLVE: Final = b"/internal/v1/resolve"
HEALTH: Final = b"/internal/v1/health"
DEADLINE: Final = b"x-deadline-ms"  # header: how long the caller waits
RELUCTANT: Final = b"ask others"  # while it starts or is about to stop
WELL: Final = b"ok"
