"""What tests ask of a membership."""

from collections.abc import Callable, Sequence

from discovery.membership import Membership


def states(membership: Membership) -> dict[str, str]:
    """State by id."""
    return {member.id: member.state for member in membership.members()}


def watch(
    pass_time: Callable[[float], None],
    reader: Membership,
    seconds: float,
    renewing: Sequence[tuple[Membership, str]] = (),
) -> None:
    """Look every tenth of a second, as a watcher does, while some members go on renewing."""
    for _ in range(round(seconds * 10)):
        pass_time(0.1)
        for membership, name in renewing:
            membership.renew(name, state="alive", stats={})
        reader.members()
