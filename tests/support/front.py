"""Connections to servers of this machine through a real Envoy, with the configuration that `deploy` has."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from deploy.local.front import Front
from tests.support.installed import needed
from tests.support.ledger import Caller
from tests.support.waiting import until

CALLERS = 4


@contextmanager
def callers_of_front(
    folder: Path, ports: Sequence[int], body: Callable[[int], tuple[str, Mapping[str, Any]]]
) -> Iterator[list[Caller]]:
    """Connections to a front for servers on these ports, which answers the first request of `body` by then."""
    front = needed(lambda: Front(folder, ports))
    with ExitStack() as left:
        left.callback(front.kill)
        front.start()
        found = [Caller(front.port) for _ in range(CALLERS)]
        for caller in found:
            left.callback(caller.close)
        until(lambda: found[0].call("POST", *body(0)).status == 200, 30, "an answer through the front")
        yield found
