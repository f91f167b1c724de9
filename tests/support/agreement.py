"""Asking a house the same rows in every form, and comparing the answers with those of the native libraries."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from pandas.api.types import is_numeric_dtype

from tests.support import models
from tests.support.tables import STREAM, arrow_stream, made_live, read_stream

RELATIVE = {"lightgbm": 0.0, "sklearn": 1e-9, "onnx": 1e-6}


class Partition(NamedTuple):
    """A model, what its library answers to the rows (None: they were not asked), and the classes its author names."""

    model: models.TinyModel
    expected: Any
    classes: list[str] | None = None


def live(house, name, partitions, inputs, outputs, **changes):
    """A live group of these partitions by store."""
    signature = {"inputs": inputs, "outputs": outputs}
    group = house.create(name, key=["store"], fallback=[], signature=signature, **changes)
    rows = [
        {"store": store, "model": one.model.data, "runtime": one.model.runtime, "classes": one.classes}
        for store, one in partitions.items()
    ]
    made_live(house, group, rows, ["store"])
    return group


def cells(frame):
    """Rows as JSON objects: missing is null, categories are their values."""
    plain = frame.astype(object)
    return plain.where(plain.notna(), None).to_dict("records")


def singles(house, group, key, frame):
    """Predictions by objects, by arrays, and of the first row alone."""
    rows = cells(frame)
    answers = [
        house.client.post(f"{group}/predict", json={"key": key, "instances": instances})
        for instances in (rows, [list(row.values()) for row in rows], rows[:1])
    ]
    assert [answer.status_code for answer in answers] == [200] * 3, answers[0].text
    return [answer.json()["predictions"] for answer in answers]


def bulks(house, group, keys, frame):
    """Predictions of each key for all rows, by each bulk form; keys take turns row by row."""
    asked = [{**key, **row} for row in cells(frame) for key in keys]
    names = list(asked[0])
    bodies = [{"rows": asked}, {"columns": names[::-1], "data": [[row[name] for name in names[::-1]] for row in asked]}]
    found = []
    for body in bodies:
        told = house.client.post(f"{group}/predict/bulk", json=body).json()
        assert told["errors"] == []
        found.append(told["predictions"])
    table = pa.Table.from_pylist(asked, schema=arrow_schema(keys[0], frame))
    answer = house.client.post(f"{group}/predict/bulk", content=arrow_stream(table), headers=STREAM)
    told = read_stream(answer.content)
    assert told["error_code"].null_count == len(asked), told["error_detail"]
    outputs = [name for name in told.column_names if name not in ("fallback_level", "error_code", "error_detail")]
    found.append(told[outputs[0]].to_pylist() if len(outputs) == 1 else told.select(outputs).to_pylist())
    return [[form[place :: len(keys)] for place in range(len(keys))] for form in found]


def arrow_schema(key, frame):
    kinds = [(name, pa.string()) for name in key]
    for name, column in frame.items():
        values = column.dtype.categories if isinstance(column.dtype, pd.CategoricalDtype) else column
        kinds.append((name, pa.from_numpy_dtype(values.dtype) if is_numeric_dtype(values) else pa.string()))
    return pa.schema(kinds)


def agree(house, group, partitions, frame):
    """Check every partition by every form."""
    keys = [{"store": store} for store in partitions]
    forms = bulks(house, group, keys, frame)
    for place, (store, one) in enumerate(partitions.items()):
        for told in (*singles(house, group, keys[place], frame), *(form[place] for form in forms)):
            same(told, one.expected[: len(told)], RELATIVE[one.model.runtime], store)


def same(told, expected, relative, what):
    if isinstance(told[0], dict):
        for name in told[0]:
            same([row[name] for row in told], [row[name] for row in expected], relative, f"{what} {name}")
    elif isinstance(told[0], str) or relative == 0.0:
        assert told == np.asarray(expected).tolist(), what
    else:
        # The libraries themselves do not round one row and many alike: a probability has the precision of 1.
        np.testing.assert_allclose(told, expected, rtol=relative, atol=relative, err_msg=what)
