"""The registry's tables, keyed so that a million keys a group stay fast.

A key is found by its identity (16 bytes), listed by its canonical text, and a version is known inside its group by its
sequence number, which only grows: whatever is newer than a release is one range of an index. Rows that are written
in bulk are clustered by the key they are read by. Times are seconds since 1970 UTC; JSON is text, so that any
database holds it.
"""

from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.types import TypeEngine

metadata: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def ordered_text() -> TypeEngine[str]:
    """Text that sorts by code point everywhere; SQLite's default already does, PostgreSQL's follows the locale."""
    return Text().with_variant(Text(collation="C"), "postgresql")


def _packing() -> tuple[Column[Any], ...]:
    """What the proof said of the model's pack, whose frame of `pack_length` bytes follows the artifact's."""
    return (
        Column("verdict", Text, nullable=False, server_default="unknown"),
        Column("pack_length", BigInteger, nullable=False, server_default="0"),
        Column("pack_size", BigInteger, nullable=False, server_default="0"),
    )


def _group_id() -> Column[int]:
    return Column("group_id", Integer, ForeignKey("groups.id"), nullable=False)


revision = Table(
    "revision",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("epoch", Text, nullable=False),
    Column("number", BigInteger, nullable=False),
)

# A deleted group keeps its row, nameless, until its other rows are purged: deleting a million models is one update.
groups = Table(
    "groups",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", ordered_text(), nullable=True, unique=True),
    Column("definition", Text, nullable=False),
    Column("auto_release", Boolean, nullable=False),
    Column("suspended", Boolean, nullable=False),
    Column("created", Double, nullable=False),
    # Counters: last sequence number, keys with a model, last release, last import, changes of the deployments.
    Column("sequence", BigInteger, nullable=False),
    Column("models", BigInteger, nullable=False),
    Column("releases", Integer, nullable=False),
    Column("imports", Integer, nullable=False),
    Column("moves", BigInteger, nullable=False),
    # Where its shards are held: by how many seats, of which pool.
    Column("replicas", Integer, nullable=False, server_default="2"),
    Column("pool", Text, nullable=False, server_default="default"),
    sqlite_autoincrement=True,
)

