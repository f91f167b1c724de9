"""What was proved, on its way into a bundle: each artifact's frame and right behind it its pack's."""

from collections.abc import Sequence

from registry.artifacts.bundle import write_frames
from registry.artifacts.store import ArtifactStore
from registry.records import BundleSlice
from workers.builder.proof import Proof


def write_proofs(store: ArtifactStore, proofs: Sequence[Proof]) -> list[BundleSlice]:
    """Store artifacts and behind each its pack, as one bundle; answers where each artifact lies."""
    places = write_frames(store, (proof.frame + proof.pack for proof in proofs))
    return [
        BundleSlice(place.bundle, place.offset, len(proof.frame)) for place, proof in zip(places, proofs, strict=True)
    ]
