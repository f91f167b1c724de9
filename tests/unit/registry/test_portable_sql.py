"""PostgreSQL is to follow SQLite: every named statement and table must at least be sayable in its SQL."""

import pytest
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable
from sqlalchemy.sql import ClauseElement

from registry import import_queries, queries, release_queries, retention_queries, task_queries
from registry.tables import metadata

MODULES = (queries, release_queries, import_queries, retention_queries, task_queries)
STATEMENTS = [
    pytest.param(value, id=f"{module.__name__}.{name}")
    for module in MODULES
    for name, value in vars(module).items()
    if name.isupper() and not name.startswith("_") and isinstance(value, ClauseElement)
]


@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_statement_is_sayable_in_postgresql(statement):
    text = str(statement.compile(dialect=postgresql.dialect()))
    assert text


def test_there_are_statements_to_check():
    assert len(STATEMENTS) > 60


def test_a_listing_is_sayable_in_postgresql():
    statement = queries.heads_page(["store=1"], "store=1", {"region": "nw"}, "store=1/brand=a", 10)
    assert "LIKE" not in str(statement.compile(dialect=postgresql.dialect()))


@pytest.mark.parametrize("name", sorted(metadata.tables))
def test_a_table_is_sayable_in_postgresql(name):
    table = metadata.tables[name]
    assert str(CreateTable(table).compile(dialect=postgresql.dialect()))
    for index in table.indexes:
        assert str(CreateIndex(index).compile(dialect=postgresql.dialect()))
