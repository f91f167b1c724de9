"""`manymodels demo`: a retail history, three fleets trained on it, imported, released, served, and what to try.

With `--once` it checks that every served answer agrees with the native libraries and ends.
"""

import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from manymodels.cli.output import console, print_json, table
from manymodels.cli.progress import bars, import_updates
from manymodels.cli.served import serving
from manymodels.cli.session import Session, needing_server, session_of
from manymodels.client import Client
from manymodels.errors import ManymodelsError, NotFoundError

if TYPE_CHECKING:
    from pandas import DataFrame
    from rich.progress import Progress

    from manymodels.demo.agreement import Agreement
    from manymodels.demo.history import Shelf
    from manymodels.demo.training import Kind, Trained

Fleets = list[tuple["Kind", list["Trained"]]]


class DisagreementError(ManymodelsError):
    """A served answer differs from the native library's."""


def demo(
    context: typer.Context,
    once: Annotated[
        bool, typer.Option("--once", help="On a free port and a temporary home; check all answers, then end.")
    ] = False,
    port: Annotated[int | None, typer.Option("--port", help="Port to serve on; 8080 by default.", max=65535)] = None,
    stores: Annotated[int, typer.Option("--stores", help="Stores in the history, of six brands each.", min=4)] = 42,
) -> None:
    """Train, import, release and serve three fleets on a made-up retail history, then say what to try."""
    session = session_of(context)
    with needing_server("demo", "server,demo"):
        from manymodels.demo.history import Shelf
    shelf = Shelf(stores=stores)
    with _home(session.home) as home, _ending_on_sigterm(), serving(home, _port(port, once=once)) as served:
        started = time.monotonic()
        url = served.url()
        with Client(url) as client:
            fleets = _make_fleets(session, client, shelf, home)
            found = _agreement(session, client, shelf, fleets) if once else []
        seconds = time.monotonic() - started
        if once:
            _conclude(session, found, seconds)
        else:
            _invite(session, url, shelf, fleets, seconds)
            with suppress(KeyboardInterrupt):
                served.wait()


def _port(port: int | None, *, once: bool) -> int:
    return port if port is not None else 0 if once else 8080


def _make_fleets(session: Session, client: Client, shelf: "Shelf", home: Path) -> Fleets:
    """Train fleet after fleet; while one is trained, the one before is imported, released and promoted."""
    with needing_server("demo", "server,demo"):
        from manymodels.demo.history import make_history
        from manymodels.demo.training import KINDS

    history = make_history(shelf)
    session.say(f"a history of {len(history):,} weekly sales, {history['units'].sum():,.0f} units sold")
    with bars(session) as shown, ThreadPoolExecutor(1) as bringing:
        fleets = []
        brought = []
        for kind in KINDS:
            fleet = _train(shown, kind, history)
            fleets.append((kind, fleet))
            brought.append(bringing.submit(_bring_in, shown, client, kind, fleet, home))
        for each in brought:
            each.result()
    return fleets


def _train(shown: "Progress", kind: "Kind", history: "DataFrame") -> list["Trained"]:
    from manymodels.demo.training import fleet_size, train_fleet

    task = shown.add_task(f"training {kind.group}", total=fleet_size(history))
    fleet = []
    for model in train_fleet(kind, history):
        fleet.append(model)
        shown.advance(task)
    return fleet


def _bring_in(shown: "Progress", client: Client, kind: "Kind", fleet: list["Trained"], home: Path) -> None:
    """Write a fleet as Parquet, create its group, import it, and make the release live."""
    from manymodels.demo.parquet import write_fleet
    from manymodels.demo.training import FALLBACK, KEY, SIGNATURE

    path = home / "fleets" / f"{kind.group}.parquet"
    path.parent.mkdir(exist_ok=True)
    write_fleet(path, kind, fleet, datetime.now(UTC))
    try:
        client.group(kind.group)
    except NotFoundError:
        client.create_group(kind.group, KEY, SIGNATURE, fallback=FALLBACK)
    (record,) = client.import_fleet(kind.group, path, progress=import_updates(shown))
    if record.release is not None:
        client.promote(kind.group, record.release)


def _agreement(session: Session, client: Client, shelf: "Shelf", fleets: Fleets) -> list["Agreement"]:
    from manymodels.demo.agreement import WAYS, asked_of, compare
    from manymodels.demo.history import next_weeks, trained_partitions, untrained_partitions

    asked = asked_of(next_weeks(shelf, trained_partitions(shelf) + untrained_partitions(shelf), rows=3))
    found = []
    with bars(session) as shown:
        task = shown.add_task("comparing with the native libraries", total=len(fleets) * len(WAYS))
        for kind, fleet in fleets:
            found += compare(client, kind, fleet, asked, lambda: shown.advance(task))
    return found


def _conclude(session: Session, found: list["Agreement"], seconds: float) -> None:
    """Show how the comparison came out.

    Raises:
        DisagreementError: if any answer differs.
    """
    if session.json:
        print_json({"seconds": seconds, "agreements": found})
    else:
        columns = ["group", "asked by", "answers", "from fallbacks", "largest difference", "wrong"]
        rows = [
            [a.group, a.way, a.rows, a.fallbacks, f"{a.worst:.1e}" if a.worst else "none", len(a.wrong)] for a in found
        ]
        console().print(table("served answers against the native libraries", columns, rows))
    wrong = [f"{each.group}, {each.way}, {line}" for each in found for line in each.wrong]
    if wrong:
        raise DisagreementError("\n".join([f"{len(wrong)} served answers disagree:", *wrong[:10]]))
    session.say(f"all {sum(each.rows for each in found):,} answers agree; the demo took {seconds:.0f} s")


def _invite(session: Session, url: str, shelf: "Shelf", fleets: Fleets, seconds: float) -> None:
    from manymodels.demo.tour import tour

    program = sys.argv[0] if Path(sys.argv[0]).name == "manymodels" else "manymodels"
    models = sum(len(fleet) for _, fleet in fleets)
    steps = tour(url, shelf, program)
    if session.json:
        print_json({"url": url, "seconds": seconds, "models": models, "try": [text for _, text in steps]})
        return
    out = console()
    out.print(f"\n{models:,} models in {len(fleets)} groups are served at {url} after {seconds:.0f} s. Try:\n")
    for heading, text in steps:
        if heading:
            out.print(f"# {heading}", style="dim", soft_wrap=True)
        out.print(f"{text}\n", soft_wrap=True)
    out.print("Ctrl-C stops the server.")


@contextmanager
def _home(given: Path | None) -> Iterator[Path]:
    """The home named on the command line, or a temporary one."""
    if given is not None:
        yield given.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="manymodels-demo-") as folder:
        yield Path(folder)


@contextmanager
def _ending_on_sigterm() -> Iterator[None]:
    """Turn SIGTERM into an orderly end, so that the server and the temporary home do not stay behind."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
