"""Models that answer one whole number whatever the row: which model answered can be read off the answer."""

import base64
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

SIGNATURE = {"inputs": [{"name": "price"}], "outputs": [{"name": "sales"}]}
ROW = {"price": 1.0}

_TREE = """Tree=0
num_leaves=1
num_cat=0
split_feature=
split_gain=
threshold=
decision_type=
left_child=
right_child=
leaf_value={value}
leaf_weight=
leaf_count=1
internal_value=
internal_weight=
internal_count=
is_linear=0
shrinkage=1


"""
_STUMP = """Tree={number}
num_leaves=2
num_cat=0
split_feature=0
split_gain=1
threshold=0.5
decision_type=2
left_child=-1
right_child=-2
leaf_value={value} {value}
leaf_weight=1 1
leaf_count=1 1
internal_value=0
internal_weight=2
internal_count=2
is_linear={linear:d}
{leaves}shrinkage=1


"""
_LINEAR_LEAVES = """leaf_const={value} {value}
num_features=0 0
leaf_features={nothing}
leaf_coeff={nothing}
"""
_MODEL = """tree
version=v4
num_class=1
num_tree_per_iteration=1
label_index=0
max_feature_idx=0
objective=regression
feature_names=price
feature_infos=[0:1]
tree_sizes={size}

{trees}end of trees

feature_importances:

parameters:
[data: {noise}]

end of parameters

pandas_categorical:null
"""


def constant(value: int, padding: int = 0) -> bytes:
    """A LightGBM model text of one leaf, which is packed.

    With `padding` it is longer by so many bytes, which compress by a quarter, and has a linear tree: no pack takes it,
    so its bytes stay in the segment as they are.
    """
    tree = _stump(0, value, _LINEAR_LEAVES.format(value=value, nothing="  ")) if padding else _TREE.format(value=value)
    noise = base64.b64encode(random.Random(value).randbytes(padding * 3 // 4)).decode()
    return _MODEL.format(size=len(tree), trees=tree, noise=noise).encode()


def stumps(value: int, count: int) -> bytes:
    """A LightGBM model text that answers the value and walks so many trees for it; it is packed."""
    trees = [_TREE.format(value=value), *(_stump(number, 0) for number in range(1, count))]
    return _MODEL.format(size=" ".join(str(len(tree)) for tree in trees), trees="".join(trees), noise="").encode()


def _stump(number: int, value: int, linear: str = "") -> str:
    """A tree of two leaves with one value, and with the lines that make them linear if there are any."""
    return _STUMP.format(number=number, value=value, linear=bool(linear), leaves=linear)


def fleet_file(path: Path, models: Mapping[str, bytes], fields: Sequence[str] = ("store", "brand")) -> Path:
    """A Parquet file of models by canonical key text; a field a key lacks is null."""
    keys = [dict(part.split("=", 1) for part in text.split("/") if part) for text in models]
    columns: dict[str, pa.Array] = {name: pa.array([key.get(name) for key in keys], pa.string()) for name in fields}
    columns["model"] = pa.array(list(models.values()), pa.binary())
    columns["runtime"] = pa.array(["lightgbm"] * len(models), pa.string())
    pq.write_table(pa.table(columns), path)
    return path
