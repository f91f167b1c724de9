"""Operations on an offline home, each in a process of its own that can be made to die at a failpoint.

Processes are forked from a server that has everything loaded, and armed before they do anything.
"""

import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from registry import failpoints
from tests.support.constant import ROW, SIGNATURE, constant, fleet_file
from tests.support.waiting import until

if TYPE_CHECKING:
    from manymodels import Client

# Four groups: `auto` releases by itself; of `hand` release 2 is live, 3 is ready, and there is something newer; `many`
# has a release and a version too many; `gone` is deleted.
AUTO, HAND, MANY, GONE = "auto", "hand", "many", "gone"
RELEASED, LIVE, READY = 1, 2, 3

_DAYS: Final = 2 * 24 * 3600.0  # gc that runs so much later finds everything old enough
_PROCESSES: Final = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(
    [
        "alembic.command",
        "gateway.house",
        "manymodels.cli.session",
        "pyarrow.parquet",
        "sqlalchemy.dialects.sqlite",
        "workers.packed",
        "workers.runtimes.lightgbm",
    ]
)


def prepare() -> None:
    """A proof's child imports the one library that it meets, when it meets it."""


@contextmanager
def offline(home: Path, **changes: Any) -> "Iterator[Client]":
    """A client of the application over a home, in this process; leases are short, and imports take many steps; `changes` are settings."""
    from gateway.building import builder_settings
    from gateway.house import open_house
    from gateway.settings import Settings
    from manymodels import Client
    from manymodels.cli.session import HouseTransport

    def building(settings: Settings):
        steps = {"batch_rows": 1, "checkpoint_rows": 2, "publish_rows": 2}
        nothing = f"{__name__}:prepare"
        return replace(builder_settings(settings), prepare=nothing, prepare_rows=nothing, **steps)

    def settings() -> Settings:
        return Settings(**{"lease_seconds": 0.3, "builder_children": 1} | changes)

    with open_house(home, settings=settings, building=building) as house, Client(HouseTransport(house)) as client:
        yield client


def models(start: int, stores: range) -> dict[str, bytes]:
    """For each store a model that answers `start` plus the store."""
    return {f"store={store}/brand=a": constant(start + store) for store in stores}


def build_template(home: Path) -> None:
    """The home that every operation starts from."""
    with offline(home) as client:
        for group in (AUTO, HAND, MANY, GONE):
            client.create_group(
                group, key=["store", "brand"], signature=SIGNATURE, fallback=[["brand"]], auto_release=group == AUTO
            )
        _import(client, home, AUTO, models(1000, range(1, 5)) | {"brand=a": constant(1900)})
        _import(client, home, GONE, models(9000, range(1, 3)))
        client.promote(GONE, client.release(GONE).number)
        for start, stores in ((2000, range(1, 4)), (2100, range(3, 5)), (2200, range(2, 3))):
            _import(client, home, HAND, models(start, stores))
            if client.release(HAND).number <= LIVE:
                client.promote(HAND)
        _import(client, home, HAND, models(2300, range(1, 2)))
        for start in (3000, 3100):
            _import(client, home, MANY, models(start, range(1, 3)))
            client.promote(MANY, client.release(MANY).number)
        for _ in range(11):
            client.release(MANY)
        client.promote(MANY)
        client.delete_group(GONE, confirm=GONE)
    (home / "artifacts" / "staged" / ("0" * 32)).write_bytes(b"left by a process that died")


def _import(client: "Client", home: Path, group: str, fleet: Mapping[str, bytes]) -> None:
    path = fleet_file(home.with_suffix(".parquet"), fleet)
    client.import_fleet(group, path, pause=lambda seconds: time.sleep(min(seconds, 0.05)))


def register(client: "Client", home: Path) -> None:
    """A new version of one key, which goes live by itself."""
    key = {"store": 1, "brand": "a"}
    client.register(AUTO, key, constant(1101))
    until(lambda: client.predict(AUTO, key, [ROW]).predictions == [1101.0])


def register_junk(client: "Client", home: Path) -> None:
    from manymodels.errors import InvalidRequestError

    try:
        client.register(AUTO, {"store": 1, "brand": "a"}, b"junk", runtime="lightgbm")
    except InvalidRequestError:
        return
    raise AssertionError("junk was registered")


def import_fleet(client: "Client", home: Path) -> None:
    """Five rows, three of them new versions: a release is built and waits for its promotion."""
    fleet = models(1000, range(3, 5)) | models(1100, range(1, 3)) | models(1100, range(7, 8))
    _import(client, home, AUTO, fleet)
    until(lambda: client.releases(AUTO)[0].state == "ready")


def import_junk(client: "Client", home: Path) -> None:
    from manymodels.errors import ImportFailedError

    try:
        _import(client, home, AUTO, models(1100, range(1, 3)) | {"store=3/brand=a": b"junk"})
    except ImportFailedError:
        return
    raise AssertionError("junk was imported")


def release(client: "Client", home: Path) -> None:
    client.release(HAND)


def promote(client: "Client", home: Path) -> None:
    client.promote(HAND, READY)


def rollback(client: "Client", home: Path) -> None:
    if client.deployments(HAND).live != RELEASED:
        client.rollback(HAND, to=RELEASED)


def gc(client: "Client", home: Path) -> None:
    """A sweep to which nothing is young."""
    del client
    from registry.artifacts.folder import FolderStore
    from registry.database import Database
    from registry.home import Home
    from workers.sweep import apply_sweep

    database = Database(Home(home).registry_url)
    try:
        apply_sweep(database, FolderStore(Home(home).artifacts), now=time.time() + _DAYS)
    finally:
        database.close()


OPERATIONS: Final[Mapping[str, Callable[["Client", Path], None]]] = {
    operation.__name__: operation
    for operation in (register, register_junk, import_fleet, import_junk, release, promote, rollback, gc)
}


def carry_out(home: Path, operation: str) -> None:
    """Open the home, do it, close the home."""
    with offline(home) as client:
        OPERATIONS[operation](client, home)


def exit_code_at(failpoint: str, home: Path, operation: str) -> int | None:
    """Carry an operation out in a process that dies at a failpoint: its exit code, negative for a signal."""
    process = _PROCESSES.Process(target=_carry_out_armed, args=(failpoint, home, operation))
    process.start()
    process.join(90)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise AssertionError(f"{operation} neither ended nor died at {failpoint}")
    return process.exitcode


def _carry_out_armed(failpoint: str, home: Path, operation: str) -> None:
    failpoints._armed = failpoint
    carry_out(home, operation)
