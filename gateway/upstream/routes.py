"""Where the calls of one release go: from a key to its shard, from a shard to the workers that may be asked.

What is worked out for a key or a shard is remembered for as long as it holds: a key's shard for the life of its
release, a shard's workers until the next snapshot.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import count
from typing import Final

from discovery.snapshot import GroupView, LiveRelease
from gateway.upstream.health import is_panic
from gateway.upstream.upstream import Upstream
from registry.keys import KeySchema, key_id, shard_of

MOST_KEYS: Final = 65_536

Candidates = tuple[Upstream, ...]  # those to ask for a shard, preferred first


class Route:
    """One release of one group. For one event loop.

    Attributes:
        view, release: as the last snapshot that had them showed them.
        spread: over how many workers the calls for one shard go: its replicas, also where more could answer, so that
            each keeps fewer native models.
    """

    def __init__(self, view: GroupView, release: LiveRelease, find: Callable[["Route", int], Candidates]) -> None:
        """`find` tells the candidates of a shard from the snapshot."""
        self.view = view
        self.release = release
        self._find = find
        self._schema: KeySchema = view.schema
        self._shards = release.manifest.shards
        self.spread = view.replicas
        self._of_key: dict[tuple[str, ...], int] = {}
        self._of_shard: dict[int, Candidates] = {}

    def shard(self, values: tuple[str, ...]) -> int:
        """The shard of a full key's values."""
        shard = self._of_key.get(values)
        if shard is None:
            identity = key_id(self._schema.text_at(values, 0))
            shard = shard_of(self._schema.slot_at(values, identity), self._shards)
            if len(self._of_key) >= MOST_KEYS:
                self._of_key = {}
            self._of_key[values] = shard
        return shard

    def candidates(self, shard: int) -> Candidates:
        """The workers that may be asked for a shard, preferred first."""
        found = self._of_shard.get(shard)
        if found is None:
            found = self._of_shard[shard] = self._find(self, shard)
        return found

    def forget_candidates(self) -> None:
        """After the members changed."""
        self._of_shard = {}

    def on_hold(self, keys: Iterable[tuple[str, ...]], disabled: frozenset[bytes]) -> frozenset[bytes]:
        """Of all identities on hold those that these keys may meet on their way down the fallback chain."""
        if not disabled:
            return disabled
        schema = self._schema
        met = {key_id(schema.text_at(values, level)) for values in keys for level in range(len(schema.levels))}
        return disabled & met


_turns = count()


def choose(candidates: Sequence[Upstream], tried: Collection[Upstream], now: float, spread: int) -> Upstream | None:
    """The worker to ask: of the first `spread` that are well and untried the one with the fewest calls in flight.

    Those that are left out, or about to stop, are asked when no other is left, and when so many are left out that
    it cannot be they; but who answers no probe only where nobody does, and of those who refuses connections last: it
    has no call in flight and would draw all. None if all were tried. Of equals each has its turn.
    """
    first = candidates[:spread]
    for one in first:
        if one in tried or one.reluctant or one.record.is_out(now):
            first = _left(candidates, tried, now)[:spread]
            break
    if len(first) < 2:
        return first[0] if first else None
    turn = next(_turns) % len(first)
    return min((*first[turn:], *first[:turn]), key=_in_flight)


def _left(candidates: Sequence[Upstream], tried: Collection[Upstream], now: float) -> Sequence[Upstream]:
    """Who may be asked where not all of the preferred ones are well and untried."""
    left = [one for one in candidates if one not in tried]
    well = [one for one in left if not one.record.is_out(now) and not one.reluctant]
    if not well or is_panic([one.record for one in candidates], now):
        well = [one for one in left if one.record.well] or [one for one in left if not one.record.absent] or left
    return well


def _in_flight(one: Upstream) -> int:
    return one.in_flight
