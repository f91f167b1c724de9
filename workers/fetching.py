"""Segments on their way to this disk: several at once, because a bucket answers each after a while but many together.

They are fetched only so far ahead of whoever opens them, so that a disk with little room need not let one go again
before it was opened.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from registry.artifacts.store import ArtifactStore
from registry.manifest import SegmentRef


def fetched(
    store: ArtifactStore, refs: Iterable[SegmentRef], threads: int
) -> Iterator[tuple[SegmentRef, "Future[Path]"]]:
    """The file of each segment, in order; its future raises what `ArtifactStore.path` does.

    Args:
        store: where they lie.
        refs: which are wanted.
        threads: how many are fetched at once.
    """
    ahead: deque[tuple[SegmentRef, Future[Path]]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="fetch") as pool:
        for ref in refs:
            ahead.append((ref, pool.submit(store.path, ref.digest)))
            if len(ahead) > threads:
                yield ahead.popleft()
        while ahead:
            yield ahead.popleft()
