"""What a segment is to hold can be fetched as long as somebody means to write it."""

import gc
from pathlib import Path

from registry.artifacts.bundle import BundleReader
from registry.artifacts.folder import FolderStore
from registry.keys import SLOTS, KeySchema
from tests.support.packs import choices
from workers.builder.contents import Contents
from workers.packing.verdicts import PACKED
from workers.packing.wire import checksum_of
from workers.segments.reader import Segment


def test_what_is_carried_over_keeps_the_file_open_that_it_is_copied_from(tmp_path: Path) -> None:
    (tmp_path / "segment").write_bytes(choices().data)
    contents = Contents(BundleReader(FolderStore(tmp_path)), KeySchema(("store",)))
    contents.carry(Segment.open(tmp_path / "segment"), 0, SLOTS)
    packs = [model for model in contents.models() if model.entry.verdict == PACKED]
    del contents
    gc.collect()
    assert len(packs) > 0
    assert all(checksum_of(model.content()) == model.checksum for model in packs)
