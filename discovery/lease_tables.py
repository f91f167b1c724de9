"""The tables of the leases' own database.

Leases live apart from the registry so that a long import cannot starve a renewal, and so that renewals never wait for
what must be durable. Nothing here outlives its members, hence no migrations: tables are created where they are missing.
"""

from typing import Final
from uuid import uuid4

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    bindparam,
    delete,
    insert,
    select,
    update,
)

from registry.database import Database
from registry.tables import ordered_text

metadata: Final = MetaData()

# One row: `changes` counts joins, leaves and changes of state, all that a reader's picture of the members shows.
house: Final = Table(
    "house",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("epoch", Text, nullable=False),
    Column("changes", BigInteger, nullable=False),
)

# `counter` makes progress with every renewal; `state` is what the member says of itself (alive, draining).
leases: Final = Table(
    "leases",
    metadata,
    Column("id", ordered_text(), primary_key=True),
    Column("counter", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("uri", Text, nullable=False),
    Column("services", Text, nullable=False),
    Column("metadata", Text, nullable=False),
    Column("stats", LargeBinary, nullable=False),
)

prepared_releases: Final = Table(
    "prepared",
    metadata,
    Column("member_id", Text, ForeignKey("leases.id", ondelete="CASCADE"), primary_key=True),
    Column("group_name", Text, primary_key=True),
    Column("release", Integer, primary_key=True),
    Index("ix_prepared_release", "group_name", "release"),
)


# Statements are built once: composing them costs more than running them.
CHANGES: Final = select(house.c.epoch, house.c.changes)
LOOK: Final = select(
    leases.c.id, leases.c.counter, leases.c.state, leases.c.uri, leases.c.services, leases.c.metadata
).order_by(leases.c.id)
STATS: Final = select(leases.c.id, leases.c.stats).order_by(leases.c.id)
PREPARED: Final = select(prepared_releases.c.member_id).where(
    prepared_releases.c.group_name == bindparam("b_group"), prepared_releases.c.release == bindparam("b_release")
)
BUMP: Final = update(house).values(changes=house.c.changes + bindparam("b_by")).returning(house.c.changes)
RENEW: Final = (
    update(leases)
    .where(leases.c.id == bindparam("b_id"))
    .values(counter=leases.c.counter + 1, state=bindparam("b_state"), stats=bindparam("b_stats"))
)
DROP: Final = delete(leases).where(leases.c.id == bindparam("b_id"))
DROP_STILL: Final = DROP.where(leases.c.counter == bindparam("b_counter"))


def create_tables(database: Database) -> None:
    """Create what is missing, in one write transaction, so that two processes may do so at once."""
    with database.write() as connection:
        metadata.create_all(connection)
        if connection.execute(select(house.c.id)).first() is None:
            connection.execute(insert(house).values(id=1, epoch=uuid4().hex[:8], changes=0))
