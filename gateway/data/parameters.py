"""Query parameters of a bulk: an Arrow body has no members to say them in."""

from typing import Final
from urllib.parse import parse_qsl

from gateway.errors import ParameterInvalidError

_ALLOWED: Final = frozenset({"max_fallback_level"})


def read_parameters(query: bytes) -> dict[str, int]:
    """Whole-number parameters of a query string.

    Raises:
        ParameterInvalidError: for unknown, repeated or malformed ones.
    """
    found: dict[str, int] = {}
    if not query:
        return found
    for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if name not in _ALLOWED or name in found:
            raise ParameterInvalidError(f"unknown or repeated parameter {name!r}"[:120], field=name[:60])
        if not (value.isascii() and value.isdigit() and len(value) < 10):
            raise ParameterInvalidError(f"{name} must be a whole number", field=name)
        found[name] = int(value)
    return found
