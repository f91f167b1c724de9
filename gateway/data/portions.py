"""JSON bulks cut into what stands around their rows and the rows, to be read apart.

Rows that are plain are read where they stand (`gateway.data.scan`), others in portions: a JSON parser holds the
interpreter for as long as it parses, and two megabytes are tens of milliseconds in which nothing else is answered. So
the rows of a large body are cut between two rows, each portion is parsed by itself, and the interpreter is given up in
between. Cutting looks for what separates rows; inside a text the same characters may stand, but a portion that ends
inside a text is no JSON, and then the body is parsed in one piece as ever.
"""

import re
import time
from collections.abc import Iterator
from typing import Any, Final

import orjson

PORTION_BYTES: Final = 64 * 1024
LEAST_BYTES: Final = 2 * 1024  # a smaller body is parsed in less time than it is cut

_START: Final = re.compile(rb'"(data|rows)"\s*:\s*\[')
_BETWEEN: Final = {b"data": re.compile(rb"\]\s*,\s*\["), b"rows": re.compile(rb"\}\s*,\s*\{")}
_LAST: Final = {b"data": re.compile(rb"\]\s*\]"), b"rows": re.compile(rb"\}\s*\]")}


class Cut:
    """A body: what stands around its rows, parsed with no rows, and the rows' bytes.

    Attributes:
        body: the body as parsed, its rows being an empty list.
        name: `data` or `rows`.
        rows: what stands between the brackets of the list of rows.
    """

    def __init__(self, body: dict[str, Any], name: str, rows: bytes) -> None:
        self.body = body
        self.name = name
        self.rows = rows

    @property
    def is_large(self) -> bool:
        """Whether the rows are better read in portions."""
        return len(self.rows) > 2 * PORTION_BYTES

    def portions(self) -> Iterator[list[Any]]:
        """Rows, some tens of kilobytes at a time. Raises orjson.JSONDecodeError where the body was cut wrongly."""
        start, between = 0, _BETWEEN[self.name.encode()]
        while start < len(self.rows):
            found = between.search(self.rows, start + PORTION_BYTES)
            end = found.start() + 1 if found else len(self.rows)
            yield orjson.loads(b"[" + self.rows[start:end] + b"]")
            start = found.end() - 1 if found else len(self.rows)
            time.sleep(0)  # let others have the interpreter


def cut(raw: bytes) -> Cut | None:
    """A body cut at its rows; None for one that is tiny, or not plainly of that form."""
    start = _START.search(raw) if len(raw) >= LEAST_BYTES else None
    if start is None:
        return None
    name = start[1]
    end = _end(raw, start.end(), name)
    if end is None:
        return None
    around = raw[: start.end()] + raw[end:]
    # Of a name that occurs twice the last would count; and there are other ways to spell it.
    if around.count(b'"data"') + around.count(b'"rows"') != 1 or b"\\" in around:
        return None
    try:
        body = orjson.loads(around)
    except orjson.JSONDecodeError:
        return None
    if type(body) is not dict or body.get(name.decode()) != []:
        return None
    return Cut(body, name.decode(), raw[start.end() : end])


def _end(raw: bytes, start: int, name: bytes) -> int | None:
    """Where the list of rows ends, before its bracket: looked for from the end of the body, over what may follow it."""
    for tail in (256, 64 * 1024):
        ends = [found.end() - 1 for found in _LAST[name].finditer(raw, max(start, len(raw) - tail))]
        if ends:
            return ends[-1]
    return None
