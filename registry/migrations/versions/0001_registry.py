"""Groups, versions, releases, deployments, holds, tasks and imports."""

import secrets
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.schema import SchemaItem

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _text(name: str, *, null: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.Text(), nullable=null)


def _ordered(name: str, *, null: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=null)


def _int(name: str, *, null: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.Integer(), nullable=null)


def _big(name: str, *, null: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger(), nullable=null)


def _time(name: str, *, null: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.Double(), nullable=null)


def _key_id() -> sa.Column[Any]:
    return sa.Column("key_id", sa.LargeBinary(16), nullable=False)


def _table(name: str, *columns: SchemaItem, key: tuple[str, ...], rowid: bool = True) -> None:
    """A table whose rows belong to a group; without a rowid its rows lie in the order of `key`."""
    options = {} if rowid else {"sqlite_with_rowid": False}
    op.create_table(
        name,
        _int("group_id"),
        *columns,
        sa.PrimaryKeyConstraint(*key, name=f"pk_{name}"),
        sa.ForeignKeyConstraint(["group_id"], ["groups.id"], name=f"fk_{name}_group_id"),
        **options,
    )


def _index(table: str, *columns: str, unique: bool = False) -> None:
    op.create_index(f"ix_{table}_{'_'.join(columns)}", table, list(columns), unique=unique)


def upgrade() -> None:
    _create_groups()
    _create_versions()
    _create_releases()
    _create_deployments()
    _create_tasks()
    _create_imports()


def _create_groups() -> None:
    revision_table = op.create_table(
        "revision",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        _text("epoch"),
        _big("number"),
        sa.PrimaryKeyConstraint("id", name="pk_revision"),
    )
    op.bulk_insert(revision_table, [{"id": 1, "epoch": secrets.token_hex(4), "number": 0}])
    op.create_table(
        "groups",
        _int("id"),
        _ordered("name", null=True),
        _text("definition"),
        sa.Column("auto_release", sa.Boolean(), nullable=False),
        sa.Column("suspended", sa.Boolean(), nullable=False),
        _time("created"),
        *(_big("sequence"), _big("models"), _int("releases"), _int("imports"), _big("moves")),
        sa.PrimaryKeyConstraint("id", name="pk_groups"),
        sa.UniqueConstraint("name", name="uq_groups_name"),
        sqlite_autoincrement=True,
    )


def _create_versions() -> None:
    _table(
        "heads",
        *(_key_id(), _ordered("key"), _int("slot"), _int("number"), _big("sequence"), _text("digest", null=True)),
        key=("group_id", "key_id"),
        rowid=False,
    )
    _index("heads", "group_id", "key", unique=True)
    _table(
        "model_versions",
        *(_big("sequence"), _key_id(), _int("number"), _text("digest", null=True), _text("runtime", null=True)),
        *(_big("size"), _big("heap"), _text("bundle", null=True), _big("offset"), _big("length")),
        *(_text("meta"), _time("created")),
        sa.UniqueConstraint("group_id", "key_id", "number", name="uq_model_versions_group_id_key_id_number"),
        key=("group_id", "sequence"),
    )
    _table(
        "version_tags",
        *(_ordered("name"), _ordered("value"), _ordered("key"), _big("sequence")),
        key=("group_id", "name", "value", "key", "sequence"),
        rowid=False,
    )
    _index("version_tags", "group_id", "sequence")


def _create_releases() -> None:
    _table(
        "releases",
        *(_int("number"), _text("state"), _int("base", null=True), _big("through"), _big("seen")),
        *(_big("abandoned"), _big("restored"), _text("manifest", null=True), _big("models"), _big("size")),
        *(_text("gates"), _text("report"), _time("created"), _time("ready", null=True)),
        key=("group_id", "number"),
        rowid=False,
    )
    _table(
        "release_changes",
        *(_int("release"), _int("slot"), _key_id(), _big("sequence")),
        key=("group_id", "release", "slot", "key_id"),
        rowid=False,
    )
    _index("release_changes", "group_id", "key_id", "release", "sequence")


def _create_deployments() -> None:
    _table(
        "deployments",
        *(_ordered("name"), _int("release"), _int("traffic"), _time("promoted")),
        key=("group_id", "name"),
    )
    _table(
        "deployment_history",
        *(_int("id"), _text("name"), _int("release"), _int("traffic"), _text("kind"), _text("author")),
        *(_time("started"), _time("ended", null=True)),
        key=("id",),
    )
    _index("deployment_history", "group_id", "id")
    _table("wanted", _int("release"), _time("until"), key=("group_id", "release"))
    _table(
        "holds",
        *(_key_id(), _ordered("key"), _int("slot"), _text("action"), _int("version", null=True)),
        *(_text("reason"), _text("author"), _time("created"), _time("until", null=True)),
        key=("group_id", "key_id"),
    )


def _create_tasks() -> None:
    op.create_table(
        "tasks",
        *(_int("id"), _int("group_id"), _text("kind"), _text("group"), _text("payload"), _text("state")),
        *(_text("claimant", null=True), _int("fence"), _time("claimed", null=True), _text("result", null=True)),
        *(_time("created"), _time("finished", null=True)),
        sa.PrimaryKeyConstraint("id", name="pk_tasks"),
        sa.ForeignKeyConstraint(["group_id"], ["groups.id"], name="fk_tasks_group_id"),
        sqlite_autoincrement=True,
    )
    _index("tasks", "state", "kind", "id")


def _create_imports() -> None:
    _table(
        "imports",
        *(_int("number"), _text("state"), _text("on_error"), _text("source"), _text("digest")),
        *(_text("runtime", null=True), _big("rows"), _big("proved"), _big("registered"), _big("unchanged")),
        *(_big("rejected"), _big("waiting"), _int("release", null=True), _text("error", null=True)),
        *(_time("created"), _time("finished", null=True)),
        key=("group_id", "number"),
    )
    _table(
        "import_rows",
        *(_int("import"), _big("row"), _text("key"), _text("digest"), _text("runtime"), _big("size"), _big("heap")),
        *(_text("bundle"), _big("offset"), _big("length"), _text("meta")),
        key=("group_id", "import", "row"),
    )
    _table(
        "import_rejects",
        *(_int("import"), _big("row"), _text("key", null=True), _text("code"), _text("detail")),
        _text("field", null=True),
        key=("group_id", "import", "row"),
    )
