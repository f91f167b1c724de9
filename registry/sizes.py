"""How much a release will take in, asked before it is built."""

from typing import Final

from sqlalchemy import Connection, and_, bindparam, case, func, select

from registry.groups import find_group
from registry.records import Group
from registry.tables import model_versions, release_changes

_IN_SEGMENT: Final = case((model_versions.c.pack_size > 0, model_versions.c.pack_size), else_=model_versions.c.length)

INCOMING_BYTES: Final = (
    select(func.coalesce(func.sum(_IN_SEGMENT), 0))
    .select_from(release_changes)
    .join(
        model_versions,
        and_(
            model_versions.c.group_id == release_changes.c.group_id,
            model_versions.c.sequence == release_changes.c.sequence,
        ),
    )
    .where(
        release_changes.c.group_id == bindparam("group"),
        release_changes.c.release == bindparam("release"),
        model_versions.c.size <= bindparam("largest"),
    )
)


def incoming_bytes(conn: Connection, group: Group | str, number: int, *, largest: int) -> int:
    """Bytes that a release's changes take in segments, packed or compressed; artifacts over `largest` are in none."""
    found = conn.execute(
        INCOMING_BYTES, {"group": find_group(conn, group).id, "release": number, "largest": largest}
    ).scalar_one()
    return int(found)
