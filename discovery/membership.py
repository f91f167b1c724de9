"""What the rest of the house asks of a membership: who is there, and who holds which release.

Members write about themselves only. Whether a member lives is judged by each reader for itself (see
`discovery.liveness`), so a membership carries no deadlines and no clock of any writer. Leases in SQL keep this
promise (`discovery.leases`), and Consul does (`discovery.consul`).
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol

from discovery.errors import DiscoveryError
from discovery.snapshot import Member, MemberState

WORKER: Final = "worker"
BUILDER: Final = "builder"
_MEMBER_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class Membership(Protocol):
    """The members of one house. Safe to call from any thread; every process opens its own.

    All calls may raise DatabaseBusyError or DiscoveryAwayError when the backend is away: nothing was changed then, and
    the caller tries again.
    """

    def join(self, member: Member) -> None:
        """Take up a lease under `member.id`; joining again replaces what was said before, but for its releases."""

    def renew(self, member_id: str, *, state: MemberState, stats: Mapping[str, Any]) -> None:
        """Show progress. `state` is what the member says of itself: `alive` or `draining`.

        A lease that was swept away meanwhile (a process stopped for minutes) is taken up again as it was.

        Raises:
            DiscoveryError: if this membership never joined that member.
        """

    def leave(self, member_id: str) -> None:
        """Give up a lease; leaving twice is fine."""

    def members(self) -> tuple[Member, ...]:
        """All members by id, each in the state this reader judges it in; the same object while nothing changes."""

    def stats(self) -> Mapping[str, Mapping[str, Any]]:
        """What members last said of themselves with a renewal, by member id."""

    def announce(self, member_id: str, prepared: Iterable[tuple[str, int]]) -> None:
        """Say which (group, release) pairs a member holds: the complete set, what is left out is no longer held."""

    def prepared(self, group: str, release: int) -> frozenset[str]:
        """Ids of the members that hold this release, whatever state they are in."""

    def changes(self) -> tuple[str, int]:
        """`(epoch, n)`: n grows with every join, leave and change of state, and is the same for every reader."""

    def bump(self, by: int = 1) -> int:
        """Count a change that no write shows: one that a reader judged, or that time alone made. Answers the new n."""

    def close(self) -> None:
        """Close connections and threads; nobody leaves by this."""


def check_member_id(member_id: str) -> None:
    """Refuse an id that could be mistaken for another.

    Raises:
        DiscoveryError: if it is not 1 to 128 letters, digits and `._:-`.
    """
    if not _MEMBER_ID.fullmatch(member_id):
        raise DiscoveryError(f"{member_id!r} cannot be a member's id", field="id")
