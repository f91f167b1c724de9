"""A real S3 server on loopback: rclone's, over a folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.local.servers import BucketServer
from tests.support.installed import needed


@contextmanager
def bucket_server(folder: Path) -> Iterator[BucketServer]:
    """A server until the context is left."""
    running = needed(lambda: BucketServer(folder))
    running.start()
    try:
        yield running
    finally:
        running.kill()
