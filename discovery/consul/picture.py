"""From Consul's answers to members, and which of them are believed. Pure functions over immutable values.

Each member has two checks that its renewals pass: `progress`, whose ttl is half a lease, and `lease`. The agent lets
them lapse on its own clock, so a member that stops renewing is suspect, then dead, in every reader's picture at once.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from discovery.errors import DiscoveryError
from discovery.snapshot import Member, MemberState

LEASE: Final = "lease"
PROGRESS: Final = "progress"
PATIENCE_SECONDS: Final = 20.0  # for members to come back that a Consul without its data has never heard of

_URI: Final = "uri"
_STATE: Final = "state"
_CRITICAL: Final = "critical"
_MOST_METADATA: Final = 60  # Consul takes 64 pairs
_MOST_VALUE: Final = 512
_BEST_FIRST: Final[Mapping[MemberState, int]] = {"alive": 0, "draining": 1, "suspect": 2, "dead": 3}


def meta_of(member: Member) -> dict[str, str]:
    """A member as the metadata of a Consul service.

    Raises:
        DiscoveryError: if its metadata is more than Consul takes.
    """
    for name, value in member.metadata.items():
        if name in (_URI, _STATE) or not name.replace("_", "").replace("-", "").isalnum() or not name.isascii():
            raise DiscoveryError(f"{name!r} cannot name a member's metadata in Consul", field=name)
        if len(value) > _MOST_VALUE:
            raise DiscoveryError(f"{name} is over {_MOST_VALUE} characters, which is Consul's limit", field=name)
    if len(member.metadata) > _MOST_METADATA:
        raise DiscoveryError(f"a member may have {_MOST_METADATA} metadata in Consul", field="metadata")
    return {**member.metadata, _URI: member.uri, _STATE: member.state}


def members_of(entries: Sequence[Mapping[str, Any]]) -> tuple[Member, ...]:
    """The members in an answer of `/v1/health/service`, by id.

    An id that stands under two agents, because its process came back beside another, is taken where it does best.
    """
    found: dict[str, Member] = {}
    for entry in entries:
        member = _member(entry["Service"], entry["Checks"])
        known = found.get(member.id)
        if known is None or _BEST_FIRST[member.state] < _BEST_FIRST[known.state]:
            found[member.id] = member
    return tuple(found[name] for name in sorted(found))


def _member(service: Mapping[str, Any], checks: Sequence[Mapping[str, Any]]) -> Member:
    meta: Mapping[str, str] = service["Meta"] or {}
    metadata = {name: value for name, value in meta.items() if name not in (_URI, _STATE)}
    return Member(service["ID"], meta.get(_URI, ""), _state(meta, checks), tuple(service["Tags"] or ()), metadata)


def _state(meta: Mapping[str, str], checks: Sequence[Mapping[str, Any]]) -> MemberState:
    """Any check but `progress` that is critical, the machine's own included, says dead."""
    critical = {check["CheckID"].rpartition(":")[2] for check in checks if check["Status"] == _CRITICAL}
    if critical - {PROGRESS}:
        return "dead"
    if meta.get(_STATE) == "draining":
        return "draining"
    return "suspect" if critical else "alive"


@dataclass(frozen=True, slots=True)
class Picture:
    """What one reader believes.

    Attributes:
        members: by id.
        missed: those that are there no more and did not leave, and since when (monotonic seconds) they are waited for.
    """

    members: tuple[Member, ...] = ()
    missed: Mapping[str, float] = field(default_factory=dict)


def vanished(before: Picture, seen: Sequence[Member]) -> frozenset[str]:
    """Ids of the living members that an answer lacks."""
    return frozenset(member.id for member in before.members if member.state != "dead") - {member.id for member in seen}


def believe(before: Picture, seen: tuple[Member, ...], left: Collection[str], now: float) -> Picture:
    """What to believe after an answer.

    Who vanished without having left (with Consul's data, or with its agent's) registers anew with its next renewal,
    and is kept for a while; where nobody at all is there any more, for as long as that lasts: a gateway then goes on
    asking those it knew, which costs nothing if they are gone indeed.

    Args:
        before: what was believed.
        seen: the members in the answer.
        left: of those that vanished, the ones that are known to have left.
        now: this reader's monotonic clock, seconds.
    """
    known = {member.id: member for member in before.members}
    waited = vanished(before, seen) - frozenset(left)
    missed = {name: before.missed.get(name, now) if seen else now for name in waited}
    missed = {name: since for name, since in missed.items() if now - since < PATIENCE_SECONDS}
    members = tuple(sorted((*seen, *(known[name] for name in missed)), key=lambda member: member.id))
    return Picture(before.members if members == before.members else members, missed)
