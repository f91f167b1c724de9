"""The SQL of retention, named."""

from typing import Any, Final

from sqlalchemy import Delete, Select, Table, bindparam, delete, func, select, tuple_, union, union_all, update

from registry.tables import (
    deployments,
    groups,
    heads,
    holds,
    import_rows,
    imports,
    metadata,
    model_versions,
    release_changes,
    releases,
    tasks,
    version_tags,
    wanted,
)

LAST_BUILT: Final = (
    select(releases.c.number)
    .where(releases.c.group_id == bindparam("group"), releases.c.state.in_(("ready", "blocked")))
    .order_by(releases.c.number.desc())
    .limit(bindparam("most"))
)

# What is live, asked for, or being built, and the bases of what is being built.
IN_USE: Final = union(
    select(deployments.c.release).where(deployments.c.group_id == bindparam("group")),
    select(wanted.c.release).where(wanted.c.group_id == bindparam("group")),
    select(releases.c.number).where(releases.c.group_id == bindparam("group"), releases.c.state == "building"),
    select(releases.c.base).where(
        releases.c.group_id == bindparam("group"), releases.c.state == "building", releases.c.base.is_not(None)
    ),
)

RETIRE: Final = (
    update(releases)
    .where(
        releases.c.group_id == bindparam("of_group"),
        releases.c.number.in_(bindparam("numbers", expanding=True)),
        releases.c.state.in_(("ready", "blocked", "failed")),
    )
    .values(state="retired")
)

THROUGH: Final = select(func.min(releases.c.through)).where(
    releases.c.group_id == bindparam("group"), releases.c.number.in_(bindparam("numbers", expanding=True))
)

SUPERSEDED: Final = (
    select(model_versions.c.sequence, model_versions.c.key_id, model_versions.c.number, model_versions.c.bundle)
    .join(heads, (heads.c.group_id == model_versions.c.group_id) & (heads.c.key_id == model_versions.c.key_id))
    .where(
        model_versions.c.group_id == bindparam("group"),
        model_versions.c.sequence > bindparam("after"),
        model_versions.c.sequence <= bindparam("through"),
        model_versions.c.sequence != heads.c.sequence,
        ~select(holds.c.key_id)
        .where(
            holds.c.group_id == model_versions.c.group_id,
            holds.c.key_id == model_versions.c.key_id,
            holds.c.version == model_versions.c.number,
        )
        .correlate(model_versions)
        .exists(),
    )
    .order_by(model_versions.c.sequence)
    .limit(bindparam("most"))
)

CHANGES_OF_KEYS: Final = select(release_changes.c.key_id, release_changes.c.release, release_changes.c.sequence).where(
    release_changes.c.group_id == bindparam("group"),
    release_changes.c.key_id.in_(bindparam("key_ids", expanding=True)),
)

DROP_VERSIONS: Final = delete(model_versions).where(
    model_versions.c.group_id == bindparam("group"),
    model_versions.c.sequence.in_(bindparam("sequences", expanding=True)),
)

DROP_TAGS: Final = delete(version_tags).where(
    version_tags.c.group_id == bindparam("group"),
    version_tags.c.sequence.in_(bindparam("sequences", expanding=True)),
)

_older: Final = release_changes.alias("older")

# A change whose version is gone still ends the time of an older version that is not: then it stays, for the history.
DROP_CHANGES: Final = delete(release_changes).where(
    release_changes.c.group_id == bindparam("group"),
    release_changes.c.key_id.in_(bindparam("key_ids", expanding=True)),
    ~select(model_versions.c.sequence)
    .where(
        model_versions.c.group_id == release_changes.c.group_id,
        model_versions.c.sequence == release_changes.c.sequence,
    )
    .correlate(release_changes)
    .exists(),
    ~select(model_versions.c.sequence)
    .join(
        _older,
        (_older.c.group_id == model_versions.c.group_id) & (_older.c.sequence == model_versions.c.sequence),
    )
    .where(
        _older.c.group_id == release_changes.c.group_id,
        _older.c.key_id == release_changes.c.key_id,
        _older.c.release < release_changes.c.release,
    )
    .correlate(release_changes)
    .exists(),
)

_LIVING: Final = select(groups.c.id).where(groups.c.name.is_not(None))

NAMED_DIGESTS: Final = union(
    select(model_versions.c.bundle).where(model_versions.c.bundle.is_not(None), model_versions.c.group_id.in_(_LIVING)),
    select(import_rows.c.bundle).where(import_rows.c.group_id.in_(_LIVING)),
    select(releases.c.manifest).where(
        releases.c.manifest.is_not(None), releases.c.state != "retired", releases.c.group_id.in_(_LIVING)
    ),
)

BUNDLE_USES: Final = union_all(
    select(model_versions.c.bundle, func.count().label("uses"))
    .where(model_versions.c.bundle.is_not(None), model_versions.c.group_id.in_(_LIVING))
    .group_by(model_versions.c.bundle),
    select(import_rows.c.bundle, func.count().label("uses"))
    .where(import_rows.c.group_id.in_(_LIVING))
    .group_by(import_rows.c.bundle),
)

OPEN_SOURCES: Final = select(imports.c.source).where(
    imports.c.state.in_(("queued", "proving", "publishing")), imports.c.group_id.in_(_LIVING)
)

OPEN_TASKS: Final = select(tasks.c.payload).where(tasks.c.kind == "prove", tasks.c.state.in_(("queued", "running")))

DELETED_GROUP: Final = select(groups.c.id).where(groups.c.name.is_(None)).order_by(groups.c.id).limit(1)

DROP_GROUP: Final = delete(groups).where(groups.c.id == bindparam("group"))

OF_GROUP: Final = tuple(table for table in reversed(metadata.sorted_tables) if "group_id" in table.c)


def drop_some(table: Table) -> Delete:
    """Delete at most `most` rows of a group."""
    key = list(table.primary_key)
    some: Select[Any] = select(*key).where(table.c.group_id == bindparam("group")).limit(bindparam("most"))
    return delete(table).where(tuple_(*key).in_(some))
