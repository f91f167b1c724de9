"""Promotion: prepare first, then flip.

Members are asked to map the new release; only when every living worker has announced that it holds its share, and every
shard has one that lives, one transaction points the deployment at it. In all other cases the old release goes on, as if
nothing had been asked. A house without members (an offline home) proves instead that the release lies whole in the
artifact store.
"""

import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from discovery.membership import Membership
from discovery.preparation import Preparation, await_members
from registry.artifacts.frames import verified
from registry.artifacts.store import ArtifactStore
from registry.database import Database
from registry.deployments import Flip, check_change, flip, unwant, want
from registry.errors import (
    ArtifactDamagedError,
    ArtifactMissingError,
    DatabaseBusyError,
    Problem,
    PromotionRefusedError,
)
from registry.failpoints import failpoint
from registry.manifest import Manifest, SegmentRef, read_manifest
from registry.records import Deployment
from registry.releases import get_release

log = logging.getLogger("manymodels.discovery")

FAILPOINTS: Final = ("promotion.before_want", "promotion.wanted", "promotion.prepared", "promotion.flipped")
WANT_MARGIN_SECONDS: Final = 30.0
DEFAULT_DEPLOYMENT: Final = "blue"


def promote(
    database: Database,
    membership: Membership,
    store: ArtifactStore,
    group: str,
    target: int | Mapping[str, Deployment],
    *,
    if_match: str | None = None,
    author: str = "",
    deadline_seconds: float = 10.0,
    now: Callable[[], float] = time.time,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Flip:
    """Make a release live: a promotion, or a rollback where its number is lower than the live one's.

    `target` is the release that `blue` shall serve alone, or the complete deployments by name. `if_match` is the etag
    that the deployments must still have at the flip. Members have `deadline_seconds` to map the release. `now` tells
    seconds since 1970, `clock` monotonic seconds, and `sleep` rests for seconds between two looks.

    Raises:
        GroupNotFoundError, ReleaseNotFoundError, ReleaseStateError, DeploymentInvalidError.
        PreconditionFailedError: if the deployments changed meanwhile.
        PromotionRefusedError: if a living worker did not hold its share in time, or a shard has none; nothing changed.
        DatabaseBusyError: if SQL was away; nothing changed, unless it is an OutcomeUnknownError.
    """
    deployments = _deployments(target)
    numbers = sorted({deployment.release for deployment in deployments.values()})
    manifests = _ready_manifests(database, group, deployments, if_match)
    failpoint("promotion.before_want")
    _want(database, group, numbers, until=now() + deadline_seconds + WANT_MARGIN_SECONDS)
    try:
        failpoint("promotion.wanted")
        look = partial(_look_for, database, group, numbers)
        ahead = Preparation(database, membership, group, numbers, partial(_shards, store, manifests))
        if not await_members(ahead, clock() + deadline_seconds, clock, sleep, look):
            _check_stored(store, manifests)
        failpoint("promotion.prepared")
        with database.write() as connection:
            flipped = flip(connection, group, deployments, if_match=if_match, author=author, now=now())
            for number in numbers:
                unwant(connection, group, number)
    except Exception:
        _give_up(database, group, numbers)
        raise
    failpoint("promotion.flipped")
    return flipped


def _deployments(target: int | Mapping[str, Deployment]) -> Mapping[str, Deployment]:
    if isinstance(target, int):
        return {DEFAULT_DEPLOYMENT: Deployment(DEFAULT_DEPLOYMENT, target, 100)}
    return target


def _ready_manifests(
    database: Database, group: str, deployments: Mapping[str, Deployment], if_match: str | None
) -> list[str]:
    """Manifest digests of the releases; refuses early what the flip would refuse after a wait."""
    with database.read() as connection:
        check_change(connection, group, deployments, if_match)
        releases = [get_release(connection, group, deployment.release) for deployment in deployments.values()]
    return [str(release.manifest) for release in releases]


def _want(database: Database, group: str, numbers: list[int], until: float) -> None:
    with database.write() as connection:
        for number in numbers:
            want(connection, group, number, until)


def _give_up(database: Database, group: str, numbers: list[int]) -> None:
    """Take the wish back. Where SQL is away it ends by its own time, so the first failure is the one to report."""
    try:
        with database.write() as connection:
            for number in numbers:
                unwant(connection, group, number)
    except DatabaseBusyError as error:
        log.warning("releases %s of %s stay wanted until their time is over: %s", numbers, group, error)


def _look_for(database: Database, group: str, numbers: list[int]) -> None:
    """Raise GroupNotFoundError or ReleaseNotFoundError if one is gone."""
    with database.read() as connection:
        for number in numbers:
            get_release(connection, group, number)


def _shards(store: ArtifactStore, manifests: list[str]) -> frozenset[int]:
    """Into how many shards the releases are cut."""
    try:
        return frozenset(_read(store, digest).shards for digest in manifests)
    except (ArtifactMissingError, ArtifactDamagedError) as error:
        raise _not_whole(error) from error


def _check_stored(store: ArtifactStore, manifests: list[str]) -> None:
    """Refuse a release whose manifest is damaged, or of whose segments one is missing or of another size."""
    try:
        for digest in manifests:
            for segment in _read(store, digest).segments:
                _check_size(store.size(segment.digest), segment)
    except (ArtifactMissingError, ArtifactDamagedError) as error:
        raise _not_whole(error) from error


def _read(store: ArtifactStore, digest: str) -> Manifest:
    return read_manifest(verified(store.path(digest).read_bytes(), digest))


def _not_whole(error: Problem) -> PromotionRefusedError:
    return PromotionRefusedError(f"the release is not whole in the artifact store: {error.detail}")


def _check_size(size: int, segment: SegmentRef) -> None:
    if size != segment.size:
        raise ArtifactDamagedError(f"segment {segment.digest} has {size} of {segment.size} bytes")
