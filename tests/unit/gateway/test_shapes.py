from dataclasses import replace
from typing import get_type_hints

import orjson
import pytest
from pydantic import TypeAdapter

from discovery.placement import placement
from discovery.seats import Move
from discovery.snapshot import DeploymentView, GroupView, LiveRelease, Member, Revision, Snapshot
from gateway.control import answers, discovery_answers, shapes
from registry.imports import Reject
from registry.keys import KeySchema, PartitionKey
from registry.manifest import Manifest, SegmentRef
from registry.records import (
    BundleSlice,
    Deployment,
    Group,
    Hold,
    Import,
    ModelMeta,
    Release,
    Version,
)
from registry.signature import Signature
from registry.versions import LivePeriod, VersionHistory

NOON = 1_795_089_600.0  # 2026-11-19T12:00:00Z
DIGEST = "ab" * 32
SCHEMA = KeySchema(("store", "brand"), fallback=(("brand",), ()))
SIGNATURE = Signature.from_json(
    {"inputs": [{"name": "price"}, {"name": "feat", "dtype": "int64", "default": 0}], "outputs": [{"name": "sales"}]}
)
KEY = PartitionKey((("store", "a/b=c;%2F.. \N{TANGERINE}+"), ("brand", "tropicana")))
META = ModelMeta({"region": "nw"}, {"rmse": 0.5}, {"trained_through": "2026-11-18"})
VERSION = Version(KEY, 2, 7, DIGEST, "lightgbm", 100, 200, BundleSlice(DIGEST, 0, 50), META, False, NOON)
TOMBSTONE = Version(KEY, 3, 8, None, None, 0, 0, None, ModelMeta(), False, NOON)
RELEASE = Release(4, "oj", "ready", 3, 8, DIGEST, 249, 1000, {"added": 1, "names": {"lost": []}}, NOON, NOON + 10)
GROUP = Group(1, "oj", SCHEMA, SIGNATURE, auto_release=True, suspended=False, created=NOON)
HOLD = Hold(KEY, "pin", 2, "reason", "me", NOON, None)
MEMBER = Member("m1", "http://127.0.0.1:1", "alive", ("gateway", "worker"), {"pid": "7"})
IMPORT = Import(1, "oj", "done", "skip", "staged-1", 3, 2, 2, 0, 1, None, None, NOON, NOON + 1)


def snapshot() -> Snapshot:
    manifest = Manifest("oj", 4, 16, SCHEMA.fields, SCHEMA.shard_by, SIGNATURE, (SegmentRef(0, DIGEST, 1000, 249),))
    live = LiveRelease(4, DIGEST, manifest, NOON)
    view = GroupView(
        "oj", SCHEMA, SIGNATURE, frozenset({KEY.id}), {"blue": DeploymentView("blue", 100, live)}, (live,), True, False
    )
    return Snapshot(Revision("e", 5), {"oj": view}, (MEMBER,))


def conforms(shape, value):
    """Has exactly the members that its type names, and survives JSON as a value of that type."""
    hints = get_type_hints(shape)
    assert set(value) == set(hints)
    TypeAdapter(shape).validate_python(orjson.loads(orjson.dumps(value)))


@pytest.mark.parametrize(
    ("shape", "value"),
    [
        (answers.GroupJson, shapes.group_json(GROUP)),
        (answers.LiveJson, shapes.live_json("blue", RELEASE, NOON, NOON + 20)),
        (answers.LiveJson, shapes.live_json("blue", RELEASE, None, NOON)),
        (answers.VersionJson, shapes.version_json(VERSION)),
        (answers.VersionJson, shapes.version_json(TOMBSTONE)),
        (
            answers.VersionHistoryJson,
            shapes.history_json(VersionHistory(VERSION, (LivePeriod("blue", 4, NOON, None),))),
        ),
        (answers.ImportJson, shapes.import_json(IMPORT)),
        (answers.RejectJson, shapes.reject_json(Reject(3, None, "key_type", "empty", "store"))),
        (answers.ReleaseJson, shapes.release_json(RELEASE)),
        (answers.HoldJson, shapes.hold_json(HOLD)),
        (answers.MemberJson, shapes.member_json(MEMBER)),
        (discovery_answers.SnapshotJson, shapes.snapshot_json(snapshot())),
    ],
)
def test_a_shape_has_exactly_the_members_of_its_documented_type(shape, value):
    conforms(shape, value)


