"""Assignment: which seats hold which shards, so that every shard has its replicas and no seat has too many.

An assignment is carried forward: a shard stays where it is unless its seat is gone, so a seat that leaves moves only
what it held, and one that comes takes only its fair share, from those that hold most. Where something must be decided,
weighted rendezvous hashing decides it, so the same question has the same answer everywhere, and no choice depends on
the order in which seats or shards are listed. Pure functions; `discovery.placement` says why.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from heapq import heapify, heappop, heappush
from typing import Final

import numpy as np
from numpy.typing import NDArray

FILL: Final = 1.2  # times the mean up to which a seat is given shards
MOST: Final = 1.25  # times the mean past which it loses some
HUNGRY: Final = 0.5  # times the mean below which it is given others' shards
MOST_ROUNDS: Final = 10

Assignment = Mapping[str, tuple[str, ...]]  # shard -> seats, preferred first
Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Seat:
    """A place where shards can be held: a worker, by a name that outlives its restarts.

    Attributes:
        name: unique.
        weight: its capacity beside that of others, above 0.
        zone: replicas of a shard keep to different ones where they can.
        open: whether it may be given shards, and may lose some to others; one that is not keeps what it has.
    """

    name: str
    weight: float = 1.0
    zone: str = ""
    open: bool = True


@dataclass(frozen=True, slots=True)
class Demand:
    """A shard that wants to be held, by so many seats."""

    shard: str
    replicas: int


def assign(before: Assignment, seats: Iterable[Seat], demands: Iterable[Demand]) -> dict[str, tuple[str, ...]]:
    """Assign shards to the seats of one pool.

    Every shard gets its replicas, or one on each open seat if there are fewer. No open seat holds more than 1.25 times
    the mean (by weight), or the next whole number. Replicas of a shard lie in different zones as far as zones have
    room. To assign what was just assigned changes nothing.

    Args:
        before: the last assignment; of seats and shards that are there no more it may still tell.
        seats: those that hold shards or may.
        demands: each shard once.
    """
    pool = Pool(sorted(seats, key=lambda seat: seat.name), sorted(demands, key=lambda demand: demand.shard), before)
    if pool.seats:
        pool.fill()
        for _ in range(MOST_ROUNDS):  # one nearly always: what one step moves may make room for another
            before_round = pool.moves
            pool.spread_over_zones()
            pool.feed_hungry()
            pool.relieve()
            if pool.moves == before_round:
                break
    return pool.assignment()


class Pool:
    """An assignment in the making.

    Attributes:
        moves: replicas given so far.
    """

    def __init__(self, seats: Sequence[Seat], demands: Sequence[Demand], before: Assignment) -> None:
        self.moves = 0
        self.seats = seats
        self.demands = demands
        self._at = {seat.name: position for position, seat in enumerate(seats)}
        self._replicas = [min(demand.replicas, len(seats)) for demand in demands]
        self._holders = [
            [self._at[name] for name in before.get(demand.shard, ()) if name in self._at][:replicas]
            for demand, replicas in zip(demands, self._replicas, strict=True)
        ]
        self._loads = np.zeros(len(seats), dtype=np.int64)
        for holders in self._holders:
            self._loads[holders] += 1
        self._weights = np.array([seat.weight for seat in seats])
        self._open = np.array([seat.open for seat in seats], dtype=np.bool_)
        fair = self._weights * (sum(self._replicas) / max(float(self._weights.sum()), 1e-300))
        self._fair = fair
        self._fill = np.maximum(np.ceil(fair), np.floor(FILL * fair))
        self._most = np.maximum(np.ceil(fair), np.floor(MOST * fair))
        zones = {zone: number for number, zone in enumerate(sorted({seat.zone for seat in seats}))}
        self._zones = np.array([zones[seat.zone] for seat in seats], dtype=np.int64)
        self._zone_count = len(zones)
        self._changed: set[int] = set()
        self._scored: tuple[int, Scores] = (-1, self._weights)  # of the shard that was last asked for

    @cached_property
    def _seat_hashes(self) -> NDArray[np.uint64]:
        return np.array([hash64(seat.name) for seat in self.seats], dtype=np.uint64)

    def assignment(self) -> dict[str, tuple[str, ...]]:
        """As it stands; the seats of each shard in order of their scores."""
        made = {}
        for shard, demand in enumerate(self.demands):
            if shard not in self._changed:
                made[demand.shard] = tuple(self.seats[at].name for at in self._holders[shard])
                continue
            scores = self.scores(shard) if len(self._holders[shard]) > 1 else None
            ordered = (
                self._holders[shard] if scores is None else sorted(self._holders[shard], key=lambda at: -scores[at])
            )
            made[demand.shard] = tuple(self.seats[at].name for at in ordered)
        return made

    def scores(self, shard: int) -> Scores:
        """Of all seats for one shard; the greater is preferred."""
        if self._scored[0] != shard:
            self._scored = shard, weighted_scores(self._seat_hashes, self._weights, hash64(self.demands[shard].shard))
        return self._scored[1]

    def fill(self) -> None:
        """Give every shard the replicas it lacks."""
        for shard in self._in_turn(len(held) < want for held, want in zip(self._holders, self._replicas, strict=True)):
            while len(self._holders[shard]) < self._replicas[shard]:
                chosen = self._choose(shard)
                if chosen is None:
                    break
                self._give(shard, chosen)

    def spread_over_zones(self) -> None:
        """Move replicas that share a zone to one that has none and has room."""
        if self._zone_count < 2:
            return
        for shard in self._in_turn(self._crowded(held) for held in self._holders):
            while self._crowded(self._holders[shard]):
                scores = self.scores(shard)
                taken = self._zones[self._holders[shard]]
                free = self._room() & ~np.isin(self._zones, taken)
                doubled = [at for at in self._holders[shard] if self._open[at] and (taken == self._zones[at]).sum() > 1]
                if not doubled or not free.any():
                    break
                self._take(shard, min(doubled, key=lambda at: scores[at]))
                self._give(shard, _best(scores, free))

    def feed_hungry(self) -> None:
        """Give seats that hold far too little their fair share, from those that hold most."""
        least = np.floor(np.maximum(HUNGRY * self._fair, np.minimum(self._fair, 1.0)))  # one shard is worth a move
        hungry = np.flatnonzero((self._loads < least) & self._open)
        if not len(hungry):
            return
        held: list[set[int]] = [set() for _ in self.seats]
        for shard, holders in enumerate(self._holders):
            for at in holders:
                held[at].add(shard)
        shard_hashes = np.array([hash64(demand.shard) for demand in self.demands], dtype=np.uint64)
        for taker in hungry[np.argsort(self._seat_hashes[hungry])].tolist():
            own = weighted_scores(shard_hashes, self._weights[taker], int(self._seat_hashes[taker]))
            self._feed(taker, own, held)

    def relieve(self) -> None:
        """Take shards from seats that hold more than they may."""
        over = np.flatnonzero((self._loads > self._most) & self._open).tolist()
        for giver in over:
            held = [shard for shard, holders in enumerate(self._holders) if giver in holders]
            held.sort(key=lambda shard: float(self.scores(shard)[giver]))
            for shard in held:
                if self._loads[giver] <= self._most[giver]:
                    break
                taker = self._with_room(shard)
                if taker is not None:  # else those with room hold this one already, and may yet take another
                    self._take(shard, giver)
                    self._give(shard, taker)

    def _feed(self, taker: int, own: Scores, held: list[set[int]]) -> None:
        """Give one seat shards until it has its share; `own` are its scores by shard, `held` the shards by seat."""
        givers = [
            (-self._loads[at] / self._weights[at], at) for at in np.flatnonzero(self._open).tolist() if at != taker
        ]
        heapify(givers)
        while self._loads[taker] < math.floor(self._fair[taker]) and givers:
            giver = heappop(givers)[1]
            after = (self._loads[taker] + 1) / self._weights[taker]
            if self._loads[giver] / self._weights[giver] <= after:
                break
            fit = [shard for shard in held[giver] if self._may_move(shard, giver, taker)]
            if fit:
                shard = max(fit, key=lambda at: own[at])
                self._take(shard, giver)
                self._give(shard, taker)
                held[giver].discard(shard)
                held[taker].add(shard)
                heappush(givers, (-self._loads[giver] / self._weights[giver], giver))

    def _may_move(self, shard: int, giver: int, taker: int) -> bool:
        others = [at for at in self._holders[shard] if at != giver]
        if taker in others:
            return False
        return self._zones[giver] == self._zones[taker] or self._zones[taker] not in self._zones[others]

    def _choose(self, shard: int) -> int | None:
        """The seat for one more replica of a shard: the best with room, else the one that holds least, if any."""
        best = self._with_room(shard)
        if best is not None:
            return best
        relative = self._loads / self._weights
        relative[self._holders[shard]] = np.inf
        relative[~self._open] = np.inf
        least = int(np.argmin(relative))
        return least if np.isfinite(relative[least]) else None

    def _room(self) -> NDArray[np.bool_]:
        """Which seats may be given one more shard."""
        room: NDArray[np.bool_] = (self._loads < self._fill) & self._open
        return room

    def _with_room(self, shard: int) -> int | None:
        """The best seat by score that has room, in a zone without a replica if there is one; None if all are full."""
        scores, holders = self.scores(shard), self._holders[shard]
        room = self._room()
        room[holders] = False
        apart = room.copy()
        for holder in holders:
            apart &= self._zones != self._zones[holder]
        for allowed in (apart, room):
            if allowed.any():
                return _best(scores, allowed)
        return None

    def _crowded(self, holders: Sequence[int]) -> bool:
        zones = len(set(self._zones[list(holders)].tolist()))
        return zones < min(len(holders), self._zone_count)

    def _in_turn(self, chosen: Iterable[bool]) -> list[int]:
        """The chosen shards in an order that favours none: by hash."""
        shards = [shard for shard, wanted in enumerate(chosen) if wanted]
        return sorted(shards, key=lambda shard: hash64(self.demands[shard].shard))

    def _give(self, shard: int, seat: int) -> None:
        self._changed.add(shard)
        self.moves += 1
        self._holders[shard].append(seat)
        self._loads[seat] += 1

    def _take(self, shard: int, seat: int) -> None:
        self._holders[shard].remove(seat)
        self._loads[seat] -= 1


def hash64(text: str) -> int:
    """64 bits of BLAKE2b, the same in every process and version."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def weighted_scores(hashes: NDArray[np.uint64], weights: "Scores | float", other: int) -> Scores:
    """Weighted rendezvous scores: -weight / ln(u), u uniform in (0, 1) from the hashes of both sides.

    A seat of twice the weight comes first twice as often (Schindelhauer and Schomaker, Weighted distributed hash
    tables, 2005); u is the finaliser of SplitMix64 (Steele, Lea and Flood, 2014) over the two hashes.
    """
    mixed = hashes ^ np.uint64(other)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    uniform = ((mixed >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    scores: Scores = -weights / np.log(uniform)
    return scores


def preferred(shard: str, seats: Iterable[Seat]) -> tuple[str, ...]:
    """The names of a shard's seats, the highest score first, as `assign` orders those that it changes."""
    listed = sorted(seats, key=lambda seat: seat.name)
    hashes = np.array([hash64(seat.name) for seat in listed], dtype=np.uint64)
    scores = weighted_scores(hashes, np.array([seat.weight for seat in listed]), hash64(shard))
    return tuple(listed[at].name for at in sorted(range(len(listed)), key=lambda at: -scores[at]))


def moved(before: Assignment, after: Assignment) -> int:
    """How many replicas of shards lie where none of the shard's lay before."""
    return sum(len(set(seats) - set(before.get(shard, ()))) for shard, seats in after.items())


def loads(assignment: Assignment, names: Collection[str]) -> dict[str, int]:
    """How many shards each seat holds, those with none included."""
    counts = dict.fromkeys(names, 0)
    for seats in assignment.values():
        for name in seats:
            counts[name] = counts.get(name, 0) + 1
    return counts


def _best(scores: Scores, allowed: NDArray[np.bool_]) -> int:
    return int(np.argmax(np.where(allowed, scores, -np.inf)))
