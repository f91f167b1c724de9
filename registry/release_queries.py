"""The SQL of releases, deployments and holds, named. What is withdrawn: see registry.withdrawal."""

from typing import Any, Final

from sqlalchemy import (
    CTE,
    ColumnElement,
    Insert,
    Select,
    and_,
    bindparam,
    delete,
    func,
    insert,
    literal_column,
    or_,
    select,
    update,
)

from registry.queries import IS_WITHDRAWN, VERSION_COLUMNS
from registry.tables import (
    deployment_history,
    deployments,
    groups,
    heads,
    holds,
    model_versions,
    release_changes,
    releases,
    wanted,
)

# --- releases

RELEASE: Final = select(releases).where(
    releases.c.group_id == bindparam("group"), releases.c.number == bindparam("number")
)

RELEASES: Final = select(releases).where(releases.c.group_id == bindparam("group")).order_by(releases.c.number.desc())

BASES: Final = select(releases.c.number, releases.c.base).where(releases.c.group_id == bindparam("group"))

COUNT_RELEASE: Final = (
    update(groups)
    .where(groups.c.id == bindparam("of_group"))
    .values(releases=groups.c.releases + 1)
    .returning(groups.c.releases)
)

INSERT_RELEASE: Final = insert(releases)

END_RELEASE: Final = (
    update(releases)
    .where(
        releases.c.group_id == bindparam("of_group"),
        releases.c.number == bindparam("of_release"),
        releases.c.state == "building",
    )
    .values(
        state=bindparam("state"),
        manifest=bindparam("manifest"),
        models=bindparam("models"),
        size=bindparam("size"),
        report=bindparam("report"),
        ready=bindparam("ready"),
    )
)

DROP_CHANGES: Final = delete(release_changes).where(
    release_changes.c.group_id == bindparam("group"),
    release_changes.c.release == bindparam("release"),
    release_changes.c.key_id.in_(bindparam("key_ids", expanding=True)),
)

CHANGED_SLOTS: Final = (
    select(release_changes.c.slot)
    .distinct()
    .where(release_changes.c.group_id == bindparam("group"), release_changes.c.release == bindparam("release"))
    .order_by(release_changes.c.slot)
)

_OF_CHANGE: Final = and_(
    model_versions.c.group_id == release_changes.c.group_id,
    model_versions.c.sequence == release_changes.c.sequence,
)

CHANGES: Final = (
    select(*VERSION_COLUMNS)
    .select_from(release_changes)
    .join(model_versions, _OF_CHANGE)
    .join(
        heads,
        and_(heads.c.group_id == release_changes.c.group_id, heads.c.key_id == release_changes.c.key_id),
    )
    .where(
        release_changes.c.group_id == bindparam("group"),
        release_changes.c.release == bindparam("release"),
        release_changes.c.slot >= bindparam("low"),
        release_changes.c.slot < bindparam("high"),
    )
    .order_by(release_changes.c.slot, release_changes.c.key_id)
)

# --- what a new release changes

_chain: Final = (
    select(releases.c.number, releases.c.base)
    .where(releases.c.group_id == bindparam("group"), releases.c.number == bindparam("base"))
    .cte("chain", recursive=True)
)
CHAIN: Final = _chain.union_all(
    select(releases.c.number, releases.c.base).where(
        releases.c.group_id == bindparam("group"), releases.c.number == _chain.c.base
    )
)


def _in_chain(release: ColumnElement[int], chain: CTE) -> ColumnElement[bool]:
    """Whether a release is in a chain. The sum keeps a planner from probing the index once for every release of it."""
    return (release + 0).in_(select(chain.c.number))


# No withdrawn version is newer than every release that was abandoned: spares all newer ones the question.
WITHDRAWN_THROUGH: Final = select(func.coalesce(func.max(releases.c.seen), 0)).where(
    releases.c.group_id == bindparam("group"), releases.c.abandoned > releases.c.restored
)

