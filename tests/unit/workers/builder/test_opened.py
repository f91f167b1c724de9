"""Segments stay open between builds, as long as their files are what was opened."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from registry.artifacts.folder import FolderStore
from tests.support.packs import choices
from workers.builder.opened import GROUPS, OpenedSegments
from workers.segments.reader import Segment


def stored(home: Path) -> tuple[FolderStore, str]:
    store = FolderStore(home)
    return store, store.put([choices().data]).digest


def test_a_segment_is_opened_once(tmp_path: Path) -> None:
    store, digest = stored(tmp_path)
    opened = OpenedSegments()
    first = opened.open(store, "g", digest)
    opened.keep("g", frozenset({digest}))
    assert opened.open(store, "g", digest) is first


def test_a_segment_whose_file_changed_is_opened_again(tmp_path: Path) -> None:
    store, digest = stored(tmp_path)
    opened = OpenedSegments()
    first = opened.open(store, "g", digest)
    os.utime(store.path(digest), ns=(1, 1))
    assert opened.open(store, "g", digest) is not first


def test_what_the_last_build_did_not_name_is_closed(tmp_path: Path) -> None:
    store, digest = stored(tmp_path)
    opened = OpenedSegments()
    first = opened.open(store, "g", digest)
    opened.keep("g", frozenset())
    assert opened.open(store, "g", digest) is not first


def test_only_the_groups_that_were_built_last_stay_open(tmp_path: Path) -> None:
    store, digest = stored(tmp_path)
    opened = OpenedSegments()
    first = opened.open(store, "g", digest)
    for other in range(GROUPS):
        opened.open(store, f"g{other}", digest)
    assert opened.open(store, "g", digest) is not first


def test_lanes_that_build_side_by_side_open_a_segment_they_share_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, digest = stored(tmp_path)
    segment = Segment.open(store.path(digest), store)
    both = threading.Barrier(2)
    opens = []

    def slow_open(*_given: object) -> Segment:
        opens.append(digest)
        with suppress(threading.BrokenBarrierError):
            both.wait(0.3)  # whoever opens gives the other lane time to open it too
        return segment

    monkeypatch.setattr(Segment, "open", slow_open)
    opened = OpenedSegments()
    with ThreadPoolExecutor(2) as lanes:
        assert list(lanes.map(lambda _lane: opened.open(store, "g", digest), range(2))) == [segment] * 2
    assert opens == [digest]
