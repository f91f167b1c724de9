"""The rows of a bulk call, grouped by the model that answers for them.

Pure functions but for the models they run. Scoring writes every model's rows into one sheet, and what goes wrong with
one model stays with the keys it answers for.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from registry.errors import Problem
from workers.cache import ModelCache
from workers.client import ScoreCall
from workers.errors import prediction_failure
from workers.resolving import HeldRelease, Resolved
from workers.runtimes.runtime import LoadedModel
from workers.runtimes.sheet import Sheet

Rows = Sequence[int]


class Resolution:
    """The keys of a call resolved in one release.

    Attributes:
        found: for each key its model's place, or None.
        problems: position in the keys -> why there is none.
    """

    __slots__ = ("found", "problems")

    def __init__(self, held: HeldRelease, call: ScoreCall) -> None:
        self.problems: dict[int, Problem] = {}
        self.found: list[Resolved | None] = []
        resolve, max_level, disabled = held.resolve, call.max_level, call.disabled
        for position, key in enumerate(call.keys):
            try:
                self.found.append(resolve(key, max_level, disabled))
            except Problem as problem:
                self.found.append(None)
                self.problems[position] = problem


def rows_by_key(key_rows: NDArray[np.int32] | None, keys: int, rows: int) -> list[Rows]:
    """For each key its rows, ascending."""
    if key_rows is None:
        return [range(rows)]
    if keys == rows and bool((key_rows == np.arange(rows)).all()):
        return [(row,) for row in range(rows)]  # a row a key, in order: what a pass over a whole fleet looks like
    order = np.argsort(key_rows, kind="stable")
    bounds = np.searchsorted(key_rows[order], np.arange(keys + 1)).tolist()
    listed = order.tolist()
    return [listed[start:end] for start, end in pairwise(bounds)]


def score_models(
    sheet: Sheet, problems: dict[int, Problem], models: Sequence[tuple[int, LoadedModel]], rows: Sequence[Rows]
) -> None:
    """Run models, each with its position among the keys, on their rows of the sheet; packed ones together.

    What goes wrong with one is noted in `problems` by its position; its rows hold NaN.
    """
    packs: list[int] = []
    packed_rows: list[int] = []
    for position, model in models:
        own = rows[position]
        if model.pack:
            packs.extend([model.pack] * len(own))
            packed_rows.extend(own)
            continue
        try:
            model.predict_rows(sheet, own)
        except Exception as error:  # noqa: BLE001 - a model that breaks fails its own rows, never those of others
            problems[position] = prediction_failure(error)
            sheet.scores[list(own)] = np.nan
    if packs:
        sheet.score_packed(packs, packed_rows)


def score_warm(sheet: Sheet, resolution: Resolution, rows: Sequence[Rows], cache: ModelCache) -> list[int]:
    """Score the keys whose models are in the cache; answers the positions of the others."""
    cold: list[int] = []
    warm: list[tuple[int, LoadedModel]] = []
    get = cache.get
    for position, resolved in enumerate(resolution.found):
        if resolved is None:
            continue
        model = get(resolved.identity)
        if model is None:
            cold.append(position)
        else:
            warm.append((position, model))
    score_models(sheet, resolution.problems, warm, rows)
    return cold
