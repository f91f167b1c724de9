"""A small real HTTP server in a thread, for whatever has to cross a wire in a unit test.

It answers with what a plain function says and keeps every request it got, so that a test reads: this was asked, this
was answered. Connections stay open between requests unless the answer says `connection: close`.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


@dataclass(frozen=True)
class Asked:
    """A request as it came over the wire; `path` is undecoded, with its query."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The decoded JSON body."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Reply:
    """An answer: a JSON value or bytes. `hang_up` closes the connection without any answer."""

    status: int = 200
    body: Any = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    hang_up: bool = False

    @property
    def data(self) -> bytes:
        """The body as bytes."""
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


@dataclass
class ScriptedServer:
    """A running server: its address, the requests so far, and the client ports they came from."""

    url: str
    asked: list[Asked] = field(default_factory=list)
    ports: list[int] = field(default_factory=list)


@contextmanager
def serving(script: Callable[[Asked], Reply]) -> Iterator[ScriptedServer]:
    """Serve on a free loopback port until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            asked = Asked(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body)
            running.asked.append(asked)
            running.ports.append(self.client_address[1])
            reply = script(asked)
            if reply.hang_up:
                self.close_connection = True
                return
            data = b"" if reply.status == 204 else reply.data
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_DELETE = _answer

        def log_message(self, *_args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    running = ScriptedServer(f"http://127.0.0.1:{server.server_address[1]}")
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield running
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def problem(status: int, code: str, detail: str, **more: Any) -> Reply:
    """A refusal as the product sends it."""
    body = {"type": "about:blank", "title": "t", "status": status, "code": code, "detail": detail, **more}
    return Reply(status, {"request_id": "r-1", **body}, {"content-type": "application/problem+json"})