_STANDS_STILL: Final[ColumnElement[bool]] = (
    select(literal_column("1"))
    .where(
        holds.c.group_id == model_versions.c.group_id,
        holds.c.key_id == model_versions.c.key_id,
        holds.c.action.in_(("pin", "freeze")),
        or_(holds.c.until.is_(None), holds.c.until > bindparam("now")),
    )
    .correlate(model_versions)
    .exists()
)

_SLOTTED: Final = model_versions.join(
    heads, and_(heads.c.group_id == model_versions.c.group_id, heads.c.key_id == model_versions.c.key_id)
)

_MAY_BE_USED: Final = or_(model_versions.c.sequence > bindparam("withdrawn_through"), ~IS_WITHDRAWN)

_NEWER: Final = (
    select(
        heads.c.slot.label("slot"),
        model_versions.c.key_id.label("key_id"),
        func.max(model_versions.c.sequence).label("sequence"),
    )
    .select_from(_SLOTTED)
    .where(
        model_versions.c.group_id == bindparam("group"),
        model_versions.c.sequence > bindparam("after"),
        model_versions.c.sequence <= bindparam("through"),
        _MAY_BE_USED,
        ~_STANDS_STILL,
    )
    .group_by(heads.c.slot, model_versions.c.key_id)
)

_NAMED: Final = (
    select(heads.c.slot.label("slot"), model_versions.c.key_id.label("key_id"), model_versions.c.sequence)
    .select_from(_SLOTTED)
    .where(
        model_versions.c.group_id == bindparam("group"),
        model_versions.c.sequence.in_(bindparam("sequences", expanding=True)),
        ~_STANDS_STILL,
    )
)

_PINNED: Final = (
    select(holds.c.slot.label("slot"), model_versions.c.key_id.label("key_id"), model_versions.c.sequence)
    .join_from(
        holds,
        model_versions,
        and_(
            model_versions.c.group_id == holds.c.group_id,
            model_versions.c.key_id == holds.c.key_id,
            model_versions.c.number == holds.c.version,
        ),
    )
    .where(
        holds.c.group_id == bindparam("group"),
        holds.c.action == "pin",
        or_(holds.c.until.is_(None), holds.c.until > bindparam("now")),
    )
)


def _insert_changes(candidates: Select[Any]) -> Insert:
    """Insert the candidates that the base does not hold already.

    The base holds of a key what the newest release of its chain changed the key to. What is newer than the base was
    ever shown (`seen`) cannot be in it. A withdrawn version is inserted even so: naming it is what is recorded.
    """
    found = candidates.subquery("found")
    of_key = release_changes.alias("of_key")
    in_base = (
        select(of_key.c.sequence)
        .where(
            of_key.c.group_id == bindparam("group"),
            of_key.c.key_id == found.c.key_id,
            _in_chain(of_key.c.release, CHAIN),
        )
        .order_by(of_key.c.release.desc())
        .limit(1)
        .correlate(found)
        .scalar_subquery()
    )
    withdrawn = (
        select(IS_WITHDRAWN)
        .select_from(model_versions)
        .where(model_versions.c.group_id == bindparam("group"), model_versions.c.sequence == found.c.sequence)
        .correlate(found)
        .scalar_subquery()
    )
    fresh = (
        select(bindparam("group", type_=groups.c.id.type), bindparam("release", type_=releases.c.number.type), *found.c)
        .where(
            or_(
                found.c.sequence > bindparam("base_seen"),
                func.coalesce(in_base, 0) != found.c.sequence,
                withdrawn,
            )
        )
        .order_by(found.c.slot, found.c.key_id)
    )
    return insert(release_changes).from_select(["group_id", "release", "slot", "key_id", "sequence"], fresh)


CHANGE_TO_NEWER: Final = _insert_changes(_NEWER)
CHANGE_TO_NAMED: Final = _insert_changes(_NAMED)
CHANGE_TO_PINNED: Final = _insert_changes(_PINNED)

NUMBERED_VERSIONS: Final = select(model_versions.c.key_id, model_versions.c.number, model_versions.c.sequence).where(
    model_versions.c.group_id == bindparam("group"),
    model_versions.c.key_id.in_(bindparam("key_ids", expanding=True)),
)

# --- withdrawal

