"""Deployments: which release is live, asking members to prepare one, and the flip itself.

A flip is one transaction: the pointer, what it withdraws or restores, the history of what was live when, and whether
auto_release rests, change together or not at all.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from sqlalchemy import Connection

from registry import release_queries as queries
from registry.errors import DeploymentInvalidError, PreconditionFailedError, ReleaseStateError
from registry.groups import find_group, lock_group
from registry.records import Deployment, Group
from registry.releases import get_release
from registry.revision import bump
from registry.withdrawal import mark_promotion, mark_rollback

BLUE: Final = "blue"
ALL_TRAFFIC: Final = 100


@dataclass(frozen=True, slots=True)
class DeploymentSet:
    """What is live: deployments by name, when each was promoted, and an opaque tag of this state of them."""

    deployments: Mapping[str, Deployment]
    etag: str
    promoted: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Flip:
    """What a flip did, and how many versions it withdrew."""

    kind: Literal["promote", "rollback", "same"]
    withdrawn: int


def get_deployments(conn: Connection, group: Group | str) -> DeploymentSet:
    """What is live; no deployment while nothing is."""
    group = find_group(conn, group)
    moves = conn.execute(queries.MOVES, {"group": group.id}).scalar_one()
    rows = conn.execute(queries.DEPLOYMENTS, {"group": group.id}).all()
    return DeploymentSet(
        deployments={row.name: Deployment(row.name, row.release, row.traffic) for row in rows},
        etag=f"{group.id}-{moves}",
        promoted={row.name: row.promoted for row in rows},
    )


def flip(
    conn: Connection,
    group: Group | str,
    deployments: Mapping[str, Deployment],
    *,
    if_match: str | None,
    author: str,
    now: float,
) -> Flip:
    """Point the deployments at releases: a promotion, or a rollback where the number is lower than the live one's.

    A rollback withdraws what only the abandoned releases introduced and suspends auto_release; a promotion ends that
    and restores what the promoted release's chain introduced. What is live already stays as it is.

    Raises:
        DeploymentInvalidError: unless it is `blue` alone, with all the traffic.
        PreconditionFailedError: if `if_match` is not the etag of the current state.
        ReleaseNotFoundError, ReleaseStateError: if the release does not exist or is not ready.
    """
    group = find_group(conn, group)
    lock_group(conn, group)
    check_change(conn, group, deployments, if_match)
    target, current = deployments[BLUE], get_deployments(conn, group)
    conn.execute(queries.DROP_EXPIRED_WANTED, {"group": group.id, "now": now})
    live = current.deployments[BLUE].release if BLUE in current.deployments else None
    if live == target.release:
        return Flip("same", 0)
    return _move(conn, group, live, target, author, now)


def check_change(
    conn: Connection, group: Group | str, deployments: Mapping[str, Deployment], if_match: str | None
) -> None:
    """Refuse what `flip` would refuse as things stand, before anybody prepares for it. Raises as `flip`."""
    group = find_group(conn, group)
    target = _checked(deployments)
    if if_match is not None and if_match != get_deployments(conn, group).etag:
        raise PreconditionFailedError("the deployments have changed since this change was decided", field="if-match")
    _check_ready(conn, group, target.release)


def _checked(deployments: Mapping[str, Deployment]) -> Deployment:
    if set(deployments) != {BLUE}:
        raise DeploymentInvalidError(f"the one deployment is {BLUE!r}, got {sorted(deployments)}", field="deployments")
    target = deployments[BLUE]
    if target.traffic != ALL_TRAFFIC or target.name != BLUE:
        raise DeploymentInvalidError(f"{BLUE!r} takes all the traffic, {ALL_TRAFFIC}", field=f"{BLUE}.traffic")
    return target


def _check_ready(conn: Connection, group: Group, number: int) -> None:
    release = get_release(conn, group, number)
    if release.state != "ready":
        raise ReleaseStateError(f"release {number} is {release.state}; only a ready one can be live", field="release")


def _move(conn: Connection, group: Group, live: int | None, target: Deployment, author: str, now: float) -> Flip:
    kind: Literal["promote", "rollback"] = "rollback" if live is not None and target.release < live else "promote"
    values = {"of_group": group.id, "suspended": kind == "rollback"}
    move = int(conn.execute(queries.COUNT_MOVE, values).scalar_one())
    withdrawn = 0
    if live is not None and kind == "rollback":
        withdrawn = mark_rollback(conn, group.id, live, target.release, move)
    else:
        mark_promotion(conn, group.id, live, target.release, move)
    row = {"group_id": group.id, "name": target.name, "release": target.release, "traffic": target.traffic}
    conn.execute(queries.DROP_DEPLOYMENTS, {"group": group.id})
    conn.execute(queries.INSERT_DEPLOYMENT, row | {"promoted": now})
    conn.execute(queries.END_PERIODS, {"of_group": group.id, "now": now})
    conn.execute(queries.INSERT_PERIOD, row | {"kind": kind, "author": author, "started": now, "ended": None})
    bump(conn)
    return Flip(kind, withdrawn)


def want(conn: Connection, group: Group | str, number: int, until: float) -> None:
    """Ask members to map a release until a time, before it is promoted.

    Raises:
        ReleaseNotFoundError, ReleaseStateError: if it does not exist or is not ready.
    """
    group = find_group(conn, group)
    _check_ready(conn, group, number)
    conn.execute(queries.DROP_WANTED, {"group": group.id, "release": number})
    conn.execute(queries.INSERT_WANTED, {"group_id": group.id, "release": number, "until": until})
    bump(conn)


def unwant(conn: Connection, group: Group | str, number: int) -> None:
    """Take the wish back; without one nothing happens."""
    group = find_group(conn, group)
    if conn.execute(queries.DROP_WANTED, {"group": group.id, "release": number}).rowcount:
        bump(conn)


def wanted(conn: Connection, group: Group | str, now: float) -> list[int]:
    """The releases members are asked to map at this time beside the live one, ascending."""
    group = find_group(conn, group)
    return list(conn.execute(queries.WANTED, {"group": group.id, "now": now}).scalars())
