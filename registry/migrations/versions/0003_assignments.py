"""How many seats of which pool hold each shard of a group, and which seats do."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("groups", sa.Column("replicas", sa.Integer(), nullable=False, server_default="2"))
    op.add_column("groups", sa.Column("pool", sa.Text(), nullable=False, server_default="default"))
    op.create_table(
        "assignments",
        sa.Column("pool", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("pool", name="pk_assignments"),
    )
