"""The SQL of imports, named."""

from typing import Final

from sqlalchemy import ColumnElement, and_, bindparam, delete, insert, select, update

from registry.tables import groups, import_rejects, import_rows, imports

_THIS: Final[ColumnElement[bool]] = and_(
    imports.c.group_id == bindparam("of_group"), imports.c.number == bindparam("of_import")
)

COUNT_IMPORT: Final = (
    update(groups)
    .where(groups.c.id == bindparam("of_group"))
    .values(imports=groups.c.imports + 1)
    .returning(groups.c.imports)
)

IMPORT: Final = select(imports).where(_THIS)

IMPORTS: Final = select(imports).where(imports.c.group_id == bindparam("of_group")).order_by(imports.c.number.desc())

UNFINISHED_LIKE: Final = (
    select(imports)
    .where(
        imports.c.group_id == bindparam("of_group"),
        imports.c.state.in_(("queued", "proving", "publishing")),
        imports.c.digest == bindparam("digest"),
        imports.c.on_error == bindparam("on_error"),
        imports.c.runtime.is_not_distinct_from(bindparam("runtime")),
    )
    .order_by(imports.c.number)
    .limit(1)
)

INSERT_IMPORT: Final = insert(imports)

NOTE_PROVED: Final = (
    update(imports)
    .where(_THIS)
    .values(
        state="proving",
        rows=bindparam("rows"),
        proved=imports.c.proved + bindparam("more_proved"),
        rejected=imports.c.rejected + bindparam("more_rejected"),
        waiting=imports.c.waiting + bindparam("more_waiting"),
    )
)

NOTE_PUBLISHED: Final = (
    update(imports)
    .where(_THIS)
    .values(
        state="publishing",
        registered=imports.c.registered + bindparam("more_registered"),
        unchanged=imports.c.unchanged + bindparam("more_unchanged"),
        waiting=imports.c.waiting - bindparam("taken"),
    )
)

END_IMPORT: Final = (
    update(imports)
    .where(_THIS)
    .values(
        state=bindparam("state"),
        release=bindparam("release"),
        error=bindparam("error"),
        finished=bindparam("now"),
        waiting=0,
    )
)

INSERT_ROWS: Final = insert(import_rows)

NEXT_ROWS: Final = (
    select(import_rows)
    .where(import_rows.c.group_id == bindparam("of_group"), import_rows.c["import"] == bindparam("of_import"))
    .order_by(import_rows.c.row)
    .limit(bindparam("most"))
)

DROP_ROWS: Final = delete(import_rows).where(
    import_rows.c.group_id == bindparam("of_group"), import_rows.c["import"] == bindparam("of_import")
)

DROP_ROWS_THROUGH: Final = DROP_ROWS.where(import_rows.c.row <= bindparam("last"))

INSERT_REJECTS: Final = insert(import_rejects)

REJECTS: Final = (
    select(import_rejects)
    .where(
        import_rejects.c.group_id == bindparam("of_group"),
        import_rejects.c["import"] == bindparam("of_import"),
        import_rejects.c.row > bindparam("after"),
    )
    .order_by(import_rejects.c.row)
    .limit(bindparam("most"))
)
