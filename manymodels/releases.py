"""The client's calls about what is live: releases, promotion and rollback, holds."""

import time
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime
from typing import Any

from manymodels.calls import Calls
from manymodels.errors import NothingReadyError, ReleaseRefusedError
from manymodels.provenance import as_text
from manymodels.records import Deployments, Hold, Release
from manymodels.wire import Key, from_answer, group_path, key_pairs, query


class ReleaseCalls(Calls):
    """Releases, deployments and holds of a group."""

    def release(
        self,
        group: str,
        *,
        base: int | None = None,
        set: Iterable[tuple[Key, int]] | None = None,  # noqa: A002 - the word of the wire
        gates: Mapping[str, int] | None = None,
        wait: bool = True,
        pause: Callable[[float], None] = time.sleep,
    ) -> Release:
        """Build a release of the live one plus changes; it answers nobody before it is promoted.

        Args:
            group: the group's name.
            base: the release to build on instead of the live one.
            set: exactly these versions, as (key, version number); by default everything newer than the base.
            gates: `max_lost`, `max_failed`, `max_stale_days`: past one of them the release is blocked.
            wait: whether to wait until it is built.
            pause: waits between two looks at it; seconds.

        Raises:
            ReleaseRefusedError: if it was waited for and is blocked or failed.
        """
        body: dict[str, Any] = {}
        if base is not None:
            body["base"] = base
        if set is not None:
            body["set"] = [{"key": dict(key), "version": version} for key, version in set]
        if gates:
            body["gates"] = dict(gates)
        release = Release.from_json(self._send("POST", group_path(group, "releases"), body))
        return self.built_release(group, release.number, pause=pause) if wait else release

    def releases(self, group: str) -> list[Release]:
        """All releases of a group, newest first."""
        return [Release.from_json(body) for body in self._get(group_path(group, "releases"))["releases"]]

    def release_record(self, group: str, number: int) -> Release:
        """One release as it stands."""
        return Release.from_json(self._get(group_path(group, "releases", number)))

    def built_release(self, group: str, number: int, *, pause: Callable[[float], None] = time.sleep) -> Release:
        """One release, once it is built.

        Raises:
            ReleaseRefusedError: if it is blocked or failed.
        """
        wait = 0.01
        while (release := self.release_record(group, number)).state == "building":
            pause(wait)
            wait = min(wait * 1.5, 0.5)
        if release.state in ("blocked", "failed"):
            raise ReleaseRefusedError(_why(group, release), release)
        return release

    def deployments(self, group: str) -> Deployments:
        """What is live, and the etag of it."""
        answer = self._transport.request("GET", group_path(group, "deployments"), {}, repeatable=True)
        return Deployments.from_json(from_answer(answer), answer.headers.get("etag"))

    def promote(self, group: str, release: int | None = None, *, if_match: str | None = None) -> Deployments:
        """Make a release live, by default the newest that is ready; returns when it answers everywhere.

        Args:
            group: the group's name.
            release: its number.
            if_match: only if the deployments still have this etag.

        Raises:
            NothingReadyError: if no release is ready.
            ConflictError: if it is not ready, or the etag is no longer the current one; the old release goes on.
        """
        number = self._newest_ready(group) if release is None else release
        body = {"blue": {"release": number, "traffic": 100}}
        headers = {} if if_match is None else {"if_match": if_match}
        # A conditional change that was carried out makes its own repetition fail: only the plain one is repeated.
        repeatable = if_match is None
        answer = self._exchange("PUT", group_path(group, "deployments"), body, repeatable=repeatable, **headers)
        return Deployments.from_json(from_answer(answer), answer.headers.get("etag"))

    def rollback(self, group: str, to: int | None = None) -> Deployments:
        """Go back to an earlier release, by default the one that the live release replaced when it was built.

        What the abandoned releases introduced is withdrawn, and registrations no longer go live by themselves until
        the next promotion.

        Raises:
            NothingReadyError: if there is no earlier release to go to.
            ConflictError: if somebody else changed the deployments in between, or the release is no longer kept.
        """
        now = self.deployments(group)
        if now.live is None:
            raise NothingReadyError(f"nothing is live in {group!r}, so there is nothing to go back from")
        target = self.release_record(group, now.live).base if to is None else to
        if target is None:
            raise NothingReadyError(
                f"release {now.live} of {group!r} was built on no other: name the release to go back to"
            )
        if target >= now.live:
            raise NothingReadyError(
                f"release {target} is not earlier than the live release {now.live}: use promote to go forward"
            )
        return self.promote(group, target, if_match=now.etag)

    def hold(
        self,
        group: str,
        key: Key,
        action: str,
        *,
        reason: str,
        version: int | None = None,
        author: str = "",
        until: datetime | date | str | None = None,
    ) -> Hold:
        """Put a hold on one key, in place of the one it has: `disable`, `pin` (to a version) or `freeze`."""
        body: dict[str, Any] = {"action": action, "reason": reason, "author": author}
        if version is not None:
            body["version"] = version
        if until is not None:
            body["until"] = as_text(until)
        return Hold.from_json(
            self._send("PUT", group_path(group, "holds") + query(key_pairs(key)), body, repeatable=True)
        )

    def unhold(self, group: str, key: Key) -> None:
        """Take the hold off one key."""
        self._delete(group_path(group, "holds") + query(key_pairs(key)))

    def holds(self, group: str) -> list[Hold]:
        """The holds that stand now."""
        return [Hold.from_json(body) for body in self._get(group_path(group, "holds"))["holds"]]

    def _newest_ready(self, group: str) -> int:
        for release in self.releases(group):
            if release.state == "ready":
                return release.number
        raise NothingReadyError(f"no release of {group!r} is ready: build one with release")


def _why(group: str, release: Release) -> str:
    counts = ", ".join(
        f"{release.report[name]} {name}" for name in ("lost", "failed", "stale") if name in release.report
    )
    said = release.report.get("detail") or counts or "no report"
    if release.state == "blocked":
        return f"release {release.number} of {group!r} is blocked by a gate ({said}); what is live goes on"
    return f"release {release.number} of {group!r} could not be built ({said}); what is live goes on"
