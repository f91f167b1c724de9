"""Partition keys: the ordered fields that name one model, their canonical text and their identity.

Everything that finds a model starts from a key, so its text has exactly one form (`store=2/brand=tropicana`, values
percent-encoded, fields in the group's order) and its identity is BLAKE2b-128 (RFC 7693) of that form. Indexes sort by
the first 64 bits and compare all 128. Pure functions over immutable values; no I/O.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from hashlib import blake2b
from urllib.parse import quote, unquote

from registry.errors import (
    GroupInvalidError,
    KeyFieldMissingError,
    KeyFieldUnknownError,
    KeyTooLongError,
    KeyTypeError,
)

SLOTS = 4096
MAX_VALUE_BYTES = 512
MAX_FIELDS = 8
RESERVED_FIELDS = frozenset({"group", "limit", "cursor", "since", "wait", "tag", "release"})

_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")


@dataclass(frozen=True, slots=True)
class PartitionKey:
    """One model's key: `(field, value)` pairs in the group's field order; fewer than all fields is a partial key."""

    pairs: tuple[tuple[str, str], ...]

    @property
    def text(self) -> str:
        """Canonical form; the key of the whole group (no field) is the empty text."""
        return "/".join([f"{field}={quoted(value)}" for field, value in self.pairs])

    @property
    def id(self) -> bytes:
        """Identity: 16 bytes, BLAKE2b-128 of the canonical form."""
        return key_id(self.text)

    def as_dict(self) -> dict[str, str]:
        """The key as a JSON object."""
        return dict(self.pairs)


@lru_cache(maxsize=1 << 16)  # values such as a region come back in every other key
def quoted(value: str) -> str:
    """A key value as it stands in canonical text: RFC 3986 unreserved characters, the rest percent-encoded."""
    return quote(value, safe="")


@lru_cache(maxsize=1 << 16)
def unquoted(value: str) -> str:
    """The key value that `quoted` wrote. Raises UnicodeDecodeError if it is no UTF-8."""
    return unquote(value, errors="strict")


def key_id(text: str) -> bytes:
    """BLAKE2b-128 of a canonical form, 16 bytes."""
    return blake2b(text.encode(), digest_size=16).digest()


def slot_of(identity: bytes) -> int:
    """The slot (0..4095) of an identity: its first 12 bits."""
    return (identity[0] << 4) | (identity[1] >> 4)


def shard_of(slot: int, shards: int) -> int:
    """The shard that holds a slot when `shards` shards cut the slots into runs of (nearly) equal length."""
    return slot * shards // SLOTS


@dataclass(frozen=True)
class KeySchema:
    """The key fields of a group, the fields that choose the slot, and the chain of fallback subsets.

    Attributes:
        fields: all key fields, in order.
        shard_by: the fields whose values choose the slot; all fields by default.
        fallback: field subsets tried in turn when the full key has no model, e.g. `(("brand",), ())`.

    Raises:
        GroupInvalidError: on an illegal, reserved, repeated or unknown field name.
    """

    fields: tuple[str, ...]
    shard_by: tuple[str, ...] = ()
    fallback: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        _check_fields(self.fields)
        object.__setattr__(self, "shard_by", self._subset("shard_by", self.shard_by or self.fields))
        chain = tuple(self._subset("fallback", level) for level in self.fallback)
        if len(set(chain)) != len(chain) or self.fields in chain:
            raise GroupInvalidError("a fallback level is named twice or is the full key", field="fallback")
        object.__setattr__(self, "fallback", chain)

    def _subset(self, what: str, names: Sequence[str]) -> tuple[str, ...]:
        unknown = [name for name in names if name not in self.fields]
        if unknown or len(set(names)) != len(names):
            raise GroupInvalidError(f"{what} must name distinct key fields, got {list(names)}", field=what)
        return tuple(field for field in self.fields if field in names)

    @cached_property
    def levels(self) -> tuple[tuple[int, ...], ...]:
        """Field positions per fallback level; level 0 is the full key."""
        chain = (self.fields, *self.fallback)
        return tuple(tuple(self.fields.index(field) for field in level) for level in chain)

    @cached_property
    def _shard_positions(self) -> tuple[int, ...] | None:
        if self.shard_by == self.fields:
            return None
        return tuple(self.fields.index(field) for field in self.shard_by)

    def key(self, values: Sequence[str]) -> PartitionKey:
        """The full key of checked text values in field order."""
        return PartitionKey(tuple(zip(self.fields, values, strict=True)))

    @cached_property
    def _names(self) -> tuple[tuple[tuple[str, int], ...], ...]:
        """For each fallback level `field=` and the field's position."""
        return tuple(tuple((f"{self.fields[i]}=", i) for i in level) for level in self.levels)

    def text_at(self, values: Sequence[str], level: int) -> str:
        """Canonical form of the (partial) key of a full key's values at a fallback level."""
        return "/".join([name + quoted(values[i]) for name, i in self._names[level]])

    def slot_at(self, values: Sequence[str], identity: bytes) -> int:
        """The slot of a full key's values, whose identity this is."""
        if self._shard_positions is None:
            return slot_of(identity)
        return self.slot(self.key(values))

    def slot(self, key: PartitionKey) -> int:
        """The slot of a full key."""
        if self._shard_positions is None:
            return slot_of(key.id)
        return slot_of(PartitionKey(tuple(key.pairs[i] for i in self._shard_positions)).id)

    def parse(self, given: Mapping[str, object]) -> tuple[str, ...]:
        """Checked text values, in field order, of a full key given as a mapping (a JSON object, query parameters).

        Raises:
            KeyFieldMissingError, KeyFieldUnknownError, KeyTypeError, KeyTooLongError: naming the field.
        """
        fields = self.fields
        if len(given) == len(fields):
            try:
                values = [given[field] for field in fields]
            except KeyError:
                pass
            else:
                return tuple(
                    [
                        value
                        if type(value) is str and 0 < len(value) <= MAX_VALUE_BYTES and value.isascii()
                        else key_text(value, field)
                        for value, field in zip(values, fields, strict=True)
                    ]
                )
        self._refuse_unknown(given)
        lacking = next(field for field in self.fields if field not in given)
        raise KeyFieldMissingError(f"the key lacks the field {lacking!r}; it needs {list(self.fields)}", field=lacking)

    def parse_partial(self, given: Mapping[str, object]) -> PartitionKey:
        """The key named by a mapping that may lack fields; what it lacks must be a declared fallback level."""
        self._refuse_unknown(given)
        named = tuple(field for field in self.fields if field in given)
        if named != self.fields and named not in self.fallback:
            wanted = " or ".join(str(list(level)) for level in (self.fields, *self.fallback))
            lacking = next(field for field in self.fields if field not in given)
            raise KeyFieldMissingError(f"a model's key must be {wanted}, got {list(named)}", field=lacking)
        return PartitionKey(tuple((field, key_text(given[field], field)) for field in named))

    def parse_text(self, text: str) -> PartitionKey:
        """The key of a canonical form (`store=2/brand=tropicana`); the empty text is the whole group.

        Raises:
            KeyTypeError: if the text is not `field=value` pieces, or what `parse_partial` raises.
        """
        given: dict[str, object] = {}
        for piece in text.split("/") if text else ():
            field, sign, value = piece.partition("=")
            if not sign or field in given:
                raise KeyTypeError(f"{piece!r} is not field=value (or names a field twice)", field=field)
            try:
                given[field] = unquoted(value)
            except UnicodeDecodeError as error:
                raise KeyTypeError(f"{field!r} is not valid UTF-8", field=field) from error
        return self.parse_partial(given)

    def _refuse_unknown(self, given: Mapping[str, object]) -> None:
        for field in given:
            if field not in self.fields:
                raise KeyFieldUnknownError(
                    f"{field!r} is no key field; the key fields are {list(self.fields)}", field=field
                )


