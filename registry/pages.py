"""Listings by page: a cursor is the opaque place after the last item, so pages stay right while rows come and go."""

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from registry.errors import CursorInvalidError

MAX_LIMIT: Final = 1000

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some items of a listing; `cursor` continues after them and is None on the last page."""

    items: tuple[T, ...]
    cursor: str | None


def cut_page(found: Sequence[T], limit: int, place: Callable[[T], bytes]) -> Page[T]:
    """The page of the first `limit` items of those found; finding one more than `limit` says that there is a next."""
    if len(found) <= limit:
        return Page(tuple(found), None)
    return Page(tuple(found[:limit]), write_cursor(place(found[limit - 1])))


def checked_limit(limit: int) -> int:
    """The limit, held to 1..1000."""
    return max(1, min(limit, MAX_LIMIT))


def write_cursor(place: bytes) -> str:
    """URL-safe base64 of a place, without padding."""
    return base64.urlsafe_b64encode(place).decode().rstrip("=")


def read_cursor(cursor: str, length: int) -> bytes:
    """The place, of `length` bytes, that a cursor stands for.

    Raises:
        CursorInvalidError: if the text is no cursor of ours.
    """
    try:
        place = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise not_a_cursor(cursor) from error
    if len(place) != length:
        raise not_a_cursor(cursor)
    return place


def not_a_cursor(cursor: str) -> CursorInvalidError:
    """What is said of a cursor that this listing never gave out."""
    return CursorInvalidError(f"{cursor[:80]!r} is no cursor of this listing", field="cursor")
