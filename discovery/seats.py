"""What is stored of a pool's seats: which of them hold which shards of its groups, and who is coming or going.

A seat is named by a text; who sits there is `discovery.seating`'s affair. The seats of a group are kept by count of
shards, because its releases may be cut differently. Immutable values and their JSON.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

Seats = tuple[tuple[str, ...], ...]  # of each shard in turn


@dataclass(frozen=True, slots=True)
class Move:
    """A shard that moves: seats that are to hold it and have not said yet that they do, and those that go then."""

    coming: tuple[str, ...]
    former: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GroupSeats:
    """Which seats hold the shards of one group.

    Attributes:
        shards: by count of shards, for each shard its seats in the order in which they are to be asked: those that
            hold it and stay, those that will go, those that are to come.
        moves: by count of shards and shard, who of them comes and who goes; a shard that is not moving has no entry.
    """

    shards: Mapping[int, Seats] = field(default_factory=dict)
    moves: Mapping[int, Mapping[int, Move]] = field(default_factory=dict)


NOWHERE: Final = GroupSeats()


@dataclass(frozen=True, slots=True)
class PoolSeats:
    """The stored assignment of a pool: its number, 0 for none yet, and the seats of each group by name."""

    number: int = 0
    groups: Mapping[str, GroupSeats] = field(default_factory=dict)


def write_groups(groups: Mapping[str, GroupSeats]) -> str:
    """The body of a stored assignment, JSON text."""
    body = {name: group_json(seats) for name, seats in sorted(groups.items())}
    return orjson.dumps({"groups": body}, option=orjson.OPT_SORT_KEYS).decode()


def read_pool(number: int, body: str, previous: PoolSeats | None = None) -> PoolSeats:
    """A stored assignment; groups that are as before are the previous one's own objects."""
    before = previous.groups if previous is not None else {}
    groups = {name: read_group_seats(said) for name, said in orjson.loads(body).get("groups", {}).items()}
    return PoolSeats(
        number, {name: before[name] if seats == before.get(name) else seats for name, seats in groups.items()}
    )


def group_json(seats: GroupSeats) -> dict[str, Any]:
    """The seats of one group as JSON: `{"16": [[seat, ...], ...]}`, and under `moves` who comes and goes."""
    body: dict[str, Any] = {str(count): [list(names) for names in shards] for count, shards in seats.shards.items()}
    if seats.moves:
        body["moves"] = {
            str(count): {str(shard): [list(move.coming), list(move.former)] for shard, move in moves.items()}
            for count, moves in seats.moves.items()
        }
    return body


def read_group_seats(body: Mapping[str, Any]) -> GroupSeats:
    """The seats of what `group_json` made."""
    shards = {int(count): tuple(tuple(names) for names in listed) for count, listed in body.items() if count != "moves"}
    moves = {
        int(count): {int(shard): Move(tuple(coming), tuple(former)) for shard, (coming, former) in said.items()}
        for count, said in body.get("moves", {}).items()
    }
    return GroupSeats(shards, moves)


def find_seats(pools: Mapping[str, PoolSeats], group: str, pool: str) -> GroupSeats:
    """The seats of a group: of its own pool, or of the one it was in while that one has not yet taken it up."""
    for one in (pools.get(pool), *(pools[name] for name in sorted(pools))):
        if one is not None and group in one.groups:
            return one.groups[group]
    return NOWHERE
