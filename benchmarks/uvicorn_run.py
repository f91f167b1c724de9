"""One way to run uvicorn, so that echo and rival get the same quick settings as our own server."""

from typing import Any

import uvicorn


def run_bare(app: Any, port: int) -> None:
    """Serve an ASGI application on loopback: httptools, uvloop, no access log, no lifespan, no extra headers."""
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=port,
        http="httptools",
        loop="uvloop",
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
    )
