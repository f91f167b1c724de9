"""The ceiling: a bare ASGI callable under uvicorn that reads a request and answers bytes it was given.

It answers, in turn, the very bodies that our server gave to the same requests, under the same headers, and does
nothing else; what a server needs beyond this is its own doing.
"""

import argparse
from collections.abc import Awaitable, Callable, MutableMapping
from itertools import cycle
from pathlib import Path
from typing import Any

from benchmarks.uvicorn_run import run_bare

Message = MutableMapping[str, Any]
App = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]


def echo(answers: list[bytes]) -> App:
    """An ASGI application that answers these bodies in turn."""
    request_id = b"0123456789ab-1234"
    turns = cycle(
        [
            (
                [
                    (b"content-type", b"application/json"),
                    (b"content-length", b"%d" % len(body)),
                    (b"x-request-id", request_id),
                ],
                body,
            )
            for body in answers
        ]
    )

    async def app(
        scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        del scope
        while (await receive()).get("more_body", False):
            pass
        headers, body = next(turns)
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--answers", type=Path, required=True, help="one body a line")
    given = parser.parse_args()
    run_bare(echo(given.answers.read_bytes().splitlines()), given.port)


if __name__ == "__main__":
    main()
