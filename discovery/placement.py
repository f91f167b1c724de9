"""Placement: which members serve a shard, in order of preference, and why each stands where it stands.

Where seats are assigned (`discovery.seats`), a member serves the shards of its seat. A worker that has no seat holds
everything, so for those nothing is stored or agreed on: every member gets a score for every shard from a hash of the
two, a shard prefers its highest scores, a member that goes moves only the shards it held, and one that comes takes
about its fair share from all others. Pure functions; the answer explains itself.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from operator import itemgetter
from typing import Final

from discovery.membership import WORKER
from discovery.seating import is_assigned, seat_name
from discovery.seats import Move
from discovery.snapshot import GroupView, LiveRelease, Member, MemberState, Snapshot

HOLDS: Final = "holds it"
COMING: Final = "coming, not yet ready"
FORMER: Final = "former, until the new have it"

_PREFERENCE: Final[dict[MemberState, int]] = {"alive": 0, "suspect": 1, "draining": 2}
_LAST: Final = 1 << 30  # behind every seat: who holds everything is asked when no seat answers
_STATES: Final[dict[MemberState, str]] = {
    "alive": "alive: by score",
    "suspect": "suspect: after those alive",
    "draining": "draining: only when no other is left",
    "dead": "dead",
}


@dataclass(frozen=True, slots=True)
class Held:
    """Who is assigned a shard: its seats in the order in which they are to be asked, and who comes and goes."""

    seats: tuple[str, ...]
    move: Move | None = None


@dataclass(frozen=True, slots=True)
class Why:
    """Why a member stands where it stands.

    Attributes:
        eligible: whether it may be asked at all; only living workers that hold the shard may.
        reason: in words.
        score: rendezvous score of (member, group, shard), 0..2**64-1; the highest among equals is preferred.
        seat: where it sits, None for a member that holds everything.
        zone: where it says it stands.
        rank: in which turn it is asked, from 1; None for one that is not.
    """

    eligible: bool
    reason: str
    score: int
    seat: str | None = None
    zone: str = ""
    rank: int | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A member with its standing for one shard."""

    member: Member
    why: Why


@dataclass(frozen=True, slots=True)
class Placement:
    """All members in order of preference for one shard; those that may not be asked stand last."""

    group: str
    shard: int
    candidates: tuple[Candidate, ...]

    @property
    def members(self) -> tuple[Member, ...]:
        """The members to ask, preferred first."""
        return tuple(candidate.member for candidate in self.candidates if candidate.why.eligible)


_Turn = tuple[bool, int, int, int, str]  # what members are asked in order of; the first says who is still coming


def place(members: Iterable[Member], group: str, shard: int, held: Held | None = None) -> Placement:
    """Order members for one shard of a group; `held` says which seats hold it, None that everybody does.

    By state (alive, suspect, draining), then in the listed order of the seats, then by rendezvous score. State comes
    before all preference, so a shard returns to its member when that recovers, and nothing else moves. A member that is
    still coming cannot answer yet, so it is asked only where nobody has the shard.
    """
    listed = list(members)
    asked = _in_turn(listed, group, shard, held)
    rank = {member.id: number for number, member in enumerate(asked, 1)}
    others = [member for member in listed if member.id not in rank]
    others.sort(key=lambda member: (_PREFERENCE.get(member.state, 3), -score(member.id, group, shard), member.id))
    standing = [Candidate(member, _why(member, group, shard, held, rank.get(member.id))) for member in asked + others]
    return Placement(group, shard, tuple(standing))


def placement(snapshot: Snapshot, view: GroupView, release: LiveRelease, shard: int) -> Placement:
    """All members in order of preference for a shard of a release of a group."""
    return place(snapshot.members, view.name, shard, _held(view, release.manifest.shards, shard))


def serving(snapshot: Snapshot, view: GroupView, release: LiveRelease, shard: int) -> tuple[Member, ...]:
    """The members that may be asked for a shard of a release of a group, preferred first; quicker than `placement`."""
    return tuple(_in_turn(snapshot.members, view.name, shard, _held(view, release.manifest.shards, shard)))


def score(member_id: str, group: str, shard: int) -> int:
    """Rendezvous score: 64 bits of BLAKE2b over the shard, keyed by nothing, the same in every process and version.

    A line feed separates the parts: none of them can hold one, so two different triples never share a text.
    """
    return int.from_bytes(blake2b(f"{member_id}\n{group}\n{shard}".encode(), digest_size=8).digest(), "big")


def _held(view: GroupView, shards: int, shard: int) -> Held | None:
    if not view.seats:
        return None
    assigned = view.seats.get(shards, ())
    return Held(assigned[shard] if shard < len(assigned) else (), view.moves.get(shards, {}).get(shard))


def _in_turn(members: Iterable[Member], group: str, shard: int, held: Held | None) -> list[Member]:
    """The members that may be asked, in order."""
    turns = [(turn, member) for member in members if (turn := _turn(member, group, shard, held)) is not None]
    turns.sort(key=itemgetter(0))
    if turns and not turns[0][0][0]:  # who has it comes before who is coming
        return [member for turn, member in turns if not turn[0]]
    return [member for _, member in turns]


def _turn(member: Member, group: str, shard: int, held: Held | None) -> _Turn | None:
    """When a member is asked; None if it is not."""
    if WORKER not in member.services or member.state == "dead":
        return None
    coming, listed = False, _LAST
    if held is not None and is_assigned(member):
        seat = seat_name(member)
        if seat not in held.seats:
            return None
        coming = held.move is not None and seat in held.move.coming
        listed = held.seats.index(seat)
    return coming, _PREFERENCE[member.state], listed, -score(member.id, group, shard), member.id


def _why(member: Member, group: str, shard: int, held: Held | None, rank: int | None) -> Why:
    seat = seat_name(member) if is_assigned(member) else None
    return Why(
        eligible=rank is not None,
        reason=_reason(member, seat, held),
        score=score(member.id, group, shard),
        seat=seat,
        zone=member.metadata.get("zone", ""),
        rank=rank,
    )


def _reason(member: Member, seat: str | None, held: Held | None) -> str:
    if WORKER not in member.services:
        return "not a worker"
    if held is None or member.state == "dead":
        return _STATES[member.state]
    if seat is None:
        said = "holds everything"
    elif seat not in held.seats:
        return "not assigned"
    else:
        said = _holding(seat, held.move)
    return said if member.state == "alive" else f"{said}; {_STATES[member.state]}"


def _holding(seat: str, move: Move | None) -> str:
    if move is not None and seat in move.coming:
        return COMING
    return FORMER if move is not None and seat in move.former else HOLDS
