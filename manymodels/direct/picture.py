"""Which workers serve a key, worked out by the client from discovery's snapshot.

The same answer as discovery's own (`discovery.placement.serving`), which the tests hold it to, in the few lines that a
light client can carry: identity and slot of a key, seats of its shard, members in the order in which they are asked.
Pure functions over immutable values.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final
from urllib.parse import quote

from manymodels.wire import Key, key_text

SLOTS: Final = 4096
_STATES: Final = {"alive": 0, "suspect": 1, "draining": 2}
_LAST: Final = 1 << 30

Seats = Sequence[Sequence[str]]  # of each shard in turn


@dataclass(frozen=True, slots=True)
class Worker:
    """A member that scores: its id and address, the rank of its state, and its seat if it holds a share only."""

    id: str
    uri: str
    state: int
    seat: str | None


@dataclass(frozen=True, slots=True)
class Placed:
    """A group as far as it says who serves a key.

    Attributes:
        fields: of its keys, in order; `shard_by` are those that choose the shard.
        shards: count of the live release; 0 while nothing is live.
        seats: of each shard, None where every worker holds everything.
        coming: by shard, the seats that do not have it yet.
    """

    fields: tuple[str, ...]
    shard_by: tuple[str, ...]
    shards: int
    seats: Seats | None
    coming: Mapping[int, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Picture:
    """The workers and the groups of one snapshot."""

    revision: str
    workers: tuple[Worker, ...]
    groups: Mapping[str, Placed]

    def serving(self, group: str, key: Key) -> tuple[str, ...]:
        """Addresses of the workers to ask for a full key, preferred first.

        Empty where this picture cannot tell: an unknown group or field, nothing live. A server then says what is wrong.
        """
        placed = self.groups.get(group)
        if placed is None or not placed.shards or key.keys() != set(placed.fields):
            return ()
        shard = shard_of(placed, key)
        turns = [(turn, worker.uri) for worker in self.workers if (turn := _turn(worker, group, placed, shard))]
        turns.sort()
        if turns and not turns[0][0][0]:  # who has the shard is asked, and nobody who is still coming
            turns = [one for one in turns if not one[0][0]]
        return tuple(dict.fromkeys(uri for _, uri in turns))


def shard_of(placed: Placed, key: Key) -> int:
    """The shard of a full key. Raises KeyValueError for a value that no key can have."""
    text = "/".join(f"{field}={quote(key_text(field, key[field]), safe='')}" for field in placed.shard_by)
    identity = blake2b(text.encode(), digest_size=16).digest()
    return (identity[0] << 4 | identity[1] >> 4) * placed.shards // SLOTS


def read_picture(snapshot: Mapping[str, Any]) -> Picture:
    """The picture of a snapshot as `GET /v1/discovery/snapshot` answers it."""
    workers = tuple(_worker(member) for member in snapshot["members"] if _is_worker(member))
    return Picture(snapshot["revision"], workers, {group["name"]: _placed(group) for group in snapshot["groups"]})


def _is_worker(member: Mapping[str, Any]) -> bool:
    return "worker" in member["services"] and member["state"] in _STATES


def _worker(member: Mapping[str, Any]) -> Worker:
    said = member["metadata"]
    seat = said.get("seat") or member["uri"] if said.get("assigned") == "yes" else None
    return Worker(member["id"], member["uri"], _STATES[member["state"]], seat)


def _placed(group: Mapping[str, Any]) -> Placed:
    counts = {release["release"]: release["shards"] for release in group["releases"]}
    live = next((counts.get(one["release"], 0) for one in group["deployments"].values()), 0)
    moves = group["moves"].get(str(live), {})
    return Placed(
        fields=tuple(group["key"]),
        shard_by=tuple(group["shard_by"]),
        shards=live,
        seats=group["seats"].get(str(live), ()) if group["seats"] else None,
        coming={int(shard): move["coming"] for shard, move in moves.items()},
    )


def _turn(worker: Worker, group: str, placed: Placed, shard: int) -> tuple[bool, int, int, int, str] | None:
    """When a worker is asked; None if it is not."""
    coming, listed = False, _LAST
    if placed.seats is not None and worker.seat is not None:
        seats = placed.seats[shard] if shard < len(placed.seats) else ()
        if worker.seat not in seats:
            return None
        coming = worker.seat in placed.coming.get(shard, ())
        listed = seats.index(worker.seat)
    hashed = blake2b(f"{worker.id}\n{group}\n{shard}".encode(), digest_size=8).digest()
    return coming, worker.state, listed, -int.from_bytes(hashed, "big"), worker.id
