"""A pack on its way from the child that made it to a segment: a digest, its words, then its codes as JSON.

The digest is BLAKE2b-128 of what follows: a bundle's frames have none of their own.
"""

from hashlib import blake2b
from typing import Any, Final

import orjson
from xxhash import xxh64_intdigest

from registry.errors import ArtifactDamagedError
from workers.packing.layout import HEAD_WORDS, LINE_WORDS, MOST_WORDS, NotPackableError, Pack

WrittenCodes = tuple[tuple[int, tuple[tuple[Any, int], ...]], ...]

MOST_CODES: Final = 1 << 24  # bytes of the codes and the digest

_HEAD_BYTES: Final = HEAD_WORDS * 8
_DIGEST_BYTES: Final = 16


def written(pack: Pack) -> bytes:
    """The bytes of a pack and its codes.

    Raises:
        NotPackableError: if its codes are more than a reader takes, or cannot be written (a text of half a character).
    """
    codes = [[position, list(known.items())] for position, known in pack.codes]
    try:
        spelled = orjson.dumps(codes) if codes else b""
    except orjson.JSONEncodeError as error:
        raise NotPackableError("shape", f"its categories cannot be written: {error}") from error
    if len(spelled) + _DIGEST_BYTES > MOST_CODES:
        raise NotPackableError("shape", f"its categories take {len(spelled)} bytes")
    body = pack.words.tobytes() + spelled
    return blake2b(body, digest_size=_DIGEST_BYTES).digest() + body


def read(raw: bytes) -> tuple[bytes, WrittenCodes]:
    """The words of a pack, as bytes, and its codes: (position, ((value, code), ...)).

    Raises:
        ArtifactDamagedError: if these are no such bytes.
    """
    words = words_of(raw)
    spelled = raw[_DIGEST_BYTES + len(words) :]
    try:
        codes = orjson.loads(spelled) if spelled else ()
        return words, tuple(
            (int(position), tuple((value, int(code)) for value, code in known)) for position, known in codes
        )
    except (ValueError, TypeError) as error:
        raise ArtifactDamagedError(f"the codes of a pack cannot be read: {error}") from error


def words_of(raw: bytes) -> bytes:
    """The words of a pack, its codes left unread. Raises as `read`."""
    body = raw[_DIGEST_BYTES:]
    if blake2b(body, digest_size=_DIGEST_BYTES).digest() != raw[:_DIGEST_BYTES]:
        raise ArtifactDamagedError("a pack does not have its digest")
    words = int.from_bytes(body[:8], "little", signed=True)
    if len(body) < _HEAD_BYTES or words < HEAD_WORDS or words % LINE_WORDS or 8 * words > len(body):
        raise ArtifactDamagedError("no pack: it is cut short")
    if words > MOST_WORDS:  # no reader would open a segment that holds it
        raise ArtifactDamagedError(f"a pack of {words} words is larger than any may be")
    return body[: 8 * words]


def checksum_of(pack: bytes) -> int:
    """XXH64 of a pack's words, seed 0."""
    return xxh64_intdigest(pack)
