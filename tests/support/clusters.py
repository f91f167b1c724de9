"""A cluster of real processes that serves a fleet of stores, and what its tests do to it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import Any

from deploy.local.house import House, Service
from manymodels import Client
from tests.support.ledger import Caller
from tests.support.shown import metric
from tests.support.stores import GROUP, import_stores, key, value
from tests.support.waiting import until

REPLICAS = 2  # of a shard, where a test says nothing of it
SETTINGS = {"MANYMODELS_SPREAD_SECONDS": "2", "MANYMODELS_PROMOTE_SECONDS": "20"}


@contextmanager
def serving(house: House, stores: Sequence[int], **given: Any) -> Iterator[House]:
    """A house that was not started yet, until the context is left; all replicas answer for the stores by then.

    `given` is as of `import_stores`.
    """
    with house:
        with Client(house.of("gateway")[0].address) as client:
            import_stores(client, house.folder, stores, **given)
        for gateway in house.of("gateway"):
            with Client(gateway.address) as client:
                until(lambda client=client: value(client, stores[0]) == 1000 + stores[0], 60, "the fleet")
        all_hold(house, stores, min(given.get("replicas") or REPLICAS, len(house.of("worker"))))
        yield house


@contextmanager
def callers_of_gateways(house: House, times: int = 2) -> Iterator[list[Caller]]:
    """So many connections to each gateway, in turn."""
    with ExitStack() as left:
        found = [Caller(gateway.port) for _ in range(times) for gateway in house.of("gateway")]
        for caller in found:
            left.callback(caller.close)
        yield found


def all_ask(house: House, wanted: int) -> None:
    """Wait until every gateway finds so many workers alive, and none of them still on the way to what it is to hold."""
    for gateway in house.of("gateway"):
        with Client(gateway.address) as client:
            until(lambda client=client: settled(client, wanted), 60, "workers")


def settled(client: Client, wanted: int) -> bool:
    """Whether so many workers live and no shard moves."""
    found = client.status()
    states = [member.state for member in found.members if member.id.startswith("worker")]
    return states.count("alive") == wanted and not any(group.seated and group.seated.moving for group in found.groups)


def all_hold(house: House, stores: Sequence[int], wanted: int) -> None:
    """Wait until every gateway finds so many workers that have each store: one that is on the way there is not shown."""
    for gateway in house.of("gateway"):
        with Client(gateway.address) as client:
            until(lambda client=client: fewest(client, stores) >= wanted, 60, "replicas")


def fewest(client: Client, stores: Sequence[int]) -> int:
    """How many workers have the store that the fewest have."""
    return min(len(client.lookup(GROUP, key(store)).members) for store in stores)


def worker_states(client: Client) -> dict[str, str]:
    """How a gateway sees each worker, by its address."""
    return {member.uri: member.state for member in client.status().members if member.id.startswith("worker")}


def counting(services: Sequence[Service], name: str) -> Callable[[], list[float]]:
    """Tells what each of some services has counted since; the counter's name as /metrics spells it."""

    def counted() -> list[float]:
        found = []
        for service in services:
            with closing(Caller(service.port)) as caller:
                found.append(metric(caller, name))
        return found

    before = counted()
    return lambda: [now - then for now, then in zip(counted(), before, strict=True)]