def key_text(value: object, field: str) -> str:
    """The text of one key value: text as it is, an integer as decimal text.

    Raises:
        KeyTypeError: for floats, booleans, null, empty text and text that is not valid Unicode.
        KeyTooLongError: past 512 UTF-8 bytes.
    """
    if type(value) is int:
        if value.bit_length() > 4 * MAX_VALUE_BYTES:  # Python itself refuses to print the longest integers
            raise KeyTooLongError(f"{field!r} has more than {MAX_VALUE_BYTES} digits", field=field)
        text = str(value)
    elif type(value) is str and value:
        text = value
    else:
        raise KeyTypeError(
            f"{field!r} must be non-empty text or an integer, got {_said(value)}",
            field=field,
        )
    if len(text) <= MAX_VALUE_BYTES and text.isascii():
        return text
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise KeyTypeError(f"{field!r} is not valid Unicode text", field=field) from error
    if size > MAX_VALUE_BYTES:
        raise KeyTooLongError(f"{field!r} is {size} bytes, the limit is {MAX_VALUE_BYTES}", field=field)
    return text


def _said(value: object) -> str:
    return "empty text" if value == "" else f"{type(value).__name__} {value!r}"[:80]


def _check_fields(fields: Sequence[str]) -> None:
    if not fields or len(fields) > MAX_FIELDS or len(set(fields)) != len(fields):
        raise GroupInvalidError(f"a key has 1 to {MAX_FIELDS} distinct fields, got {list(fields)}", field="key")
    for field in fields:
        if not _FIELD.fullmatch(field) or field in RESERVED_FIELDS:
            raise GroupInvalidError(
                f"{field!r} cannot be a key field: letters, digits and _ (not first a digit), and none of "
                f"{sorted(RESERVED_FIELDS)}",
                field="key",
            )
