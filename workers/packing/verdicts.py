"""What the proof said of a model: that its pack equals it, or in one word why it stays with its native library."""

from collections.abc import Mapping
from typing import Final

PACKED: Final = "packed"
UNTRIED: Final = "unknown"
LARGE: Final = "large"

# A segment names a verdict by its position here: new ones go to the end.
MEANINGS: Final[Mapping[str, str]] = {
    PACKED: "scored where it lies in the segment",
    UNTRIED: "registered before packs were tried",
    "runtime": "models of this runtime have no packs",
    "estimator": "its kind of estimator has no pack",
    "objective": "its objective is none that packs know",
    "linear_trees": "its trees have linear leaves",
    "shape": "it has more of something than a pack can number",
    "differs": "its pack answered otherwise than its native library",
    LARGE: "it is large and lies alone",
    "precision": "it computes in float32, a pack in float64",
}
VERDICTS: Final = tuple(MEANINGS)
