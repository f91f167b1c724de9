"""Commands that run a service: `serve` a whole house, or one part of a cluster; and `status`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from manymodels.cli.output import age_text, console, print_json, size_text, table
from manymodels.cli.session import needing_server, session_of
from manymodels.state import CacheStatus, GroupStatus, PacksStatus, Seated, Status

if TYPE_CHECKING:
    from gateway.roles import Role

DEFAULT_HOME = Path("manymodels-home")


LOOPBACK = "127.0.0.1"

Host = Annotated[str, typer.Option("--host", help="Address to listen on.")]
Port = Annotated[int, typer.Option("--port", help="Port to listen on; 0 takes a free one.", min=0, max=65535)]
Processes = Annotated[int, typer.Option("--processes", help="Serving processes, all on one port.", min=1)]


def serve(context: typer.Context, host: Host = LOOPBACK, port: Port = 8080, processes: Processes = 1) -> None:
    """Serve everything in --home DIR (default manymodels-home, created when missing) until Ctrl-C."""
    with needing_server("serve"):
        from gateway.roles import SERVE
    _run(context, SERVE, DEFAULT_HOME, "{home} is served at {url}, its docs at {url}/docs", host, port, processes)


def gateway(context: typer.Context, host: Host = LOOPBACK, port: Port = 8080, processes: Processes = 1) -> None:
    """Answer clients of a cluster and ask its workers, until Ctrl-C.

    It needs the registry and the artifacts that the cluster shares (MANYMODELS_REGISTRY, MANYMODELS_ARTIFACTS) and
    holds no models itself; --home DIR (default manymodels-gateway) keeps its last picture of the cluster.
    """
    with needing_server("gateway"):
        from gateway.roles import GATEWAY_ROLE
    said = "a gateway answers at {url}, its docs at {url}/docs"
    _run(context, GATEWAY_ROLE, Path("manymodels-gateway"), said, host, port, processes)


def worker(context: typer.Context, host: Host = LOOPBACK, port: Port = 8081, processes: Processes = 1) -> None:
    """Hold models of a cluster and answer its gateways, until Ctrl-C.

    It needs the registry and the artifacts that the cluster shares (MANYMODELS_REGISTRY, MANYMODELS_ARTIFACTS);
    --home DIR (default manymodels-worker) keeps copies of what it fetched.
    """
    with needing_server("worker"):
        from gateway.roles import WORKER_ROLE
    _run(context, WORKER_ROLE, Path("manymodels-worker"), "a worker answers at {url}", host, port, processes)


def discovery(context: typer.Context, host: Host = LOOPBACK, port: Port = 8082, processes: Processes = 1) -> None:
    """Tell clients of a cluster where partitions are served, until Ctrl-C.

    It needs the registry and the artifacts that the cluster shares (MANYMODELS_REGISTRY, MANYMODELS_ARTIFACTS).
    """
    with needing_server("discovery"):
        from gateway.roles import DISCOVERY_ROLE
    said = "discovery answers at {url}"
    _run(context, DISCOVERY_ROLE, Path("manymodels-discovery"), said, host, port, processes)


def builder(context: typer.Context) -> None:
    """Prove models and build releases of a cluster, until Ctrl-C.

    It needs the registry and the artifacts that the cluster shares (MANYMODELS_REGISTRY, MANYMODELS_ARTIFACTS).
    """
    with needing_server("builder"):
        from gateway.roles import BUILDER_ROLE
    _run(context, BUILDER_ROLE, Path("manymodels-builder"), "a builder works in {home}", LOOPBACK, 0, 0)


def _run(
    context: typer.Context, role: "Role", default_home: Path, said: str, host: str, port: int, processes: int
) -> None:
    """Run a service; `said` is what is printed once it is ready."""
    from gateway.serving import run_service

    session = session_of(context)
    home = session.home or default_home

    def ready(url: str) -> None:
        if session.json:
            print_json({"url": url, "home": str(home.absolute())} if url else {"home": str(home.absolute())})
        else:
            console().print(f"{said.format(home=home, url=url)}; stop it with Ctrl-C", soft_wrap=True)

    raise typer.Exit(run_service(role, home, host, port, processes, on_ready=ready))


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
        *(f"unreadable in the registry: {name}; the server's log says why" for name in state.unreadable),
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
        f"{group.shards}{seated_text(group.seated)}" if group.seated else group.shards,
        None if newest is None else f"{newest.number} ({newest.state})",
    ]


def seated_text(seated: Seated) -> str:
    """How the seats of a group fare, in a few words."""
    said = [f"{count} {what}" for count, what in ((seated.moving, "moving"), (seated.unserved, "unserved")) if count]
    return f" on {seated.seats} seats" + (f", {', '.join(said)}" if said else "")
