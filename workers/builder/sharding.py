"""How many shards a release has, and which slots lie in which.

Segments are to be 8 to 32 MB: small enough that a hotfix rewrites one in a blink, large enough that a fleet is not a
crowd of files. The count changes rarely, because changing it rewrites every segment. Pure functions.
"""

from dataclasses import dataclass
from typing import Final

from registry.keys import SLOTS, shard_of

MEGABYTE: Final = 1 << 20
TARGET_BYTES: Final = 16 * MEGABYTE  # of a segment right after its count was chosen, at most
KEEP_FROM: Final = 4 * MEGABYTE  # half of 8 MB
KEEP_TO: Final = 32 * MEGABYTE


@dataclass(frozen=True, slots=True)
class SizeEstimate:
    """Between which bytes the segments of a release will lie, before it is known what replaces what."""

    least: int
    most: int

    @classmethod
    def of(cls, base: int, incoming: int) -> "SizeEstimate":
        """From the base's bytes and the bytes of all changes: at least the larger, at most both."""
        return cls(max(base, incoming), base + incoming)


def choose_shards(size: SizeEstimate, current: int | None) -> int:
    """The count of shards of a release: a power of two, 1 to 4,096.

    The base's count (`current`) stays while the mean segment may still be of 4 to 32 MB; a single shard is never too
    small.
    """
    if current is not None:
        not_too_small = current == 1 or size.most >= KEEP_FROM * current
        not_too_large = current == SLOTS or size.least <= KEEP_TO * current
        if not_too_small and not_too_large:
            return current
    shards = 1
    while shards < SLOTS and size.least > TARGET_BYTES * shards:
        shards *= 2
    return shards


def slots_of(shard: int, shards: int) -> tuple[int, int]:
    """First slot of a shard and the one after its last."""
    return -(-shard * SLOTS // shards), -(-(shard + 1) * SLOTS // shards)


def shards_over(low: int, high: int, shards: int) -> range:
    """The shards, of another count, that hold the slots from `low` to before `high`."""
    return range(shard_of(low, shards), shard_of(high - 1, shards) + 1)