def seated(members=(MEMBER,)):
    shown = snapshot()
    view = replace(
        shown.groups["oj"],
        seats={16: (("a", "b"),) * 15 + (("b", "c"),)},
        moves={16: {15: Move(("c",), ("b",))}},
        replicas=2,
    )
    return replace(shown, groups={"oj": view}, members=members)


def sitting(seat, state="alive"):
    return Member(f"{seat}-1", f"http://{seat}", state, ("worker",), {"assigned": "yes", "seat": seat, "zone": "z"})


def test_a_snapshot_with_seats_names_them_by_count_of_shards_and_who_comes_and_goes():
    shown = shapes.snapshot_json(seated())
    conforms(discovery_answers.SnapshotJson, shown)
    assert shown["groups"][0]["seats"]["16"][15] == ["b", "c"]
    assert shown["groups"][0]["moves"] == {"16": {"15": {"coming": ["c"], "former": ["b"]}}}


def test_a_standing_tells_turn_seat_zone_and_reason():
    shown = seated((sitting("b"), sitting("c"), sitting("a", "dead")))
    view = shown.groups["oj"]
    found = placement(shown, view, view.wanted[0], 15).candidates
    told = [shapes.standing_json(candidate) for candidate in found]
    conforms(discovery_answers.StandingJson, told[0])
    assert [(one["rank"], one["seat"], one["reason"]) for one in told] == [
        (1, "b", "former, until the new have it"),
        (None, "c", "coming, not yet ready"),
        (None, "a", "dead"),
    ]
    assert 0 <= told[0]["score"] < 1


def test_the_seats_of_a_group_are_counted_with_what_moves_and_what_nobody_serves():
    def counted(*members):
        shown = seated(members)
        return shapes.seated_json(shown, shown.groups["oj"], 16)

    assert counted(sitting("a"), sitting("b")) == {"seats": 3, "moving": 1, "unserved": 0}
    assert counted(sitting("a"))["unserved"] == 1
    assert counted()["unserved"] == 16
    assert counted(MEMBER)["unserved"] == 0
    assert shapes.seated_json(snapshot(), snapshot().groups["oj"], 16) is None


def test_times_are_rfc_3339_in_utc():
    assert shapes.time_text(NOON + 0.25) == "2026-11-19T12:00:00.250Z"
    assert shapes.optional_time(None) is None


def test_a_version_tells_its_key_as_text_and_as_fields():
    shown = shapes.version_json(VERSION)
    assert shown["key"] == "store=a%2Fb%3Dc%3B%252F..%20%F0%9F%8D%8A%2B/brand=tropicana"
    assert shown["fields"] == {"store": "a/b=c;%2F.. \N{TANGERINE}+", "brand": "tropicana"}
    assert (shown["version"], shown["bytes"], shown["heap_bytes"], shown["tombstone"]) == (2, 100, 200, False)


def test_a_tombstone_says_so_and_has_no_artifact():
    shown = shapes.version_json(TOMBSTONE)
    assert (shown["tombstone"], shown["digest"], shown["runtime"]) == (True, None, None)


def test_history_tells_when_a_version_was_live():
    history = VersionHistory(VERSION, (LivePeriod("blue", 4, NOON, NOON + 1), LivePeriod("blue", 6, NOON + 2, None)))
    assert [(period["from"], period["to"]) for period in shapes.history_json(history)["live"]] == [
        ("2026-11-19T12:00:00.000Z", "2026-11-19T12:00:01.000Z"),
        ("2026-11-19T12:00:02.000Z", None),
    ]


def test_the_age_of_a_live_release_counts_from_its_building_and_never_below_zero():
    assert shapes.live_json("blue", RELEASE, NOON + 100, NOON + 110)["age_seconds"] == 100.0
    assert shapes.live_json("blue", RELEASE, NOON, NOON)["age_seconds"] == 0.0


def test_a_member_stands_under_each_of_its_services():
    assert set(shapes.services_json([MEMBER])) == {"gateway", "worker"}


def test_deployments_are_shown_by_name():
    assert shapes.deployments_json({"blue": Deployment("blue", 4, 100)}) == {"blue": {"release": 4, "traffic": 100}}
