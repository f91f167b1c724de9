"""Commands around a running server: `serve` a home, and `status`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from manymodels.cli.output import age_text, console, print_json, size_text, table
from manymodels.cli.session import needing_server, session_of
from manymodels.state import CacheStatus, GroupStatus, PacksStatus, Status

DEFAULT_HOME = Path("manymodels-home")


def serve(
    context: typer.Context,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", help="Port to listen on; 0 takes a free one.", min=0, max=65535)
    ] = 8080,
    processes: Annotated[int, typer.Option("--processes", help="Serving processes, all on one port.", min=1)] = 1,
) -> None:
    """Serve everything in --home DIR (default manymodels-home, created when missing) until Ctrl-C."""
    session = session_of(context)
    home = session.home or DEFAULT_HOME
    with needing_server("serve"):
        from gateway.serving import serve as serve_home

    def ready(url: str) -> None:
        if session.json:
            print_json({"url": url, "home": str(home.absolute())})
        else:
            console().print(f"{home} is served at {url}, its docs at {url}/docs; stop it with Ctrl-C", soft_wrap=True)

    raise typer.Exit(serve_home(home, host, port, processes, on_ready=ready))


def status(context: typer.Context) -> None:
    """Show each group's live release and its age, lost, stale and held keys, shards, cache and members."""
    session = session_of(context)
    with session.client() as client:
        session.show(client.status(), view)


def view(state: Status) -> Any:
    """The state of a server as tables."""
    from rich.console import Group

    columns = ["group", "live", "age", "models", "size", "lost", "stale", "held", "shards", "newest"]
    members = [[member.id, member.uri, member.state] for member in state.members]
    held = [
        f"held: {group.name} {hold.key or '(whole group)'}: {hold.action}, {hold.reason}"
        for group in state.groups
        for hold in group.held
    ]
    return Group(
        table("groups", columns, [group_row(group) for group in state.groups]),
        table("members", ["member", "address", "state"], members),
        packs_text(state.packs),
        cache_text(state.cache),
        *held,
    )


def cache_text(cache: CacheStatus) -> str:
    """The cache of native models in one line."""
    said = f"native models: {cache.models:,} models, {size_text(cache.bytes)} of {size_text(cache.budget_bytes)}"
    asked = cache.hits + cache.misses
    return f"{said}, {cache.hits / asked:.1%} of {asked:,} hit, {cache.evictions:,} evicted" if asked else said


def packs_text(packs: PacksStatus) -> str:
    """The mapped packs in one line."""
    said = f"packs: {packs.segments:,} segments mapped, {size_text(packs.bytes)} of {size_text(packs.budget_bytes)}"
    return f"{said}, {packs.unmapped:,} unmapped to make room" if packs.unmapped else said


def group_row(group: GroupStatus) -> list[object]:
    """One group's row."""
    live, newest = group.live, group.newest_release
    return [
        group.name,
        None if live is None else live.release,
        None if live is None else age_text(live.age_seconds),
        group.models if live is None else live.models,
        None if live is None else size_text(live.bytes),
        group.lost,
        group.stale,
        len(group.held),
        group.shards,
        None if newest is None else f"{newest.number} ({newest.state})",
    ]