MARK_ABANDONED: Final = (
    update(releases)
    .where(releases.c.group_id == bindparam("of_group"), releases.c.number == bindparam("of_release"))
    .values(abandoned=bindparam("move"))
)

MARK_RESTORED: Final = (
    update(releases)
    .where(releases.c.group_id == bindparam("of_group"), releases.c.number == bindparam("of_release"))
    .values(restored=bindparam("move"))
)

_kept: Final = release_changes.alias("kept")
_target_chain: Final = (
    select(releases.c.number, releases.c.base)
    .where(releases.c.group_id == bindparam("group"), releases.c.number == bindparam("target"))
    .cte("target_chain", recursive=True)
)
_TARGET_CHAIN: Final = _target_chain.union_all(
    select(releases.c.number, releases.c.base).where(
        releases.c.group_id == bindparam("group"), releases.c.number == _target_chain.c.base
    )
)

COUNT_WITHDRAWN: Final = (
    select(func.count(release_changes.c.sequence.distinct()))
    .join_from(
        releases,
        release_changes,
        and_(
            release_changes.c.group_id == releases.c.group_id,
            release_changes.c.release == releases.c.number,
        ),
    )
    .where(
        releases.c.group_id == bindparam("group"),
        releases.c.abandoned == bindparam("move"),
        or_(
            release_changes.c.sequence
            > select(releases.c.seen)
            .where(releases.c.group_id == bindparam("group"), releases.c.number == bindparam("target"))
            .scalar_subquery(),
            ~select(literal_column("1"))
            .where(
                _kept.c.group_id == release_changes.c.group_id,
                _kept.c.key_id == release_changes.c.key_id,
                _kept.c.sequence == release_changes.c.sequence,
                _in_chain(_kept.c.release, _TARGET_CHAIN),
            )
            .correlate(release_changes)
            .exists(),
        ),
    )
)

# --- deployments

DEPLOYMENTS: Final = (
    select(deployments).where(deployments.c.group_id == bindparam("group")).order_by(deployments.c.name)
)

MOVES: Final = select(groups.c.moves).where(groups.c.id == bindparam("group"))

DROP_DEPLOYMENTS: Final = delete(deployments).where(deployments.c.group_id == bindparam("group"))

INSERT_DEPLOYMENT: Final = insert(deployments)

COUNT_MOVE: Final = (
    update(groups)
    .where(groups.c.id == bindparam("of_group"))
    .values(moves=groups.c.moves + 1, suspended=bindparam("suspended"))
    .returning(groups.c.moves)
)

END_PERIODS: Final = (
    update(deployment_history)
    .where(deployment_history.c.group_id == bindparam("of_group"), deployment_history.c.ended.is_(None))
    .values(ended=bindparam("now"))
)

INSERT_PERIOD: Final = insert(deployment_history)

PERIODS: Final = (
    select(deployment_history)
    .where(deployment_history.c.group_id == bindparam("group"))
    .order_by(deployment_history.c.id)
)

CHANGES_OF_KEY: Final = select(release_changes.c.release, release_changes.c.sequence).where(
    release_changes.c.group_id == bindparam("group"), release_changes.c.key_id == bindparam("key_id")
)

WANTED: Final = (
    select(wanted.c.release)
    .where(wanted.c.group_id == bindparam("group"), wanted.c.until > bindparam("now"))
    .order_by(wanted.c.release)
)

INSERT_WANTED: Final = insert(wanted)

DROP_WANTED: Final = delete(wanted).where(
    wanted.c.group_id == bindparam("group"), wanted.c.release == bindparam("release")
)

DROP_EXPIRED_WANTED: Final = delete(wanted).where(
    wanted.c.group_id == bindparam("group"), wanted.c.until <= bindparam("now")
)

# --- holds

HOLDS: Final = (
    select(holds)
    .where(
        holds.c.group_id == bindparam("group"),
        or_(holds.c.until.is_(None), holds.c.until > bindparam("now")),
    )
    .order_by(holds.c.key)
)

INSERT_HOLD: Final = insert(holds)

DROP_HOLD: Final = delete(holds).where(holds.c.group_id == bindparam("group"), holds.c.key_id == bindparam("key_id"))
