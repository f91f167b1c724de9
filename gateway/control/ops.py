"""Health and metrics, for the machines that watch this one."""

from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

from discovery.errors import SnapshotUnavailableError
from gateway.context import Context
from gateway.control.answers import HealthJson
from gateway.control.gauges import exposition
from gateway.control.operation import Answer, Operation
from gateway.control.replies import reply
from gateway.errors import DrainingError
from workers.errors import ReleaseNotReadyError


async def live(_context: Context, _request: Request) -> Response:
    """Say that this process lives."""
    return reply(HealthJson(status="ok"))


async def ready(context: Context, _request: Request) -> Response:
    """Say whether this process holds every live release, and is not about to stop.

    Raises:
        DrainingError: if it is.
        SnapshotUnavailableError, ReleaseNotReadyError: which say what is still awaited.
    """
    if context.draining.is_set():
        raise DrainingError("this process is being stopped")
    if context.watcher.current is None:
        raise SnapshotUnavailableError("this process has not read its first snapshot yet")
    if not context.ready():
        raise ReleaseNotReadyError("this process is still mapping a live release")
    return reply(HealthJson(status="ok"))


async def metrics(context: Context, _request: Request) -> Response:
    """Prometheus metrics, summed over the processes of this house."""
    return Response(await context.run(exposition, context), media_type=CONTENT_TYPE_LATEST)


OPERATIONS: Final = (
    Operation(
        "GET",
        "/health/live",
        "isLive",
        "operations",
        "Whether this process lives",
        (Answer(200, "it does", HealthJson),),
        live,
    ),
    Operation(
        "GET",
        "/health/ready",
        "isReady",
        "operations",
        "Whether this process is ready to answer",
        (Answer(200, "it is", HealthJson),),
        ready,
        problems=("draining", "snapshot_unavailable", "release_not_ready"),
    ),
    Operation(
        "GET",
        "/metrics",
        "getMetrics",
        "operations",
        "Prometheus metrics",
        (Answer(200, "text exposition", media="text/plain", schema={"type": "string"}),),
        metrics,
    ),
)
