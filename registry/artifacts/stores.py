"""Which artifact store a home uses: its own folder, or a bucket with a cache in the home."""

from registry.artifacts.folder import FolderStore
from registry.artifacts.store import ArtifactStore
from registry.home import Home


def open_store(home: Home, address: str, *, cache_bytes: int) -> ArtifactStore:
    """The store at `s3://bucket/prefix`, or the home's own folder where the address is empty. Nothing is asked yet.

    `cache_bytes` is how much of a bucket is kept on this machine's disk.

    Raises:
        StoreInvalidError: if the address names no bucket.
    """
    if not address:
        return FolderStore(home.artifacts)
    from registry.artifacts.bucket import BucketStore  # noqa: PLC0415 - only a cluster needs it
    from registry.artifacts.disk_cache import DiskCache  # noqa: PLC0415 - as above

    return BucketStore(address, DiskCache(home.cache, cache_bytes))
