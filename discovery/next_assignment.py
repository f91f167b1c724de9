"""The next assignment of a pool: what the stored one becomes, given which seats are taken and who took it up.

A shard that moves is made before it is broken: the seats that hold it keep it, and are asked first, until those that
are to hold it have said that they do; then the former go. So whatever is decided here, a shard that somebody has ready
stays with one who has it ready. To decide again on what was decided changes nothing. Pure functions.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from discovery.assignment import Demand, Seat, assign, preferred
from discovery.attendance import Attending
from discovery.seats import NOWHERE, GroupSeats, Move, PoolSeats, Seats
from registry.keys import SLOTS, shard_of

NOT_MOVING = Move((), ())


@dataclass(frozen=True, slots=True)
class Want:
    """A group that wants its shards to be held: by so many seats, for every count that a wanted release is cut into.

    Attributes:
        elsewhere: where it is held until this pool has taken it up, of a group that was in another one.
    """

    group: str
    replicas: int
    counts: frozenset[int]
    elsewhere: GroupSeats = NOWHERE


@dataclass(frozen=True, slots=True)
class _Shard:
    """One shard as it stands: who is to hold it, who has it ready, and whether it is moving."""

    name: str
    listed: tuple[str, ...]
    kept: tuple[str, ...]
    had: frozenset[str]
    moving: bool
    replicas: int


def next_assignment(
    stored: PoolSeats, pool: str, wants: Iterable[Want], seats: Mapping[str, Attending], ready: Collection[str]
) -> dict[str, GroupSeats]:
    """Decide who holds the shards of a pool's groups from now on; counts of shards that nobody wants are dropped.

    A seat that is away keeps its shards while it is missed or awaited, but a shard whose seats are all missed is
    assigned anew at once; what a seat that was never seen yet holds waits for it, for after a start of everything at
    once nobody is there yet. With no seat here at all everything stays as it is.

    Args:
        stored: the assignment that the next one follows.
        pool: whose it is.
        wants: each group of the pool once.
        seats: how things stand with all seats that are here or named.
        ready: the seats of which all living members have taken up the stored assignment.
    """
    wanted = list(wants)
    if not any(seat.standing == "here" and seat.pool == pool for seat in seats.values()):
        return _cut_down(stored, wanted)
    own = {name: seat for name, seat in seats.items() if seat.pool in (pool, None) and seat.standing != "gone"}
    shards = {
        (want.group, count): [_shard_of(stored, want, count, shard, own, ready) for shard in range(count)]
        for want in wanted
        for count in sorted(want.counts)
    }
    every = [shard for found in shards.values() for shard in found]
    here = [Seat(one.seat.name, one.seat.weight, one.seat.zone, open=one.standing == "here") for one in own.values()]
    made = assign(
        {shard.name: shard.kept for shard in every}, here, [Demand(shard.name, shard.replicas) for shard in every]
    )
    groups: dict[str, tuple[dict[int, Seats], dict[int, dict[int, Move]]]] = {}
    for (group, count), found in shards.items():
        listed = [_moved(shard, made[shard.name], seats, ready) for shard in found]
        by_count, moves = groups.setdefault(group, ({}, {}))
        by_count[count] = tuple(names for names, _ in listed)
        moving = {number: move for number, (_, move) in enumerate(listed) if move is not NOT_MOVING}
        if moving:
            moves[count] = moving
    return {group: GroupSeats(by_count, moves) for group, (by_count, moves) in groups.items()}


def _cut_down(stored: PoolSeats, wants: Sequence[Want]) -> dict[str, GroupSeats]:
    """What is stored of the counts that are still wanted."""
    kept = {}
    for want in wants:
        seats = stored.groups.get(want.group, NOWHERE)
        counts = want.counts & set(seats.shards)
        if counts:
            kept[want.group] = GroupSeats(
                {count: seats.shards[count] for count in sorted(counts)},
                {count: seats.moves[count] for count in sorted(counts & set(seats.moves))},
            )
    return kept


def _shard_of(
    stored: PoolSeats, want: Want, count: int, shard: int, own: Mapping[str, Attending], ready: Collection[str]
) -> _Shard:
    """A shard as it is stored; one of a new count starts with the seats of the shard that covers its middle slot."""
    is_ours = want.group in stored.groups
    seats = stored.groups[want.group] if is_ours else want.elsewhere
    name = f"{want.group}/{count}/{shard}"
    if count in seats.shards:
        listed = seats.shards[count][shard]
        move = seats.moves.get(count, {}).get(shard, NOT_MOVING)
        had = frozenset(listed) - frozenset(move.coming if not is_ours else set(move.coming) - set(ready))
        moving = move is not NOT_MOVING
    else:
        listed, move, had, moving = _seed(seats, count, shard), NOT_MOVING, frozenset[str](), True
    kept = [seat for seat in listed if seat not in move.former and seat in own]
    if all(own[seat].standing == "missed" for seat in kept):
        kept = []
    if len(kept) > want.replicas:  # who is here and has it stays rather than who is not, or is only coming
        kept.sort(key=lambda seat: (own[seat].standing != "here", seat not in ready, seat not in had))
    return _Shard(name, listed if count in seats.shards else (), tuple(kept), had, moving, want.replicas)


def _seed(seats: GroupSeats, count: int, shard: int) -> tuple[str, ...]:
    """Who holds the same slots in the finest count that is stored; nobody if none is."""
    if not seats.shards:
        return ()
    finest = max(seats.shards)
    slot = (2 * shard + 1) * SLOTS // (2 * count)
    source = shard_of(slot, finest)
    former = seats.moves.get(finest, {}).get(source, NOT_MOVING).former
    return tuple(seat for seat in seats.shards[finest][source] if seat not in former)


def _moved(
    shard: _Shard, made: tuple[str, ...], seats: Mapping[str, Attending], ready: Collection[str]
) -> tuple[tuple[str, ...], Move]:
    """The seats to list for a shard that is to be held by `made`, and who of them comes and goes."""
    target = frozenset(made)
    coming = target - shard.had
    former = _former(shard, target, seats, ready)
    if not coming and any(seat in ready for seat in target):
        former = ()
    if not coming and not former and not shard.moving and target == frozenset(shard.listed):
        return shard.listed, NOT_MOVING
    ordered = preferred(shard.name, [seats[seat].seat for seat in target])
    stays = tuple(seat for seat in ordered if seat not in coming)
    comes = tuple(seat for seat in ordered if seat in coming)
    return stays + former + comes, Move(comes, former) if comes or former else NOT_MOVING


def _former(
    shard: _Shard, target: frozenset[str], seats: Mapping[str, Attending], ready: Collection[str]
) -> tuple[str, ...]:
    """The seats that may have a shard and are not to hold it any more: they serve it yet, or may come back to it."""
    going = [seat for seat in shard.listed if seat not in target and seat in seats]
    former = [seat for seat in going if seat in shard.had and (seats[seat].serves or seats[seat].standing != "gone")]
    if not any(seat in ready for seat in (*former, *target & shard.had)):
        # Nobody is known to have it, so whoever was on the way to it may be the only one who does.
        former += [seat for seat in going if seat not in shard.had and seats[seat].serves]
    return tuple(former)
