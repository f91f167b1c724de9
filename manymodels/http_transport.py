"""Requests over HTTP/1.1, through a pool of kept-alive connections.

A call that the server may have carried out is never repeated, unless the caller says that repeating it does no harm.
"""

from collections.abc import Mapping
from http.client import RemoteDisconnected
from typing import Self
from urllib.parse import urlsplit

import urllib3
from urllib3.exceptions import HTTPError, LocationValueError, NewConnectionError, ProtocolError
from urllib3.exceptions import TimeoutError as WaitTimeoutError

from manymodels.errors import TimedOutError, UnreachableError
from manymodels.transport import Answer, Body


class HttpTransport:
    """HTTP/1.1 over kept-alive connections. Owns its pool: close it, or use it as a context manager.

    Args:
        url: `http://host:port`, with a path if the server lies behind one.
        timeout: seconds to wait for an answer.
        connections: how many are kept open; more are opened under more threads and closed afterwards.
    """

    def __init__(self, url: str, *, timeout: float = 60.0, connections: int = 8) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UnreachableError(f"{url!r} is no address of a server; give one like http://127.0.0.1:8080")
        self.url = url.rstrip("/")
        self._prefix = parts.path.rstrip("/")
        self._timeout = timeout
        self._pool = _open_pool(url, timeout, connections)

    def close(self) -> None:
        """Close all idle connections."""
        self._pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def request(
        self, method: str, path: str, headers: Mapping[str, str], body: Body = b"", *, repeatable: bool = False
    ) -> Answer:
        """See `Transport.request`.

        Raises:
            UnreachableError: saying what to do.
            TimedOutError: if the server took longer than the timeout.
        """
        try:
            try:
                return self._send(method, path, headers, body)
            except ProtocolError as error:
                # The pool replaces a connection it sees closed. What is left is the server closing an idle one just
                # as we send: no byte of an answer came.
                if not (repeatable and _closed_without_answer(error)):
                    raise
                return self._send(method, path, headers, body)
        except (HTTPError, OSError) as error:
            raise self._unreachable(error) from error

    def _send(self, method: str, path: str, headers: Mapping[str, str], body: Body) -> Answer:
        sent = dict(headers)
        if not isinstance(body, bytes):
            body.seek(0, 2)
            sent["content-length"] = str(body.tell())
            body.seek(0)
        answer = self._pool.urlopen(method, self._prefix + path, body=body or None, headers=sent, redirect=False)
        return Answer(answer.status, {name.lower(): value for name, value in answer.headers.items()}, answer.data)

    def _unreachable(self, error: Exception) -> UnreachableError:
        if isinstance(error, NewConnectionError):
            return UnreachableError(
                f"nothing answers at {self.url}: start a server with `manymodels serve --home DIR`, or name another "
                "address (--url, MANYMODELS_URL, Client(url))"
            )
        if isinstance(error, WaitTimeoutError):
            return TimedOutError(
                f"{self.url} did not answer within {self._timeout:g} s; the call may still be carried out: look "
                "before repeating it, or allow more time with Client(url, timeout=...)"
            )
        return UnreachableError(f"the connection to {self.url} broke ({error}): see whether the server still runs")


def _open_pool(url: str, timeout: float, connections: int) -> urllib3.HTTPConnectionPool:
    try:
        return urllib3.connection_from_url(
            url,
            maxsize=connections,
            retries=False,
            timeout=urllib3.Timeout(connect=min(5.0, timeout), read=timeout),
        )
    except LocationValueError as error:
        raise UnreachableError(f"{url!r} is no address of a server: {error}") from error


def _closed_without_answer(error: ProtocolError) -> bool:
    cause = error.args[1] if len(error.args) > 1 else None
    return isinstance(cause, RemoteDisconnected | ConnectionResetError | BrokenPipeError)
