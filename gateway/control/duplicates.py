"""Refusing JSON objects that name a member twice.

Parsers disagree on which of two equal members counts, so a body that has them means different things to different
readers (RFC 8259, section 4). The fast parser of this house takes the last in silence; this check is for control
bodies, which are small and decide what is served.
"""

import json

from gateway.errors import JsonInvalidError


def refuse_duplicates(body: bytes) -> None:
    """Check a body that is valid JSON.

    Raises:
        JsonInvalidError: naming the member that stands twice, or if it is nested too deeply to look.
    """
    try:
        json.loads(body, object_pairs_hook=_members, parse_int=len, parse_float=len)
    except RecursionError as error:
        raise JsonInvalidError("the body is nested too deeply") from error


def _members(pairs: list[tuple[str, object]]) -> None:
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise JsonInvalidError(f"the member {name[:64]!r} stands twice in one object", field=name[:64])
        seen.add(name)
