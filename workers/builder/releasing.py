"""Release tasks: build what was asked for, and promote by itself what may go live by itself.

An auto-release is two tasks: the first fixes which versions it names and numbers the release, the second builds it.
So a builder that dies in between leaves a numbered release that the next one goes on with, never a second one. It is
promoted only onto the base it was built from: where another release went live meanwhile, promoting it would undo that
one, so its versions are named again on top of what is live now.
"""

import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, Literal

from sqlalchemy import Connection

from discovery.promotion import DEFAULT_DEPLOYMENT, promote
from registry.deployments import get_deployments
from registry.errors import (
    GroupNotFoundError,
    PreconditionFailedError,
    PromotionRefusedError,
    ReleaseNotFoundError,
    StorageFullError,
    StoreAwayError,
)
from registry.failpoints import failpoint
from registry.groups import get_group
from registry.records import Release, Task
from registry.releases import begin_release, fail_release, get_release
from registry.tasks import enqueue, enqueue_auto_release, fail, finish
from workers.builder.context import Bench, BuilderContext, ClaimLostError
from workers.builder.release_build import build_release

log = logging.getLogger("manymodels.builder")

FAILPOINTS: Final = ("auto_release.claimed", "auto_release.begun", "release.built", "release.promoted")
AUTHOR: Final = "auto_release"

Outcome = Literal["not asked", "live", "outdated", "suspended", "not ready"]


def release(context: BuilderContext, _bench: Bench, task: Task) -> None:
    """Carry out a `release` task.

    Payloads: `{"auto": true, "set": [[key, version], ...]}` begins an auto-release; `{"release": n}` builds a release
    that exists, and with `"set"` beside it promotes it when it is ready. Result `{"release", "state", "outcome"}`.

    Raises:
        Problem: why it cannot be built or promoted.
        ClaimLostError: if another builder has the task now.
    """
    if task.payload.get("auto"):
        _begin_auto_release(context, task)
        return
    named = task.payload.get("set")
    built = build(context, task.group, task.payload["release"], patient=named is not None)
    outcome: Outcome = "not asked" if named is None else _go_live(context, built)
    now = context.clock()
    with context.database.write() as conn:
        if named is not None and outcome == "outdated":
            group = get_group(conn, task.group)
            again = [(group.schema.parse_text(text), number) for text, number in named]
            enqueue_auto_release(conn, group, again, now)
        if not finish(conn, task, {"release": built.number, "state": built.state, "outcome": outcome}, now):
            raise ClaimLostError


def refuse(context: BuilderContext, task: Task, problem: Mapping[str, Any]) -> None:
    """Record why a release cannot be built; one that was built and only not promoted stays ready."""
    with context.database.write() as conn:
        if not fail(conn, task, problem, context.clock()):
            raise ClaimLostError
        if "release" in task.payload:
            fail_unbuilt(conn, task.group, task.payload["release"], problem, context.clock())


def fail_unbuilt(conn: Connection, group: str, number: int, problem: Mapping[str, Any], now: float) -> None:
    """Mark a release as failed if it is still building; a group that is gone has none."""
    with suppress(GroupNotFoundError, ReleaseNotFoundError):
        if get_release(conn, group, number).state == "building":
            fail_release(conn, group, number, {"error": problem}, now)


def build(context: BuilderContext, group: str, number: int, *, patient: bool) -> Release:
    """Build a release; one that is built already is answered as it is.

    Raises:
        StorageFullError: if there is no room for it and its caller is to be told.
        StoreAwayError: if there is none and it is to wait for room, since nobody would ask for it again (`patient`).
    """
    try:
        built = build_release(
            context.database,
            context.store,
            group,
            number,
            clock=context.clock,
            stale_days=context.settings.stale_days,
            opened=context.opened,
        )
    except StorageFullError as error:
        if patient:
            raise StoreAwayError(error.detail) from error
        raise
    failpoint("release.built")
    return built


def go_live_if_nothing_is(context: BuilderContext, built: Release) -> bool:
    """Promote the first release of a group; a group with a live one is left as it is."""
    with context.database.read() as conn:
        found = get_deployments(conn, built.group)
    if found.deployments:
        return False
    try:
        _promote(context, built, if_match=found.etag)
    except PreconditionFailedError:
        log.info("release %d of %s: another one went live first", built.number, built.group)
        return False
    return True


def _begin_auto_release(context: BuilderContext, task: Task) -> None:
    failpoint("auto_release.claimed")
    now = context.clock()
    with context.database.write() as conn:
        group = get_group(conn, task.group)
        result: dict[str, object] = {"release": None, "state": None, "outcome": "suspended"}
        if group.auto_release and not group.suspended:
            named = [(group.schema.parse_text(text), number) for text, number in task.payload["set"]]
            begun = begin_release(conn, group, base=None, named=named, gates={}, now=now)
            enqueue(conn, "release", group, {"release": begun.number, "set": task.payload["set"]}, now)
            result = {"release": begun.number, "state": begun.state, "outcome": "begun"}
        if not finish(conn, task, result, now):
            raise ClaimLostError
    failpoint("auto_release.begun")


def _go_live(context: BuilderContext, built: Release) -> Outcome:
    """Promote an auto-release if its base is still what is live.

    Raises:
        PromotionRefusedError: if the members did not prepare it in time; the former release goes on.
    """
    if built.state != "ready":
        return "not ready"
    with context.database.read() as conn:
        found = get_deployments(conn, built.group)
        suspended = get_group(conn, built.group).suspended
    live = found.deployments[DEFAULT_DEPLOYMENT].release if found.deployments else None
    if live == built.number:  # promoted before the builder died
        return "live"
    if suspended:
        return "suspended"
    if live != built.base:
        return "outdated"
    try:
        _promote_patiently(context, built, if_match=found.etag)
    except PreconditionFailedError:
        return "outdated"
    failpoint("release.promoted")
    return "live"


def _promote_patiently(context: BuilderContext, built: Release, if_match: str) -> None:
    """As `_promote`, tried once more: nobody would ask for this again, and who was late may have lost its members."""
    try:
        _promote(context, built, if_match)
    except PromotionRefusedError as error:
        log.warning("release %d of %s is promoted once more: %s", built.number, built.group, error.detail)
        _promote(context, built, if_match)


def _promote(context: BuilderContext, built: Release, if_match: str) -> None:
    promote(
        context.database,
        context.membership,
        context.store,
        built.group,
        built.number,
        if_match=if_match,
        author=AUTHOR,
        deadline_seconds=context.settings.promote_seconds,
        now=context.clock,
    )
