"""Which shards of a release this worker holds: all of them, or those that are assigned to its seat.

A shard that is assigned to it no more stays for a while, like a release that nobody wants any more, because requests
that fixed the former snapshot are still under way.
"""

from collections.abc import Collection, Mapping
from typing import Final

from discovery.seating import share
from discovery.snapshot import GroupView, LiveRelease
from registry.manifest import FALLBACK_SHARD

Place = tuple[str, int]  # group and release
NOTHING: Final[frozenset[int]] = frozenset()


class Shares:
    """Decides for one adoption after the other; used by one thread at a time."""

    def __init__(self, seat: str | None, keep_seconds: float) -> None:
        """`seat` is this worker's, None if it holds everything; a shard that went stays for `keep_seconds`."""
        self._seat = seat
        self._keep_seconds = keep_seconds
        self._surplus: Mapping[tuple[str, int, int], float] = {}  # since when a shard is no longer its own
        self._noted: dict[tuple[str, int, int], float] = {}

    def begin(self) -> None:
        """An adoption begins: what it does not decide on is forgotten."""
        self._surplus, self._noted = self._noted, {}

    def is_assigned(self, view: GroupView, release: LiveRelease) -> bool:
        """Whether it is known what of a release this worker is to hold."""
        return self._seat is None or release.manifest.shards in view.seats

    def of(self, view: GroupView, release: LiveRelease, held: Collection[int], now: float) -> frozenset[int]:
        """The shards to hold of those that have a segment; the fallback segment is everybody's.

        Args:
            view: the group.
            release: one of its wanted releases.
            held: the shards of it that are held now.
            now: monotonic seconds.
        """
        every = frozenset(ref.shard for ref in release.manifest.segments)
        if self._seat is None:
            return every
        own = share(view, release.manifest.shards, self._seat)
        if own is None:  # not assigned yet, or no more: nothing is taken up, and nothing let go
            return every & {FALLBACK_SHARD, *held}
        wanted = every & {FALLBACK_SHARD, *own}
        return wanted | {shard for shard in held if shard not in wanted and self._stays(view, release, shard, now)}

    def _stays(self, view: GroupView, release: LiveRelease, shard: int, now: float) -> bool:
        place = (view.name, release.number, shard)
        since = self._surplus.get(place, now)
        self._noted[place] = since
        return now - since < self._keep_seconds
