"""Adoption: what of a new snapshot may be shown, given what this process managed to map.

A group whose newly live release could not be mapped here goes on with the deployments it had, while every other group
moves on; nobody is ever sent to a release this process does not hold while it holds an older one that was live.
Pure functions over immutable values.
"""

from collections.abc import Collection
from dataclasses import replace
from typing import Protocol

from discovery.seating import ANNOUNCED
from discovery.snapshot import GroupView, LiveRelease, Snapshot


class Adoption(Protocol):
    """What came of mapping the releases of a snapshot."""

    @property
    def ready(self) -> Collection[tuple[str, int]]:
        """The (group, release) pairs that are held whole now."""


def to_adopt(fresh: Snapshot, shown: Snapshot | None) -> Snapshot:
    """The snapshot to map: the fresh one, whose groups also want what is shown as live until it no longer is."""
    if shown is None:
        return fresh
    groups = {name: _also_wanting(view, shown.groups.get(name)) for name, view in fresh.groups.items()}
    return replace(fresh, groups=groups)


def to_show(fresh: Snapshot, shown: Snapshot | None, ready: Collection[tuple[str, int]]) -> tuple[Snapshot, bool]:
    """The snapshot to show once `ready` is mapped, and whether it is all of the fresh one.

    A group that was never shown is shown as it is: its requests learn that the release is not ready, which is true.
    """
    held_back = {
        name: replace(view, deployments=before.deployments)
        for name, view in fresh.groups.items()
        if not _all_ready(view, ready)
        and (before := shown.groups.get(name) if shown else None) is not None
        and before.deployments
        and view.continues(before)
    }
    lacking = any(not _all_ready(view, ready) for view in fresh.groups.values())
    return (replace(fresh, groups={**fresh.groups, **held_back}) if held_back else fresh), not lacking


def to_announce(fresh: Snapshot, ready: Collection[tuple[str, int]]) -> frozenset[tuple[str, int]]:
    """What this member says of itself: the wanted releases of which it holds its share, and the assignments it took up.

    An assignment is taken up when the share of everything wanted in its pool is held here.
    """
    wanted = {(name, release.number) for name, view in fresh.groups.items() for release in view.wanted}
    behind = {
        view.pool
        for name, view in fresh.groups.items()
        if view.unread or any((name, release.number) not in ready for release in view.wanted)
    }
    taken_up = {
        (f"{ANNOUNCED}{pool}", stored.number) for pool, stored in fresh.assignments.items() if pool not in behind
    }
    return frozenset(wanted.intersection(ready) | taken_up)


def _all_ready(view: GroupView, ready: Collection[tuple[str, int]]) -> bool:
    return all((view.name, deployment.release.number) in ready for deployment in view.deployments.values())


def _also_wanting(view: GroupView, shown: GroupView | None) -> GroupView:
    if shown is None or shown is view or shown.deployments == view.deployments:
        return view
    wanted: dict[int, LiveRelease] = {
        deployment.release.number: deployment.release for deployment in shown.deployments.values()
    }
    wanted |= {release.number: release for release in view.wanted}
    return replace(view, wanted=tuple(wanted[number] for number in sorted(wanted)))
