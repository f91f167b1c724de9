"""The rival of the failover benchmarks: Envoy, tuned, straight before the workers.

The configuration is that of `deploy`, made quicker where failover is all that counts: a try that takes longer than our
own is given up and made elsewhere, and workers are probed as often as our gateways probe them.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deploy.local.front import Front


@contextmanager
def front(folder: Path, ports: Sequence[int]) -> Iterator[int]:
    """The port of an Envoy before servers on these ports of loopback, until the context is left."""
    running = Front(folder, ports, _quicken)
    running.start()
    try:
        yield running.port
    finally:
        running.kill()


def _quicken(body: dict[str, Any]) -> None:
    resources = body["static_resources"]
    connections = resources["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    predict = connections["route_config"]["virtual_hosts"][0]["routes"][0]["route"]
    predict["retry_policy"]["per_try_timeout"] = "0.25s"
    health = resources["clusters"][0]["health_checks"][0]
    health |= {"timeout": "0.12s", "interval": "0.15s", "no_traffic_interval": "0.15s"}
