"""How a request reaches a server: one small Protocol.

The client speaks in requests and answers; whether they cross a socket or go to an application in the same process is
the transport's business. `http_transport` has the form that most callers use.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO, Protocol

Body = bytes | BinaryIO


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: status, headers by lower-case name, the whole body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport(Protocol):
    """Carries one request to a server and its answer back. Used from several threads at once."""

    def request(
        self, method: str, path: str, headers: Mapping[str, str], body: Body = b"", *, repeatable: bool = False
    ) -> Answer:
        """Send and wait for the answer, whatever its status.

        Args:
            method: `GET`, `POST`, `PUT` or `DELETE`.
            path: absolute path with its query string, percent-encoded.
            headers: by lower-case name.
            body: bytes, or a file opened for reading, which is sent from its start.
            repeatable: whether the call may be sent again when a connection broke before any answer.

        Raises:
            UnreachableError: if no answer came.
        """