# Which seats hold which shards of a pool's groups; `number` grows with every change.
assignments = Table(
    "assignments",
    metadata,
    Column("pool", Text, primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
)

# The newest version of every key that ever had one; a null digest is a tombstone.
heads = Table(
    "heads",
    metadata,
    _group_id(),
    Column("key_id", LargeBinary(16), nullable=False),
    Column("key", ordered_text(), nullable=False),
    Column("slot", Integer, nullable=False),
    Column("number", Integer, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("digest", Text, nullable=True),
    PrimaryKeyConstraint("group_id", "key_id"),
    Index(None, "group_id", "key", unique=True),
    sqlite_with_rowid=False,
)

model_versions = Table(
    "model_versions",
    metadata,
    _group_id(),
    Column("sequence", BigInteger, nullable=False),
    Column("key_id", LargeBinary(16), nullable=False),
    Column("number", Integer, nullable=False),
    Column("digest", Text, nullable=True),
    Column("runtime", Text, nullable=True),
    Column("size", BigInteger, nullable=False),
    Column("heap", BigInteger, nullable=False),
    Column("bundle", Text, nullable=True),
    Column("offset", BigInteger, nullable=False),
    Column("length", BigInteger, nullable=False),
    *_packing(),
    Column("meta", Text, nullable=False),
    Column("created", Double, nullable=False),
    PrimaryKeyConstraint("group_id", "sequence"),
    UniqueConstraint("group_id", "key_id", "number"),
)

# The tags of every version; a listing joins them to the heads by sequence, so nothing is deleted when a key moves on.
version_tags = Table(
    "version_tags",
    metadata,
    _group_id(),
    Column("name", ordered_text(), nullable=False),
    Column("value", ordered_text(), nullable=False),
    Column("key", ordered_text(), nullable=False),
    Column("sequence", BigInteger, nullable=False),
    PrimaryKeyConstraint("group_id", "name", "value", "key", "sequence"),
    Index(None, "group_id", "sequence"),
    sqlite_with_rowid=False,
)

# `seen` is the group's last sequence number when the release was begun: nothing in it is newer. `abandoned` and
# `restored` are counts of `groups.moves`: see registry.withdrawal.
releases = Table(
    "releases",
    metadata,
    _group_id(),
    Column("number", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("base", Integer, nullable=True),
    Column("through", BigInteger, nullable=False),
    Column("seen", BigInteger, nullable=False),
    Column("abandoned", BigInteger, nullable=False),
    Column("restored", BigInteger, nullable=False),
    Column("manifest", Text, nullable=True),
    Column("models", BigInteger, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("gates", Text, nullable=False),
    Column("report", Text, nullable=False),
    Column("created", Double, nullable=False),
    Column("ready", Double, nullable=True),
    PrimaryKeyConstraint("group_id", "number"),
    sqlite_with_rowid=False,
)

release_changes = Table(
    "release_changes",
    metadata,
    _group_id(),
    Column("release", Integer, nullable=False),
    Column("slot", Integer, nullable=False),
    Column("key_id", LargeBinary(16), nullable=False),
    Column("sequence", BigInteger, nullable=False),
    PrimaryKeyConstraint("group_id", "release", "slot", "key_id"),
    Index(None, "group_id", "key_id", "release", "sequence"),
    sqlite_with_rowid=False,
)

deployments = Table(
    "deployments",
    metadata,
    _group_id(),
    Column("name", ordered_text(), nullable=False),
    Column("release", Integer, nullable=False),
    Column("traffic", Integer, nullable=False),
    Column("promoted", Double, nullable=False),
    PrimaryKeyConstraint("group_id", "name"),
)

deployment_history = Table(
    "deployment_history",
    metadata,
    Column("id", Integer, primary_key=True),
    _group_id(),
    Column("name", Text, nullable=False),
    Column("release", Integer, nullable=False),
    Column("traffic", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("author", Text, nullable=False),
    Column("started", Double, nullable=False),
    Column("ended", Double, nullable=True),
    Index(None, "group_id", "id"),
)

wanted = Table(
    "wanted",
    metadata,
    _group_id(),
    Column("release", Integer, nullable=False),
    Column("until", Double, nullable=False),
    PrimaryKeyConstraint("group_id", "release"),
)

holds = Table(
    "holds",
    metadata,
    _group_id(),
    Column("key_id", LargeBinary(16), nullable=False),
    Column("key", ordered_text(), nullable=False),
    Column("slot", Integer, nullable=False),
    Column("action", Text, nullable=False),
    Column("version", Integer, nullable=True),
    Column("reason", Text, nullable=False),
    Column("author", Text, nullable=False),
    Column("created", Double, nullable=False),
    Column("until", Double, nullable=True),
    PrimaryKeyConstraint("group_id", "key_id"),
)

tasks = Table(
    "tasks",
    metadata,
    Column("id", Integer, primary_key=True),
    _group_id(),
    Column("kind", Text, nullable=False),
    Column("group", Text, nullable=False),
    Column("payload", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("claimant", Text, nullable=True),
    Column("fence", Integer, nullable=False),
    Column("claimed", Double, nullable=True),
    Column("result", Text, nullable=True),
    Column("created", Double, nullable=False),
    Column("finished", Double, nullable=True),
    Index(None, "state", "kind", "id"),
    sqlite_autoincrement=True,
)

# `waiting` counts the import's rows in `import_rows`.
imports = Table(
    "imports",
    metadata,
    _group_id(),
    Column("number", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("on_error", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("runtime", Text, nullable=True),
    Column("rows", BigInteger, nullable=False),
    Column("proved", BigInteger, nullable=False),
    Column("registered", BigInteger, nullable=False),
    Column("unchanged", BigInteger, nullable=False),
    Column("rejected", BigInteger, nullable=False),
    Column("waiting", BigInteger, nullable=False),
    Column("release", Integer, nullable=True),
    Column("error", Text, nullable=True),
    Column("created", Double, nullable=False),
    Column("finished", Double, nullable=True),
    PrimaryKeyConstraint("group_id", "number"),
)

# Proved rows of an import that are not versions yet; publishing moves them.
import_rows = Table(
    "import_rows",
    metadata,
    _group_id(),
    Column("import", Integer, nullable=False),
    Column("row", BigInteger, nullable=False),
    Column("key", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("runtime", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("heap", BigInteger, nullable=False),
    Column("bundle", Text, nullable=False),
    Column("offset", BigInteger, nullable=False),
    Column("length", BigInteger, nullable=False),
    *_packing(),
    Column("meta", Text, nullable=False),
    PrimaryKeyConstraint("group_id", "import", "row"),
)

import_rejects = Table(
    "import_rejects",
    metadata,
    _group_id(),
    Column("import", Integer, nullable=False),
    Column("row", BigInteger, nullable=False),
    Column("key", Text, nullable=True),
    Column("code", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("field", Text, nullable=True),
    PrimaryKeyConstraint("group_id", "import", "row"),
)
