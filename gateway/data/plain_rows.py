"""Plain JSON bulks: array rows of numbers, flags and short key values, read without a parser (`gateway.data.scan`).

What is read here is what the ordinary way would read, to the bit; what it would refuse, or what only it can say, is
left to it. Imported late, because a compiler comes with it.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gateway.data.cells import ABSENT, EXACT, number
from gateway.data.keycolumns import KeyRows
from gateway.data.rows import RowReader
from gateway.data.scan import FLAG, KEY, NULLABLE, NUMBER, WHOLE, key_values, number_keys, scan
from registry.keys import KeySchema
from registry.signature import FLOAT32_MAX, InputSpec
from workers.features import Features, Matrix

_KINDS: Final[Mapping[str, int]] = {"float64": NUMBER, "float32": NUMBER, "int64": WHOLE, "bool": FLAG}
_MOST_BYTES: Final = 1 << 31  # what an int32 can point into


def read_plain(
    schema: KeySchema, reader: RowReader, names: Sequence[str], rows: bytes, limit: int
) -> tuple[KeyRows, Features] | None:
    """Keys and features of array rows whose columns have these names; None if they must be read the ordinary way.

    Args:
        schema: names the key fields.
        reader: of the signature.
        names: of the columns, checked.
        rows: what stands between the brackets of the list of rows.
        limit: of rows.
    """
    inputs = reader.inputs
    planned = _planned(schema, inputs, names)
    most = min(rows.count(b"["), limit)
    if planned is None or not most or len(rows) >= _MOST_BYTES:
        return None
    matrix: Matrix = np.empty((most, len(inputs)), dtype=np.float64)
    spans = np.empty((len(schema.fields), 2, most), dtype=np.int32)
    count = scan(rows, *planned, matrix, spans)
    if count < 0:
        return None
    matrix = matrix[:count]
    named = frozenset(names)
    if not all(_finished(matrix[:, position], spec, named) for position, spec in enumerate(inputs)):
        return None
    keys = _keys(rows, spans, count)
    return None if keys is None else (keys, Features(matrix))


def _planned(
    schema: KeySchema, inputs: Sequence[InputSpec], names: Sequence[str]
) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """What each column holds and where it goes; None if one holds, or an input takes, what is not read here."""
    fields = {field: place for place, field in enumerate(schema.fields)}
    sent = {spec.name: (place, spec) for place, spec in enumerate(inputs) if spec.from_key is None}
    if any(spec.dtype not in _KINDS for spec in inputs) or fields.keys() & sent.keys():
        return None
    kinds, places = [], []
    for name in names:
        if name in fields:
            kinds.append(KEY)
            places.append(fields[name])
        else:
            place, spec = sent[name]
            kinds.append(_KINDS[spec.dtype] | (NULLABLE if spec.nullable else 0))
            places.append(place)
    return np.array(kinds, dtype=np.int64), np.array(places, dtype=np.int64)


def _finished(column: NDArray[np.float64], spec: InputSpec, named: frozenset[str]) -> bool:
    """Make a column what its input takes, where cells alone do not say it; answers whether that could be done."""
    if spec.from_key is not None:
        column[:] = np.nan  # until the key feeds it
    elif spec.name not in named:
        if spec.required:
            return False
        default = number(spec, ABSENT)
        if spec.dtype == "int64" and abs(default) > EXACT:
            return False
        column[:] = default
    elif spec.dtype == "float32":
        if np.nanmax(np.abs(column), initial=0.0) > FLOAT32_MAX:
            return False
        column[:] = column.astype(np.float32)
    return True


def _keys(rows: bytes, spans: NDArray[np.int32], count: int) -> KeyRows | None:
    """Distinct keys; those of plain rows are sound as they stand."""
    numbered = number_keys(rows, spans, count)
    if numbered is None:
        return None
    firsts, key_rows = numbered
    return KeyRows(key_values(rows, spans, firsts), key_rows)
