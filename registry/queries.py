"""The SQL of groups, versions and their listings, named: one place to read what the registry asks of a database.

Statements are built once, take their values as bound parameters and hold nothing that only one database understands.
What releases, deployments and retention ask stands in `registry.release_queries`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import (
    Boolean,
    ColumnElement,
    Select,
    and_,
    bindparam,
    func,
    insert,
    literal,
    select,
    update,
)

from registry.tables import (
    assignments,
    groups,
    heads,
    model_versions,
    release_changes,
    releases,
    revision,
    tasks,
    version_tags,
)

# --- revision

READ_REVISION: Final = select(revision.c.epoch, revision.c.number).where(revision.c.id == 1)

BUMP_REVISION: Final = (
    update(revision).where(revision.c.id == 1).values(number=revision.c.number + 1).returning(revision.c.number)
)

# --- groups

GROUP_BY_NAME: Final = select(groups).where(groups.c.name == bindparam("name"))

ALL_GROUPS: Final = select(groups).where(groups.c.name.is_not(None)).order_by(groups.c.name)

INSERT_GROUP: Final = insert(groups)

NEW_GROUP_COUNTERS: Final = {
    "suspended": False,
    "sequence": 0,
    "models": 0,
    "releases": 0,
    "imports": 0,
    "moves": 0,
}

# Takes the row's lock where a database has row locks: counters are handed out in order.
LOCK_GROUP: Final = select(groups).where(groups.c.id == bindparam("id"), groups.c.name.is_not(None)).with_for_update()

COUNT_MODELS: Final = select(groups.c.models).where(groups.c.id == bindparam("id"))

FORGET_GROUP: Final = update(groups).where(groups.c.id == bindparam("of_group")).values(name=None)

FAIL_TASKS_OF_GROUP: Final = (
    update(tasks)
    .where(tasks.c.group_id == bindparam("of_group"), tasks.c.state.in_(("queued", "running")))
    .values(state="failed", result=bindparam("problem"), finished=tasks.c.created, fence=tasks.c.fence + 1)
)

PLACE_GROUP: Final = (
    update(groups)
    .where(groups.c.id == bindparam("of_group"))
    .values(replicas=bindparam("replicas"), pool=bindparam("pool"))
)

COUNT_VERSIONS: Final = (
    update(groups)
    .where(groups.c.id == bindparam("of_group"))
    .values(sequence=bindparam("last"), models=groups.c.models + bindparam("more"))
)

# --- assignments

ASSIGNMENT_NUMBERS: Final = select(assignments.c.pool, assignments.c.number)

ASSIGNMENT_BODY: Final = select(assignments.c.body).where(assignments.c.pool == bindparam("of_pool"))

INSERT_ASSIGNMENT: Final = insert(assignments)

REPLACE_ASSIGNMENT: Final = (
    update(assignments)
    .where(assignments.c.pool == bindparam("of_pool"))
    .values(number=bindparam("number"), body=bindparam("body"))
)

# --- versions

# A version is withdrawn while the last thing that happened to the releases that introduced it is being abandoned by a
# rollback (see registry.withdrawal): computed, so that rolling back a million models writes a row a release.
IS_WITHDRAWN: Final[ColumnElement[bool]] = func.coalesce(
    select(func.max(releases.c.abandoned) > func.max(releases.c.restored))
    .select_from(release_changes)
    .join(
        releases,
        and_(releases.c.group_id == release_changes.c.group_id, releases.c.number == release_changes.c.release),
    )
    .where(
        release_changes.c.group_id == model_versions.c.group_id,
        release_changes.c.key_id == model_versions.c.key_id,
        release_changes.c.sequence == model_versions.c.sequence,
    )
    .correlate(model_versions)
    .scalar_subquery(),
    literal(value=False),
    type_=Boolean,
)

VERSION_COLUMNS: Final = (  # in the order in which `registry.rows.read_version` takes them apart
    heads.c.key,
    model_versions.c.sequence,
    model_versions.c.number,
    model_versions.c.digest,
    model_versions.c.runtime,
    model_versions.c.size,
    model_versions.c.heap,
    model_versions.c.bundle,
    model_versions.c.offset,
    model_versions.c.length,
    model_versions.c.verdict,
    model_versions.c.pack_length,
    model_versions.c.pack_size,
    model_versions.c.meta,
    model_versions.c.created,
    IS_WITHDRAWN.label("withdrawn"),
)

_HEAD_OF_VERSION: Final = and_(heads.c.group_id == model_versions.c.group_id, heads.c.key_id == model_versions.c.key_id)

_NEWEST_OF_HEAD: Final = and_(
    model_versions.c.group_id == heads.c.group_id, model_versions.c.sequence == heads.c.sequence
)

_VERSIONS: Final = (
    select(*VERSION_COLUMNS)
    .join_from(model_versions, heads, _HEAD_OF_VERSION)
    .where(model_versions.c.group_id == bindparam("group"))
)

VERSION_BY_NUMBER: Final = _VERSIONS.where(
    model_versions.c.key_id == bindparam("key_id"), model_versions.c.number == bindparam("number")
)

VERSIONS_OF_KEY: Final = _VERSIONS.where(model_versions.c.key_id == bindparam("key_id")).order_by(
    model_versions.c.number.desc()
)

VERSIONS_BY_SEQUENCE: Final = _VERSIONS.where(model_versions.c.sequence.in_(bindparam("sequences", expanding=True)))

HEADS_BY_KEY: Final = select(heads.c.key_id, heads.c.number, heads.c.sequence, heads.c.digest).where(
    heads.c.group_id == bindparam("group"), heads.c.key_id.in_(bindparam("key_ids", expanding=True))
)

INSERT_VERSIONS: Final = insert(model_versions)

INSERT_HEADS: Final = insert(heads)

MOVE_HEADS: Final = (
    update(heads)
    .where(heads.c.group_id == bindparam("of_group"), heads.c.key_id == bindparam("of_key"))
    .values(number=bindparam("number"), sequence=bindparam("sequence"), digest=bindparam("digest"))
)

INSERT_TAGS: Final = insert(version_tags)


_HEADS: Final = (
    select(*VERSION_COLUMNS)
    .join_from(heads, model_versions, _NEWEST_OF_HEAD)
    .where(heads.c.group_id == bindparam("group"))
)

NEWEST_OF_KEY: Final = _HEADS.where(heads.c.key_id == bindparam("key_id"))

KEY_TEXT: Final = select(heads.c.key).where(
    heads.c.group_id == bindparam("group"), heads.c.key_id == bindparam("key_id")
)


def heads_page(
    pieces: Sequence[str], prefix: str, tags: Mapping[str, str], after: str | None, limit: int
) -> Select[Any]:
    """The newest versions of a group's keys that have a model, by key text.

    Args:
        pieces: `field=value` texts that the key must have, in any place.
        prefix: the joined pieces of the leading key fields; narrows the range of keys to read.
        tags: names and values that the version must have.
        after: the key text to go on after.
        limit: rows to read.
    """
    statement = _HEADS.where(heads.c.digest.is_not(None))
    ordered: ColumnElement[str] = heads.c.key
    for position, (name, value) in enumerate(tags.items()):
        tag = version_tags.alias(f"tag_{position}")
        statement = statement.join(
            tag,
            and_(
                tag.c.group_id == heads.c.group_id,
                tag.c.key == heads.c.key,
                tag.c.sequence == heads.c.sequence,
                tag.c.name == name,
                tag.c.value == value,
            ),
        )
        ordered = tag.c.key if position == 0 else ordered
    whole = literal("/") + heads.c.key + literal("/")
    for piece in pieces:  # exact and case-sensitive everywhere, which LIKE is not
        statement = statement.where(func.replace(whole, f"/{piece}/", "") != whole)
    if prefix:  # what follows a whole piece is "/", and "0" is the character after that
        statement = statement.where(ordered >= prefix, ordered < f"{prefix}0")
    if after is not None:
        statement = statement.where(ordered > after)
    return statement.order_by(ordered).limit(limit)
