"""Request ids: the caller's own where it is harmless to echo and log, else one of ours."""

import os
import re
from itertools import count
from typing import Final

_HARMLESS: Final = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


class RequestIds:
    """Makes ids unique across processes and restarts: random at construction, then counting."""

    def __init__(self) -> None:
        self._prefix = os.urandom(6).hex().encode() + b"-"
        self._numbers = count(1)

    def new(self) -> bytes:
        """A fresh id."""
        return self._prefix + b"%x" % next(self._numbers)

    def of(self, headers: list[tuple[bytes, bytes]]) -> bytes:
        """The id of a request: its `x-request-id` if that is short and plain, else a fresh one."""
        for name, value in headers:
            if name == b"x-request-id":
                return value if _HARMLESS.fullmatch(value) else self.new()
        return self.new()
