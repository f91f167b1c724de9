"""Registry records and discovery values -> the JSON of `answers`. Pure; no route knows a record's attributes."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from discovery.placement import Candidate
from discovery.seating import holds_everything, living_seats, unserved
from discovery.seats import GroupSeats
from discovery.snapshot import GroupView, LiveRelease, Member, Snapshot
from gateway.control.answers import (
    DeploymentJson,
    GroupJson,
    GroupShapeJson,
    HoldJson,
    ImportJson,
    LiveJson,
    MemberJson,
    RejectJson,
    ReleaseJson,
    SeatedJson,
    VersionHistoryJson,
    VersionJson,
)
from gateway.control.discovery_answers import GroupViewJson, MappedReleaseJson, SnapshotJson, StandingJson
from registry.imports import Reject
from registry.records import Deployment, Group, Hold, Import, Release, Version
from registry.versions import VersionHistory


def time_text(seconds: float) -> str:
    """RFC 3339 UTC text with milliseconds, e.g. 2026-11-19T08:00:00.000Z."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def optional_time(seconds: float | None) -> str | None:
    """The same of a moment that may not have come yet."""
    return None if seconds is None else time_text(seconds)


def group_json(group: Group) -> GroupJson:
    """A group as listings show it."""
    return {**_shape(group), "created": time_text(group.created)}


def _shape(group: Group | GroupView) -> GroupShapeJson:
    return {
        "name": group.name,
        "key": list(group.schema.fields),
        "shard_by": list(group.schema.shard_by),
        "fallback": [list(level) for level in group.schema.fallback],
        "signature": group.signature.to_json(),
        "auto_release": group.auto_release,
        "suspended": group.suspended,
        "replicas": group.replicas,
        "pool": group.pool,
    }


def live_json(deployment: str, release: Release, promoted: float | None, now: float) -> LiveJson:
    """The live release of a group; its age counts from the moment it was built."""
    return {
        "deployment": deployment,
        "release": release.number,
        "promoted": optional_time(promoted),
        "age_seconds": max(0.0, now - (release.ready or release.created)),
        "models": release.models,
        "bytes": release.size,
    }


def version_json(version: Version) -> VersionJson:
    """A model version."""
    return {
        "key": version.key.text,
        "fields": version.key.as_dict(),
        "version": version.number,
        "digest": version.digest,
        "runtime": version.runtime,
        "bytes": version.size,
        "heap_bytes": version.heap,
        "tags": dict(version.meta.tags),
        "metrics": dict(version.meta.metrics),
        "provenance": dict(version.meta.provenance),
        "created": time_text(version.created),
        "withdrawn": version.withdrawn,
        "tombstone": version.tombstone,
    }


def history_json(history: VersionHistory) -> VersionHistoryJson:
    """A version and the periods for which it was live."""
    return {
        **version_json(history.version),
        "live": [
            {
                "deployment": period.deployment,
                "release": period.release,
                "from": time_text(period.start),
                "to": optional_time(period.end),
            }
            for period in history.live
        ],
    }


def import_json(item: Import) -> ImportJson:
    """A bulk import."""
    return {
        "import": item.number,
        "state": item.state,
        "on_error": item.on_error,
        "rows": item.rows,
        "proved": item.proved,
        "registered": item.registered,
        "unchanged": item.unchanged,
        "rejected": item.rejected,
        "release": item.release,
        "error": dict(item.error) if item.error is not None else None,
        "created": time_text(item.created),
        "finished": optional_time(item.finished),
    }


def reject_json(reject: Reject) -> RejectJson:
    """A rejected row of an import."""
    return {
        "row": reject.row,
        "key": reject.key,
        "code": reject.code,
        "detail": reject.detail,
        "field": reject.field,
    }


def release_json(release: Release) -> ReleaseJson:
    """A release."""
    return {
        "number": release.number,
        "state": release.state,
        "base": release.base,
        "models": release.models,
        "bytes": release.size,
        "report": dict(release.report),
        "created": time_text(release.created),
        "ready": optional_time(release.ready),
    }


def deployments_json(deployments: Mapping[str, Deployment]) -> dict[str, DeploymentJson]:
    """Deployments by name."""
    return {name: {"release": item.release, "traffic": item.traffic} for name, item in deployments.items()}


def hold_json(hold: Hold) -> HoldJson:
    """A hold."""
    return {
        "key": hold.key.text,
        "action": hold.action,
        "version": hold.version,
        "reason": hold.reason,
        "author": hold.author,
        "created": time_text(hold.created),
        "until": optional_time(hold.until),
    }


def member_json(member: Member) -> MemberJson:
    """A member."""
    return {
        "id": member.id,
        "uri": member.uri,
        "state": member.state,
        "services": list(member.services),
        "metadata": dict(member.metadata),
    }


def services_json(members: Sequence[Member]) -> dict[str, list[MemberJson]]:
    """Members by the service they offer; a member with two services stands under both."""
    services: dict[str, list[MemberJson]] = {}
    for member in members:
        for service in member.services:
            services.setdefault(service, []).append(member_json(member))
    return services


def snapshot_json(snapshot: Snapshot) -> SnapshotJson:
    """A whole snapshot."""
    return {
        "revision": str(snapshot.revision),
        "groups": [_view_json(view) for view in snapshot.groups.values()],
        "members": [member_json(member) for member in snapshot.members],
    }


def _view_json(view: GroupView) -> GroupViewJson:
    return {
        **_shape(view),
        "disabled": len(view.disabled),
        "deployments": {
            name: {"release": item.release.number, "traffic": item.traffic} for name, item in view.deployments.items()
        },
        "releases": [_mapped_json(release) for release in view.wanted],
        "seats": {str(count): [list(names) for names in seats] for count, seats in view.seats.items()},
        "moves": {
            str(count): {
                str(shard): {"coming": list(move.coming), "former": list(move.former)} for shard, move in moves.items()
            }
            for count, moves in view.moves.items()
        },
    }


def standing_json(candidate: Candidate) -> StandingJson:
    """How a member stands for a shard."""
    member, why = candidate.member, candidate.why
    return {
        "id": member.id,
        "uri": member.uri,
        "state": member.state,
        "rank": why.rank,
        "reason": why.reason,
        "seat": why.seat,
        "zone": why.zone,
        "score": why.score / 2**64,
    }


def seated_json(snapshot: Snapshot, view: GroupView, shards: int) -> SeatedJson | None:
    """How the seats of a group fare for a release of so many shards; None where every worker holds everything."""
    if not view.seats:
        return None
    names = {seat for seats in view.seats.get(shards, ()) for seat in seats}
    whole = any(holds_everything(member) for member in snapshot.members)
    living = living_seats(snapshot.members)
    lost = [] if whole else unserved(GroupSeats(view.seats, view.moves), shards, living, ())
    return {"seats": len(names), "moving": len(view.moves.get(shards, ())), "unserved": len(lost)}


def _mapped_json(release: LiveRelease) -> MappedReleaseJson:
    return {
        "release": release.number,
        "manifest": release.manifest_digest,
        "shards": release.manifest.shards,
        "models": release.manifest.models,
        "bytes": release.manifest.size,
    }
