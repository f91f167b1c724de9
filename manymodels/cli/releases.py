"""Commands about what is live: build a release, promote, roll back, hold single keys."""

from getpass import getuser
from typing import Annotated, Any

import typer

from manymodels.cli.arguments import GROUP, KEY, read_key, read_named_version
from manymodels.cli.output import size_text, table
from manymodels.cli.session import session_of
from manymodels.records import Deployments, Hold, Release

_COUNTS = ("added", "changed", "carried", "lost", "stale", "failed")


def release(
    context: typer.Context,
    group: GROUP,
    base: Annotated[int | None, typer.Option("--base", help="Release to build on instead of the live one.")] = None,
    named: Annotated[
        list[str] | None,
        typer.Option("--set", help="Exactly this version, e.g. store=2/brand=tropicana@3. Repeatable."),
    ] = None,
    max_lost: Annotated[int | None, typer.Option(help="Block it if more keys lose their model.", min=0)] = None,
    max_failed: Annotated[int | None, typer.Option(help="Block it if more models cannot be read.", min=0)] = None,
    max_stale_days: Annotated[
        int | None, typer.Option(help="Block it if training data of any model is older.", min=0)
    ] = None,
    wait: Annotated[bool, typer.Option(help="Wait until it is built.")] = True,
    promote_it: Annotated[bool, typer.Option("--promote", help="Make it live once it is ready.")] = False,
) -> None:
    """Build a release of the live one plus everything newer. It answers nobody before `promote`."""
    given = {"max_lost": max_lost, "max_failed": max_failed, "max_stale_days": max_stale_days}
    session = session_of(context)
    with session.client() as client:
        made = client.release(
            group,
            base=base,
            set=None if named is None else [read_named_version(text) for text in named],
            gates={name: value for name, value in given.items() if value is not None},
            wait=wait or promote_it,
        )
        if promote_it:
            client.promote(group, made.number)
    session.show(made, lambda one: releases_view([one]))
    if promote_it:
        session.say(f"release {made.number} is live")
    elif made.state == "ready":
        session.say(f"make it live with `manymodels promote {group} {made.number}`")


def releases(context: typer.Context, group: GROUP) -> None:
    """List the releases of a group, newest first."""
    session = session_of(context)
    with session.client() as client:
        session.show(client.releases(group), releases_view)


def promote(
    context: typer.Context,
    group: GROUP,
    number: Annotated[int | None, typer.Argument(help="The release; by default the newest ready one.")] = None,
) -> None:
    """Make a release live, without a lost or mixed answer."""
    session = session_of(context)
    with session.client() as client:
        session.show(client.promote(group, number), flip_text)


def rollback(
    context: typer.Context,
    group: GROUP,
    to: Annotated[
        int | None, typer.Option("--to", help="The release to go back to; by default the one the live one replaced.")
    ] = None,
) -> None:
    """Go back to an earlier release; what came with the abandoned one stays away until it is named again."""
    session = session_of(context)
    with session.client() as client:
        session.show(client.rollback(group, to), flip_text)


def hold(
    context: typer.Context,
    group: GROUP,
    action: Annotated[str, typer.Argument(help="disable (falls back), pin (stays at a version) or freeze.")],
    key: KEY,
    reason: Annotated[str, typer.Option("--reason", help="Why; others will read it.")],
    version: Annotated[int | None, typer.Option("--version", help="The version to pin.", min=1)] = None,
    until: Annotated[str | None, typer.Option("--until", help="Date or time it ends by itself.")] = None,
    author: Annotated[str | None, typer.Option("--author", help="Who; by default the user of this shell.")] = None,
) -> None:
    """Put a hold on one key: switch its model off, pin it to a version, or freeze it."""
    if action not in ("disable", "pin", "freeze"):
        raise typer.BadParameter(f"a hold is disable, pin or freeze, got {action!r}")
    if (action == "pin") != (version is not None):
        raise typer.BadParameter("--version goes with pin, and pin needs it")
    session = session_of(context)
    with session.client() as client:
        made = client.hold(
            group,
            read_key(key),
            action,
            reason=reason,
            version=version,
            until=until,
            author=_user() if author is None else author,
        )
    session.show(made, lambda one: holds_view([one]))


def unhold(context: typer.Context, group: GROUP, key: KEY) -> None:
    """Take the hold off one key."""
    session = session_of(context)
    with session.client() as client:
        client.unhold(group, read_key(key))
    session.say("the hold is off")


def holds(context: typer.Context, group: GROUP) -> None:
    """List the holds that stand in a group."""
    session = session_of(context)
    with session.client() as client:
        session.show(client.holds(group), holds_view)


def releases_view(records: list[Release]) -> Any:
    """Releases as a table, with what their reports count."""
    return table(
        "",
        ["release", "state", "base", "models", "size", *_COUNTS],
        [
            [each.number, each.state, each.base, each.models, size_text(each.bytes)]
            + [each.report.get(name) for name in _COUNTS]
            for each in records
        ],
    )


def holds_view(records: list[Hold]) -> Any:
    """Holds as a table."""
    return table(
        "",
        ["key", "hold", "version", "reason", "author", "until"],
        [
            [
                each.key or "(whole group)",
                each.action,
                each.version,
                each.reason,
                each.author,
                each.until and f"{each.until:%Y-%m-%d %H:%M}",
            ]
            for each in records
        ],
    )


def flip_text(done: Deployments) -> str:
    """What a promotion or rollback did."""
    if done.kind == "same":
        return f"release {done.live} was live already"
    if done.kind == "rollback":
        return (
            f"release {done.live} is live again; {done.withdrawn} versions of the abandoned release are withdrawn, "
            "and registrations wait for the next promote"
        )
    return f"release {done.live} is live"


def _user() -> str:
    try:
        return getuser()
    except (KeyError, OSError):
        return ""  # a container whose user has no name
