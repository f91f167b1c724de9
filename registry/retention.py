"""Retention: which releases are kept, which versions they need, and what the artifact store may forget.

The registry only says what is named; sweeping the objects that nothing names is the builder's work. Everything here
goes bit by bit, so that no transaction keeps other writers waiting.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

import orjson
from sqlalchemy import Connection

from registry import retention_queries as queries
from registry.groups import find_group, lock_group
from registry.records import Group
from registry.withdrawal import chain_of, read_bases

KEPT_RELEASES: Final = 10


@dataclass(frozen=True, slots=True)
class Superseded:
    """Versions that nothing needs: sequence numbers, identities of their keys, a bundle for each that is no tombstone.

    `after` is the sequence number to go on after; None when all were looked at.
    """

    sequences: tuple[int, ...]
    key_ids: frozenset[bytes]
    bundles: tuple[str, ...]
    after: int | None


@dataclass(frozen=True, slots=True)
class Dropped:
    """How many versions one step dropped, and the sequence number to go on after; None when all were looked at."""

    versions: int
    after: int | None


def kept_releases(conn: Connection, group: Group | str, last: int = KEPT_RELEASES) -> list[int]:
    """The releases whose contents stay, ascending: the last ones built, and all that is live, wanted or in work."""
    group = find_group(conn, group)
    built = conn.execute(queries.LAST_BUILT, {"group": group.id, "most": last}).scalars()
    used = conn.execute(queries.IN_USE, {"group": group.id}).scalars()
    return sorted(set(built) | set(used))


def retire_releases(conn: Connection, group: Group | str, numbers: Collection[int]) -> int:
    """Give up the contents of releases, but for those that are kept; answers how many were given up."""
    group = find_group(conn, group)
    lock_group(conn, group)
    retiring = sorted(set(numbers) - set(kept_releases(conn, group)))
    return conn.execute(queries.RETIRE, {"of_group": group.id, "numbers": retiring}).rowcount


def superseded(
    conn: Connection,
    group: Group | str,
    keep: AbstractSet[tuple[bytes, int]] = frozenset(),
    *,
    after: int = 0,
    limit: int = 2000,
) -> Superseded:
    """Look at the next `limit` versions that are not their key's newest, and say which no kept release holds.

    Versions under a `pin`, those in `keep` (identity and number) and those newer than what the oldest kept release
    took notice of stay.
    """
    group = find_group(conn, group)
    kept = kept_releases(conn, group)
    through = conn.execute(queries.THROUGH, {"group": group.id, "numbers": kept}).scalar_one() or 0
    values = {"group": group.id, "after": after, "through": through, "most": limit}
    found = conn.execute(queries.SUPERSEDED, values).all()
    held = _held(conn, group, kept, sorted({row.key_id for row in found}))
    doomed = [row for row in found if row.sequence not in held and (row.key_id, row.number) not in keep]
    return Superseded(
        sequences=tuple(row.sequence for row in doomed),
        key_ids=frozenset(row.key_id for row in doomed),
        bundles=tuple(row.bundle for row in doomed if row.bundle is not None),
        after=found[-1].sequence if len(found) == limit else None,
    )


def drop_versions(
    conn: Connection,
    group: Group | str,
    keep: AbstractSet[tuple[bytes, int]] = frozenset(),
    *,
    after: int = 0,
    limit: int = 2000,
) -> Dropped:
    """Drop what `superseded` says; with a version go its tags and its part in the history."""
    group = find_group(conn, group)
    lock_group(conn, group)
    found = superseded(conn, group, keep, after=after, limit=limit)
    if found.sequences:
        sequences = {"group": group.id, "sequences": found.sequences}
        conn.execute(queries.DROP_TAGS, sequences)
        conn.execute(queries.DROP_VERSIONS, sequences)
        conn.execute(queries.DROP_CHANGES, {"group": group.id, "key_ids": sorted(found.key_ids)})
    return Dropped(len(found.sequences), found.after)


def _held(conn: Connection, group: Group, kept: Sequence[int], key_ids: Sequence[bytes]) -> set[int]:
    """The sequence numbers that the kept releases hold of some keys."""
    bases = read_bases(conn, group.id)
    chains = [frozenset(chain_of(bases, number)) for number in kept]
    changes: dict[bytes, dict[int, int]] = {}
    for row in conn.execute(queries.CHANGES_OF_KEYS, {"group": group.id, "key_ids": key_ids}).all():
        changes.setdefault(row.key_id, {})[row.release] = row.sequence
    return {sequence for of_key in changes.values() for sequence in held_sequences(of_key, chains)}


def held_sequences(changes: Mapping[int, int], chains: Iterable[frozenset[int]]) -> set[int]:
    """What releases, given by their chains of bases, hold of one key, given what each release changed it to."""
    newest = (max((number for number in changes if number in chain), default=None) for chain in chains)
    return {changes[number] for number in newest if number is not None}


def named_digests(conn: Connection) -> set[str]:
    """The objects that rows name: bundles of versions and of rows being imported, manifests of releases not retired."""
    return set(conn.execute(queries.NAMED_DIGESTS).scalars())


def bundle_uses(conn: Connection) -> dict[str, int]:
    """Every bundle that rows name, and how many of them do: versions and rows being imported."""
    uses: dict[str, int] = {}
    for row in conn.execute(queries.BUNDLE_USES):
        uses[row.bundle] = uses.get(row.bundle, 0) + row.uses
    return uses


def staged_in_use(conn: Connection) -> set[str]:
    """The staged uploads that an import or a task still needs."""
    sources = set(conn.execute(queries.OPEN_SOURCES).scalars())
    payloads = (orjson.loads(text) for text in conn.execute(queries.OPEN_TASKS).scalars())
    return sources | {payload["staged"] for payload in payloads if "staged" in payload}


def purge_groups(conn: Connection, limit: int = 20_000) -> bool:
    """Delete about `limit` rows that deleted groups left behind; whether there are more."""
    group_id = conn.execute(queries.DELETED_GROUP).scalar_one_or_none()
    if group_id is None:
        return False
    for table in queries.OF_GROUP:
        limit -= conn.execute(queries.drop_some(table), {"group": group_id, "most": limit}).rowcount
        if limit <= 0:
            return True
    conn.execute(queries.DROP_GROUP, {"group": group_id})
    return conn.execute(queries.DELETED_GROUP).first() is not None
