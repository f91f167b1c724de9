"""Snapshots made by hand, for what works on pictures without a database behind them."""

from dataclasses import replace

from discovery.snapshot import DeploymentView, GroupView, LiveRelease, Member, Revision, Snapshot
from registry.manifest import Manifest, SegmentRef
from tests.support.views import signature, view


def live(number: int, *, group: str = "oj", shards: int = 4, promoted: float | None = 1.0) -> LiveRelease:
    """A release whose manifest names segments after its number."""
    segments = tuple(SegmentRef(shard, f"{number:032x}{shard:032x}", 100, 1) for shard in range(shards))
    manifest = Manifest(group, number, shards, ("store", "brand"), ("store", "brand"), signature(), segments)
    return LiveRelease(number, f"{number:064x}", manifest, promoted)


def group(name: str = "oj", serving: int | None = None, *, preparing: tuple[int, ...] = ()) -> GroupView:
    """A group that serves one release as `blue` and prepares others."""
    deployments = {} if serving is None else {"blue": DeploymentView("blue", 100, live(serving, group=name))}
    wanted = {number: live(number, group=name, promoted=None) for number in preparing}
    wanted |= {view.release.number: view.release for view in deployments.values()}
    return replace(
        view(), name=name, deployments=deployments, wanted=tuple(wanted[number] for number in sorted(wanted))
    )


def snapshot(*groups: GroupView, number: int = 1, epoch: str = "e", members: tuple[Member, ...] = ()) -> Snapshot:
    return Snapshot(Revision(epoch, number), {view.name: view for view in groups}, members)
