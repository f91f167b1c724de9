"""Packed models at work: from a resolved key to the address of its pack, and from addresses to scores.

A pack needs no load: its segment is mapped, and the pack is checked when this process first touches it. That is done
on the spot if its pages are in memory already; only what must come from the disk is waited for in a thread.
"""

from array import array
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from registry.errors import Problem
from workers.errors import PredictionFailedError, SegmentDamagedError
from workers.features import Features, Matrix
from workers.mappings import Mappings, Pin
from workers.packing.checks import SOUND, check
from workers.packing.kernel import order_by_key, score_at, score_row, score_rows, scratch
from workers.packing.layout import GOOD, INFINITE, MISSING, UNDECIDED, UNKNOWN
from workers.packing.scoring import coded, put_codes
from workers.packing.wire import checksum_of
from workers.resolving import Resolved
from workers.runtimes.categories import encode
from workers.runtimes.sheet import Sheet
from workers.scoring import rows_by_key
from workers.segments.packs import PackFile, resident

RANGE_ROWS: Final = 2048  # rows worth a thread's while

_SAID: Final[Mapping[int, str]] = {
    MISSING: "the model cannot take a missing value",
    INFINITE: "the model cannot take an infinite value, nor one too large for its precision",
    UNDECIDED: "the model answers probabilities that are not finite: no class is likeliest",
    UNKNOWN: "the model does not know a category of the row",
}

Addresses = NDArray[np.int64]


def refusal(state: int) -> PredictionFailedError:
    """Why the kernel refused a row."""
    return PredictionFailedError(_SAID.get(state, f"the model refuses the row ({state})"))


