"""LightGBM's model text: what it says of itself in its header and its last line.

The text is read here, before the native parser sees it, for what the C API does not tell (category lists of pandas
columns, the objective) and to refuse what was cut off. Pure functions.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from registry.signature import Dtype, Signature
from workers.errors import ArtifactInvalidError, SignatureMismatchError

_MAGIC: Final = b"tree\n"
_END: Final = b"end of trees"
_LAST: Final = b"end of parameters"  # LightGBM writes it behind the trees; only pandas' categories come after it
_CATEGORICAL_FEATURES: Final = re.compile(rb"\n\[categorical_feature: ([0-9,]*)\]")
_FITS: Final[Mapping[type, frozenset[Dtype]]] = {
    str: frozenset({"string"}),
    bool: frozenset({"bool"}),
    int: frozenset({"int64", "float64", "float32"}),
    float: frozenset({"int64", "float64", "float32"}),
}


@dataclass(frozen=True, slots=True)
class ModelText:
    """What a model text says.

    Attributes:
        features: names, in the order of the model's columns.
        outputs: numbers that a prediction has (1, or the number of classes).
        objective: first word of the objective, empty for a custom one.
        category_lists: pandas' categories, one list for each categorical column, in column order.
        categorical: columns that were trained as categorical features.
    """

    features: tuple[str, ...]
    outputs: int
    objective: str
    category_lists: tuple[tuple[Any, ...], ...]
    categorical: tuple[int, ...]


def sniff_text(data: bytes) -> None:
    """Refuse bytes that are not a whole model text.

    Raises:
        ArtifactInvalidError: saying what is missing.
    """
    if not data.startswith(_MAGIC):
        raise ArtifactInvalidError(f"a LightGBM model text begins with 'tree', these bytes begin with {data[:12]!r}")
    if b"\0" in data:
        raise ArtifactInvalidError("a LightGBM model text holds no zero bytes")
    for mark in (_END, _LAST):
        if data.rfind(b"\n" + mark) < 0:
            raise ArtifactInvalidError(f"the LightGBM model text is cut off: it lacks {mark.decode()!r}")


def read_text(data: bytes) -> ModelText:
    """Read the header and the tail of a model text that `sniff_text` let pass.

    Raises:
        ArtifactInvalidError: if the header is malformed or the trees do not have the sizes it names.
    """
    head, _, _ = data.partition(b"\n\n")
    try:
        header = dict(line.split("=", 1) for line in head.decode().splitlines() if "=" in line)
        features = tuple(header["feature_names"].split(" ")) if header["feature_names"] else ()
        outputs = int(header["num_class"])
        columns = int(header["max_feature_idx"]) + 1
        sizes = sum(int(size) for size in header.get("tree_sizes", "").split())
        lists = _category_lists(data)
    except (KeyError, ValueError, TypeError) as error:
        raise ArtifactInvalidError(f"the header of the LightGBM model text is malformed: {error!r}") from error
    if len(features) != columns or not 1 <= outputs <= 10_000:
        raise ArtifactInvalidError(
            f"the LightGBM model text names {len(features)} features, says {columns}, and has {outputs} outputs"
        )
    _check_trees(data, len(head), sizes, sized="tree_sizes" in header)
    return ModelText(features, outputs, header.get("objective", "").split(" ")[0], lists, _categorical(data))


def assign_categories(
    text: ModelText, inputs: Sequence[int], signature: Signature
) -> tuple[tuple[int, Mapping[Any, int]], ...]:
    """Which model columns are encoded by which category list: (column, value -> code), in column order.

    The text lists the categories of pandas' categorical columns but not which columns they are: they are the trained
    categorical features, unless these are others (named by hand, or ordered categories), in which case they are
    the columns of text.

    Raises:
        SignatureMismatchError: if no assignment fits the signature's dtypes, or a text input has no categories.
    """
    dtypes = [signature.inputs[position].dtype for position in inputs]
    texts = tuple(column for column, dtype in enumerate(dtypes) if dtype == "string")
    trained = tuple(column for column in text.categorical if column < len(dtypes))
    for columns in (trained, texts, tuple(sorted({*trained, *texts}))):
        if set(texts) <= set(columns) and _fit(columns, text.category_lists, dtypes):
            pairs = zip(columns, text.category_lists, strict=True)
            return tuple((column, {value: code for code, value in enumerate(values)}) for column, values in pairs)
    if texts and not text.category_lists:
        name = signature.inputs[inputs[texts[0]]].name
        raise SignatureMismatchError(f"the input {name!r} is text, but the model has no categories for it", field=name)
    raise SignatureMismatchError(
        f"the model has {len(text.category_lists)} category lists, which fit neither its categorical features "
        f"{[text.features[column] for column in trained]} nor its text inputs {[text.features[c] for c in texts]}",
        field="inputs",
    )


def _fit(columns: Sequence[int], lists: Sequence[Sequence[Any]], dtypes: Sequence[Dtype]) -> bool:
    return len(columns) == len(lists) and all(
        dtypes[column] in _FITS[type(value)] for column, values in zip(columns, lists, strict=True) for value in values
    )


def _category_lists(data: bytes) -> tuple[tuple[Any, ...], ...]:
    _, sign, tail = data[data.rfind(b"\npandas_categorical:") :].partition(b"pandas_categorical:")
    lists = orjson.loads(tail) if sign else None
    if lists is None:
        return ()
    if any(type(value) not in _FITS for values in lists for value in values):
        raise ValueError("categories are texts, numbers or booleans")
    return tuple(tuple(values) for values in lists)


def _categorical(data: bytes) -> tuple[int, ...]:
    found = _CATEGORICAL_FEATURES.search(data, data.rfind(_END))
    return tuple(sorted({int(column) for column in found[1].split(b",") if column})) if found else ()


def _check_trees(data: bytes, head: int, total: int, *, sized: bool) -> None:
    """The header names the bytes of each tree; after their sum must come the end mark."""
    start = data.find(b"Tree=", head) if total else head
    if sized and not data[start + total : start + total + 64].lstrip().startswith(_END):
        raise ArtifactInvalidError("the LightGBM model text is damaged: its trees do not have the sizes it names")
