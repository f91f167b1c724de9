"""One call to the server: a request sent through the transport, its answer decoded or its refusal raised."""

from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from manymodels.transport import Answer, Transport
from manymodels.wire import from_answer, query, to_json


class Calls:
    """JSON calls over a transport, for the client's parts to build on. Safe from any thread if the transport is."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def _get(self, path: str) -> Any:
        """The decoded answer of a GET."""
        return from_answer(self._transport.request("GET", path, _ACCEPTED, repeatable=True))

    def _send(self, method: str, path: str, body: object, *, repeatable: bool = False, **headers: str) -> Any:
        """The decoded answer of a call with a JSON body; `headers` by name with `_` for `-`."""
        return from_answer(self._exchange(method, path, body, repeatable=repeatable, **headers))

    def _exchange(self, method: str, path: str, body: object, *, repeatable: bool = False, **headers: str) -> Answer:
        """The answer itself of a call with a JSON body."""
        sent = {
            **_ACCEPTED,
            "content-type": "application/json",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        return self._transport.request(method, path, sent, to_json(body), repeatable=repeatable)

    def _upload(self, path: str, body: bytes | BinaryIO, headers: Mapping[str, str]) -> Answer:
        """The answer to a POST of bytes or of a file; sending the same bytes twice is taken for once."""
        return self._transport.request("POST", path, {**_ACCEPTED, **headers}, body, repeatable=True)

    def _delete(self, path: str) -> Any:
        """The decoded answer of a DELETE."""
        return from_answer(self._transport.request("DELETE", path, _ACCEPTED))

    def _pages(self, path: str, pairs: list[tuple[str, str | int | None]], name: str) -> Iterator[Any]:
        """The items of a listing under `name`, page after page."""
        cursor: str | None = None
        while True:
            body = self._get(path + query([*pairs, ("cursor", cursor)]))
            yield from body[name]
            cursor = body["cursor"]
            if cursor is None:
                return


_ACCEPTED = {"accept": "application/json"}
