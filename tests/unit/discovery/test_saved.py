"""The last snapshot is kept on the disk, and what is not whole is as good as none."""

import hashlib
from dataclasses import replace

import orjson
import pytest

from discovery.saved import PAUSE_SECONDS, SavedSnapshot, read, written
from discovery.seats import Move
from discovery.snapshot import DeploymentView, LiveRelease, Member, Revision, Snapshot
from registry.manifest import Manifest, SegmentRef
from tests.support.clocks import ManualClock
from tests.support.views import signature, view

FIELDS = ("store", "brand")


def manifest(number):
    return Manifest("oj", number, 4, FIELDS, FIELDS, signature(), (SegmentRef(0, "a" * 64, 10, 1),))


def release(number, promoted=None):
    return LiveRelease(number, f"{number:064x}", manifest(number), promoted)


def snapshot(number=7, disabled=frozenset()):
    live, wanted = release(3, 12.5), release(4)
    group = view(deployments={"blue": DeploymentView("blue", 100, live)})
    group = replace(group, wanted=(live, wanted), disabled=disabled)
    members = (Member("a", "http://a", "alive", ("gateway", "worker"), {"zone": "z1"}), Member("b", "", "dead", (), {}))
    return Snapshot(Revision("e1", number), {"oj": group}, members)


def test_the_seats_come_back_as_they_were():
    seats = {4: (("a",), ("a", "b", "c"), (), ("b",))}
    moves = {4: {1: Move(("c",), ("b",))}}
    group = replace(snapshot().groups["oj"], seats=seats, moves=moves, replicas=3, pool="gpu")
    found = read(written(replace(snapshot(), groups={"oj": group})), known)
    assert found.groups["oj"] == group


def test_a_file_of_before_there_were_seats_tells_of_none():
    body = orjson.loads(written(snapshot()).partition(b"\n")[2])
    for name in ("replicas", "pool", "seats"):
        del body["groups"][0][name]
    text = orjson.dumps(body)
    found = read(hashlib.sha256(text).hexdigest().encode() + b"\n" + text, known)
    assert found == snapshot()


def known(digest):
    return manifest(int(digest, 16))


def test_a_snapshot_comes_back_as_it_was():
    whole = snapshot(disabled=frozenset({b"0123456789abcdef", b"fedcba9876543210"}))
    assert read(written(whole), known) == whole


def test_a_live_release_whose_manifest_is_gone_is_said_to_be_unread():
    found = read(written(snapshot()), lambda digest: known(digest) if int(digest, 16) == 4 else None)
    assert found.groups["oj"].unread
    assert not found.groups["oj"].deployments
    assert [one.number for one in found.groups["oj"].wanted] == [4]


@pytest.mark.parametrize("cut", [0, 1, 63, 65, 100, -1])
def test_a_file_that_is_cut_short_is_as_good_as_none(cut):
    assert read(written(snapshot())[:cut], known) is None


def test_a_flipped_bit_makes_it_as_good_as_none():
    data = bytearray(written(snapshot()))
    data[200] ^= 1
    assert read(bytes(data), known) is None


def test_a_file_of_another_version_is_as_good_as_none():
    text = orjson.dumps({"format": 2})
    assert read(hashlib.sha256(text).hexdigest().encode() + b"\n" + text, known) is None


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def saved(tmp_path, clock):
    return SavedSnapshot(tmp_path / "snapshot", clock=clock)


def test_what_was_kept_last_is_loaded(saved, clock):
    assert saved.load(known) is None
    saved.keep(snapshot(7))
    clock.sleep(PAUSE_SECONDS)
    saved.keep(snapshot(8))
    assert saved.load(known) == snapshot(8)


def test_a_snapshot_that_follows_soon_is_written_later(saved, clock):
    saved.keep(snapshot(7))
    later = snapshot(8)
    saved.keep(later)
    assert saved.load(known) == snapshot(7)
    clock.sleep(PAUSE_SECONDS)
    saved.keep(later)
    assert saved.load(known) == later
    last = snapshot(9)
    saved.keep(last, at_once=True)
    assert saved.load(known) == last


def test_the_same_snapshot_is_written_once(saved, clock, tmp_path):
    same = snapshot()
    saved.keep(same)
    (tmp_path / "snapshot").unlink()
    clock.sleep(PAUSE_SECONDS)
    saved.keep(same)
    assert not (tmp_path / "snapshot").exists()


def test_a_disk_that_takes_nothing_is_logged_and_harms_nobody(tmp_path, clock, caplog):
    SavedSnapshot(tmp_path / "no" / "snapshot", clock=clock).keep(snapshot())
    assert "could not be kept" in caplog.text


def test_a_file_that_makes_no_sense_is_logged_and_as_good_as_none(saved, tmp_path, caplog):
    text = b"[]"
    (tmp_path / "snapshot").write_bytes(hashlib.sha256(text).hexdigest().encode() + b"\n" + text)
    assert saved.load(known) is None
    assert "cannot be read" in caplog.text
