"""`manymodels gc`: what a home keeps that nothing needs any more, shown or removed."""

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from manymodels.cli.output import size_text, table
from manymodels.cli.session import existing_home, needing_server, session_of

if TYPE_CHECKING:
    from workers.sweep import Sweep


def gc(
    context: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would go.")] = False,
    apply: Annotated[bool, typer.Option("--apply", help="Remove it.")] = False,
) -> None:
    """Sweep a --home: releases past the last ten, versions none of them holds, files nothing names for a day."""
    if dry_run == apply:
        raise typer.BadParameter("say --dry-run to look or --apply to remove")
    session = session_of(context)
    root = existing_home(session)
    with needing_server("gc"):
        from gateway.settings import read_settings
        from registry.artifacts.stores import open_store
        from registry.database import Database, migrate
        from registry.home import Home
        from workers.sweep import apply_sweep, plan_sweep
    home = Home(root.absolute())
    settings = read_settings()
    addresses = settings.addresses(home)
    store = open_store(home, addresses.artifacts, cache_bytes=settings.disk_cache_bytes)
    migrate(addresses.registry)
    database = Database(addresses.registry)
    try:
        sweep = apply_sweep if apply else plan_sweep
        swept = sweep(database, store, now=time.time())
    finally:
        database.close()
    session.show(swept.to_json(), lambda _: view(swept, applied=apply))
    if swept.unreadable:
        session.say(
            f"{len(swept.unreadable)} manifests cannot be read, so nobody knows what they name and no file was removed"
        )


def view(sweep: "Sweep", *, applied: bool) -> Any:
    """A sweep as a table of counts."""
    rows: list[list[object]] = [
        ["releases", sum(len(numbers) for numbers in sweep.retired.values())],
        ["versions", sum(sweep.versions.values())],
        ["files", len(sweep.objects)],
        ["size", size_text(sweep.size)],
        ["uploads left behind", len(sweep.staged)],
    ]
    return table("removed" if applied else "would be removed", ["", ""], [[name, str(count)] for name, count in rows])
