"""Segments that stay open from one build of a group to the next.

A hotfix rewrites one segment of a thousand, and a release's report looks into the index of each. Opening all of them
again would take longer than the rest of the build. A segment's name is the digest of its bytes, so one that was opened
once is good for as long as its file is the same. The lanes of imports and of releases both build, perhaps of one group.
"""

import threading
from typing import Final, NamedTuple

from cachetools import LRUCache

from registry.artifacts.store import ArtifactStore
from workers.segments.reader import Segment

GROUPS: Final = 8  # whose segments stay open


class _Opened(NamedTuple):
    segment: Segment
    file: tuple[int, int, int]


class OpenedSegments:
    """The open segments of the groups that were built last. Safe from any thread; opening waits for one that opens."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._groups: LRUCache[str, dict[str, _Opened]] = LRUCache(GROUPS)

    def open(self, store: ArtifactStore, group: str, digest: str) -> Segment:
        """A segment, its index checked.

        Raises:
            ArtifactMissingError, ArtifactDamagedError, SegmentDamagedError: if it cannot be opened.
        """
        path = store.path(digest)
        stat = path.stat()
        file = stat.st_ino, stat.st_size, stat.st_mtime_ns
        with self._lock:
            opened = self._groups.setdefault(group, {})
            known = opened.get(digest)
            if known is None or known.file != file:
                known = opened[digest] = _Opened(Segment.open(path, store), file)
            return known.segment

    def keep(self, group: str, digests: frozenset[str]) -> None:
        """Close a group's segments but for these, each as soon as no build reads it any more."""
        with self._lock:
            opened = self._groups.get(group, {})
            self._groups[group] = {digest: opened[digest] for digest in opened.keys() & digests}
