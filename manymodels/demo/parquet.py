"""A trained fleet as the Parquet file that a grouped training job would write: one row a model."""

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from manymodels.demo.training import KEY, Kind, Trained
from manymodels.provenance import library_versions

_TEXTS = pa.map_(pa.string(), pa.string())
SCHEMA = pa.schema(
    [
        *[pa.field(field, pa.string()) for field in KEY],
        pa.field("model", pa.binary()),
        pa.field("runtime", pa.string()),
        pa.field("tags", _TEXTS),
        pa.field("metrics", pa.map_(pa.string(), pa.float64())),
        pa.field("provenance", _TEXTS),
    ]
)


def write_fleet(path: Path, kind: Kind, fleet: Iterable[Trained], now: datetime) -> None:
    """Write one fleet. A fallback model's row has null in the key columns it lacks."""
    models = list(fleet)
    at = now.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    libraries = library_versions(["lightgbm", "scikit-learn", "skops", "skl2onnx", "numpy"])
    provenance = {"trained_at": at, "trained_through": at[:10], "run": f"demo {at}", "libraries": libraries}
    columns = {
        **{field: [model.key.get(field) for model in models] for field in KEY},
        "model": [model.artifact for model in models],
        "runtime": [kind.runtime] * len(models),
        "tags": [[("level", _level(model))] for model in models],
        "metrics": [[("rmse", model.error), ("rows", float(model.rows))] for model in models],
        "provenance": [list(provenance.items())] * len(models),
    }
    pq.write_table(pa.table(columns, schema=SCHEMA), path, row_group_size=128)


def _level(model: Trained) -> str:
    return {len(KEY): "partition", 0: "group"}.get(len(model.key), "brand")
