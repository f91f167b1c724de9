"""What the proof said of a model's pack, and how long the pack is."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("model_versions", "import_rows"):
        op.add_column(table, sa.Column("verdict", sa.Text(), nullable=False, server_default="unknown"))
        for name in ("pack_length", "pack_size"):
            op.add_column(table, sa.Column(name, sa.BigInteger(), nullable=False, server_default="0"))
