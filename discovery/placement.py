"""Placement: which members serve a shard, in order of preference, by rendezvous hashing.

Every member gets a score for every shard from a hash of the two; a shard prefers its highest scores. Nothing is
stored or agreed on: whoever knows the members knows the placement, a member that goes moves only the shards it held,
and one that comes takes about its fair share from all others. Pure functions; the answer explains itself.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from discovery.membership import WORKER
from discovery.snapshot import Member, MemberState

_PREFERENCE: Final[dict[MemberState, int]] = {"alive": 0, "suspect": 1, "draining": 2}


@dataclass(frozen=True, slots=True)
class Why:
    """Why a member stands where it stands.

    Attributes:
        eligible: whether it may be asked at all; only living workers may.
        reason: in words.
        score: rendezvous score of (member, group, shard), 0..2**64-1; the highest among equals in state is preferred.
    """

    eligible: bool
    reason: str
    score: int


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


def place(members: Iterable[Member], group: str, shard: int) -> Placement:
    """Order members for one shard of a group: by state (alive, suspect, draining), then by rendezvous score.

    State comes before score, so a shard returns to its member when that recovers, and nothing else moves.
    """
    candidates = [Candidate(member, _why(member, group, shard)) for member in members]
    return Placement(group, shard, tuple(sorted(candidates, key=_standing)))


def score(member_id: str, group: str, shard: int) -> int:
    """Rendezvous score: 64 bits of BLAKE2b over the shard, keyed by nothing, the same in every process and version.

    A line feed separates the parts: none of them can hold one, so two different triples never share a text.
    """
    return int.from_bytes(blake2b(f"{member_id}\n{group}\n{shard}".encode(), digest_size=8).digest(), "big")


def _why(member: Member, group: str, shard: int) -> Why:
    value = score(member.id, group, shard)
    if WORKER not in member.services:
        return Why(eligible=False, reason="not a worker", score=value)
    match member.state:
        case "alive":
            return Why(eligible=True, reason="alive: by score", score=value)
        case "suspect":
            return Why(eligible=True, reason="suspect: after those alive", score=value)
        case "draining":
            return Why(eligible=True, reason="draining: only when no other is left", score=value)
        case "dead":
            return Why(eligible=False, reason="dead", score=value)


def _standing(candidate: Candidate) -> tuple[bool, int, int, str]:
    why = candidate.why
    return (not why.eligible, _PREFERENCE.get(candidate.member.state, 3), -why.score, candidate.member.id)
