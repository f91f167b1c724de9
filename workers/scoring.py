"""The keys of a bulk call, sorted by what each needs, and its rows by the model that answers for them.

Scoring writes every model's rows into one sheet, and what goes wrong with one model stays with the keys it answers
for.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from registry.errors import Problem
from workers.cache import ModelCache
from workers.client import ModelUse, ScoreCall
from workers.errors import ReleaseNotReadyError, prediction_failure
from workers.resolving import HeldRelease, Resolved
from workers.runtimes.runtime import LoadedModel
from workers.runtimes.sheet import Sheet
from workers.sandbox.sandbox import SandboxedModel

Rows = Sequence[int]


class Bulk:
    """The keys of a call resolved in one release. Belongs to one call, which holds a pin from before it is made.

    Attributes:
        found: for each key its model's place, or None.
        problems: position in the keys -> why there is no answer.
        addresses: for each key the address of its pack, 0 for none.
        distant: positions of packs that must be brought from the disk first.
        warm: positions and models of those that are loaded in this process.
        sandboxed: positions and models of those that are loaded in a sandbox.
        cold: positions of models that must be loaded.
        coded: whether any pack has codes.
    """

    __slots__ = ("addresses", "coded", "cold", "distant", "found", "problems", "sandboxed", "warm")

    def __init__(
        self, held: HeldRelease, call: ScoreCall, cache: ModelCache, address: Callable[[Resolved], int], now: int
    ) -> None:
        """`address` answers a packed model's address, 0 if it is distant, or raises what is wrong with it.

        `now` is what packs that are used note, as `PackFile.used`.
        """
        self.problems: dict[int, Problem] = {}
        self.found: list[Resolved | None] = list(map(held.remembered.get, call.keys))
        self.addresses: list[int] = []
        self.distant: list[int] = []
        self.warm: list[tuple[int, LoadedModel]] = []
        self.sandboxed: list[tuple[int, SandboxedModel]] = []
        self.cold: list[int] = []
        self.coded = False
        if call.disabled or call.max_level < held.deepest or not all(self.found):
            self._resolve(held, call)
        for position, resolved in enumerate(self.found):
            at = 0
            if resolved is not None:
                packs = resolved.packs
                base = packs.base  # read once: another call may unmap it meanwhile
                if base and packs.checked[resolved.row]:  # then `address` would say and note just this
                    packs.used = now
                    at = base + resolved.pack
                else:
                    at = self._look_closer(position, resolved, cache, address)
                if resolved.codes:
                    self.coded = True
            self.addresses.append(at)

    def uses(self) -> list[ModelUse | None]:
        """For each key the model that answered, or None."""
        uses = [None if resolved is None else resolved.use for resolved in self.found]
        for position in self.problems:
            uses[position] = None
        return uses

    def _resolve(self, held: HeldRelease, call: ScoreCall) -> None:
        """Look closer at what is not remembered, or may be ruled out for this call."""
        found, max_level, disabled = self.found, call.max_level, call.disabled
        for position, resolved in enumerate(found):
            if resolved is None or disabled or resolved.use.fallback_level > max_level:
                try:
                    found[position] = held.resolve(call.keys[position], max_level, disabled)
                except ReleaseNotReadyError:  # the whole call is for another worker, who may hold all of it
                    raise
                except Problem as problem:
                    found[position] = None
                    self.problems[position] = problem

    def _look_closer(
        self, position: int, resolved: Resolved, cache: ModelCache, address: Callable[[Resolved], int]
    ) -> int:
        """What a key needs whose pack is no known good one; answers the pack's address, 0 for none."""
        if resolved.pack < 0:
            model = cache.get(resolved.identity)
            if model is None:
                self.cold.append(position)
            elif isinstance(model, SandboxedModel):
                self.sandboxed.append((position, model))
            else:
                self.warm.append((position, model))
            return 0
        try:
            at = address(resolved)
        except Problem as problem:
            self.problems[position] = problem
            return 0
        if not at:
            self.distant.append(position)
        return at


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
    """Run native models, each with its position among the keys, on their rows of the sheet.

    What goes wrong with one is noted in `problems` by its position; its rows hold NaN.
    """
    for position, model in models:
        own = rows[position]
        try:
            model.predict_rows(sheet, own)
        except Exception as error:  # noqa: BLE001 - a model that breaks fails its own rows, never those of others
            problems[position] = prediction_failure(error)
            sheet.scores[list(own)] = np.nan
