"""The revision: one row that grows with every change a snapshot shows, so that watchers poll one number."""

from sqlalchemy import Connection

from registry import queries


def read_revision(conn: Connection) -> tuple[str, int]:
    """`(epoch, n)`: the epoch is drawn when the database is created, n grows with content."""
    row = conn.execute(queries.READ_REVISION).one()
    return row.epoch, row.number


def bump(conn: Connection) -> int:
    """Count one change; answers the new n."""
    return int(conn.execute(queries.BUMP_REVISION).scalar_one())