class PackedModels:
    """The packed models of this process. Safe from any thread.

    Whoever uses an address holds the `pin` it was asked for under.
    """

    def __init__(self, mappings: Mappings, *, threads: int = 2) -> None:
        self._mappings = mappings
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="kernel") if threads > 1 else None
        self._ranges = threads

    @property
    def pin(self) -> Pin:
        """What keeps addresses good that are asked for from now on."""
        return self._mappings.pin

    def close(self) -> None:
        """End the threads."""
        if self._threads is not None:
            self._threads.shutdown()

    def address(self, resolved: Resolved) -> int:
        """The address of a packed model, 0 if it must be brought from the disk first.

        Raises:
            SegmentDamagedError: if it is damaged.
            ModelLoadError: if this process can map no more.
        """
        packs = resolved.packs
        base = self._base(packs)
        if not packs.checked[resolved.row]:
            if not resident(base + resolved.pack, packs.length(resolved.row)):
                return 0
            _check(resolved, base)
        return base + resolved.pack

    def bring(self, resolved: Resolved) -> int:
        """The address of a packed model, read from the disk if need be. Raises as `address`."""
        _pin = self._mappings.pin  # whoever asked may have given up
        base = self._base(resolved.packs)
        if not resolved.packs.checked[resolved.row]:
            _check(resolved, base)
        return base + resolved.pack

    def _base(self, packs: PackFile) -> int:
        """Where packs are mapped, which they are now; notes that they are used."""
        base = packs.base or self._mappings.map(packs)
        packs.used = self._mappings.count
        return base

    def score(self, resolved: Resolved, address: int, features: Features) -> Matrix:
        """Scores of one model for all rows of a call, float64, shape (rows, signature.width).

        Raises:
            PredictionFailedError: if the model refuses a row.
        """
        if len(features) != 1:
            scores, states = score_at(address, coded(resolved.codes, features), resolved.signature.width)
            if states.any():
                raise refusal(int(states[states != GOOD][0]))
            return scores
        desk = resolved.desks.take()
        if features.cells is not None:
            desk.pack(*features.cells)
        else:
            desk.row[0] = features.matrix[0]
        if resolved.codes:
            encode([(at, at, known) for at, known in resolved.codes], features, (0,), desk.row)
        state = score_row(address, desk.row_address, desk.out_address, desk.scratch_address)
        one: Matrix = desk.out.copy()
        resolved.desks.give_back(desk)
        if state != GOOD:
            raise refusal(state)
        return one

    def score_sheet(
        self,
        sheet: Sheet,
        addresses: Sequence[int],
        key_rows: NDArray[np.int32],
        coded: Sequence[Resolved | None],
        problems: dict[int, Problem],
    ) -> None:
        """Score the rows whose key has an address; a refused row is a problem of its key, whose rows then hold NaN.

        `coded` is for each key what it resolved to, empty if no pack has codes.
        """
        packs = np.frombuffer(array("q", addresses), dtype=np.int64)[key_rows]
        rows = _by_key(key_rows, len(addresses))
        rows = rows[packs[rows] != 0]
        matrix = _with_codes(sheet.features, addresses, key_rows, coded)
        states = np.zeros(len(rows), dtype=np.int8)
        sources = matrix.ctypes.data + rows * (8 * matrix.shape[1])
        outs = sheet.address + rows * sheet.stride
        if self._in_ranges(packs[rows], sources, outs, states):
            refused = rows[states != GOOD]
            for key, state in zip(key_rows[refused].tolist(), states[states != GOOD].tolist(), strict=True):
                problems.setdefault(key, refusal(state))
            sheet.scores[np.isin(key_rows, key_rows[refused])] = np.nan

    def _in_ranges(self, packs: Addresses, sources: Addresses, outs: Addresses, states: NDArray[np.int8]) -> int:
        """Run the kernel, on ranges of rows side by side where there are many; answers how many rows are refused."""
        count = min(self._ranges, len(packs) // RANGE_ROWS)
        if self._threads is None or count < 2:
            return _run(packs, sources, outs, states)
        bounds = np.linspace(0, len(packs), count + 1).astype(int).tolist()
        ranges = [slice(start, end) for start, end in pairwise(bounds)]
        others = [self._threads.submit(_run, packs[of], sources[of], outs[of], states[of]) for of in ranges[1:]]
        refused = _run(packs[ranges[0]], sources[ranges[0]], outs[ranges[0]], states[ranges[0]])
        wait(others)
        return refused + sum(other.result() for other in others)


def _by_key(key_rows: NDArray[np.int32], keys: int) -> NDArray[np.int64]:
    """Row numbers, those of one model side by side."""
    if len(key_rows) < 2 * keys:  # hardly two rows a model: nothing would be gained
        return np.arange(len(key_rows))
    order = np.empty(len(key_rows), dtype=np.int64)
    order_by_key(np.ascontiguousarray(key_rows), np.zeros(keys + 1, dtype=np.int64), order)
    return order


def check_pack(packs: PackFile, row: int, base: int, shape: tuple[int, int, int], key: str) -> None:
    """Check a row's pack where it is mapped: its checksum, and that the kernel is safe with it.

    Args:
        packs: the packs of a segment.
        row: of the segment.
        base: where they are mapped.
        shape: of the signature: inputs, score columns, classes.
        key: the model's, for messages.

    Raises:
        SegmentDamagedError: if it is not what was written.
    """
    address, words = base + packs.offset(row), packs.length(row) // 8
    # From the file and not where it is mapped: what the disk cannot give is an error then, and no other thread waits.
    if checksum_of(packs.read(row)) != packs.checksum(row):
        raise SegmentDamagedError(f"the pack of {key!r} does not have its checksum")
    if check(address, words, *shape) != SOUND:
        raise SegmentDamagedError(f"the pack of {key!r} is not sound")
    packs.checked[row] = 1


def _check(resolved: Resolved, base: int) -> None:
    check_pack(resolved.packs, resolved.row, base, resolved.signature.shape, resolved.use.key)


def _run(packs: Addresses, sources: Addresses, outs: Addresses, states: NDArray[np.int8]) -> int:
    room = scratch()
    refused: int = score_rows(packs, sources, outs, states, room.ctypes.data)
    return refused


def _with_codes(
    features: Features, addresses: Sequence[int], key_rows: NDArray[np.int32], found: Sequence[Resolved | None]
) -> Matrix:
    """The rows of a call with each model's codes in its own rows; copied only if anything was found that has codes."""
    matrix: Matrix = np.ascontiguousarray(features.matrix, dtype=np.float64)  # who takes addresses makes sure
    if not found:
        return matrix
    matrix = matrix.copy()
    groups = rows_by_key(key_rows, len(found), len(matrix))
    for address, resolved, rows in zip(addresses, found, groups, strict=True):
        if address and resolved is not None and resolved.codes:
            put_codes(resolved.codes, features, rows, matrix)
    return matrix
