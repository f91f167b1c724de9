"""Linear models as packs: each input that a model reads is a term, each term adds to the raw numbers.

What stands before a linear model in a pipeline (imputers, scalers, encoders) is arithmetic on one input at a time, so
it is written into the input's term, in the library's own order, and only the sum over terms is the pack's own.

    word 0       input | operations << 16 | entries << 32
    word 1       what the term is: NUMBER, or a table by what becomes of a value that it lacks (IGNORED, REFUSED)
    operations   two words each: its code, its operand (float64)
    NUMBER       a coefficient for each raw number; a value that is missing or infinite is refused
    table        the values it knows (float64, ascending, NaN last), then for each of them a number for each raw number

Terms lie one behind the other in the section of parts. A category of text is known by its code (`Pack.codes`). A table
of no entries that ignores what it lacks only performs its operations: for inputs that are checked and then dropped.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from workers.packing.layout import MOST_POSITIONS, NotPackableError, Words, bits

NUMBER, IGNORED, REFUSED = range(3)

# Operations on a value before it is weighed. NO_INFINITY refuses what is infinite, as input validation does; the
# others keep a missing value missing, but for IMPUTE.
NO_INFINITY, IMPUTE, SUBTRACT, DIVIDE, MULTIPLY, ADD, AT_LEAST, AT_MOST = range(8)

MOST_OPERATIONS: Final = (1 << 16) - 1
MOST_ENTRIES: Final = 1 << 24

Operation = tuple[int, float]


@dataclass(frozen=True, slots=True)
class Term:
    """One input's share.

    Attributes:
        position: of the input in the signature.
        operations: code and operand of each.
        weights: float64, shape (raw,) of a number, (entries, raw) of a table.
        entries: the values of a table, float64, None for a number.
        refuses: whether a table refuses what it lacks.
    """

    position: int
    operations: Sequence[Operation]
    weights: NDArray[np.float64]
    entries: NDArray[np.float64] | None = None
    refuses: bool = False


def laid_out(terms: Sequence[Term]) -> Words:
    """The words of the terms, one behind the other.

    Raises:
        NotPackableError: if one has more of something than its head can say.
    """
    words = [_words(term) for term in terms]
    return np.concatenate(words, dtype=np.int64) if words else np.empty(0, dtype=np.int64)


def _words(term: Term) -> Words:
    count = 0 if term.entries is None else len(term.entries)
    if term.position >= MOST_POSITIONS or len(term.operations) > MOST_OPERATIONS or count > MOST_ENTRIES:
        raise NotPackableError("shape", "a term is larger than a pack can number")
    kind = NUMBER if term.entries is None else (REFUSED if term.refuses else IGNORED)
    head = [term.position | len(term.operations) << 16 | count << 32, kind]
    for code, operand in term.operations:
        head += [code, bits(operand)]
    entries: NDArray[np.float64] = np.empty(0)
    weights = term.weights
    if term.entries is not None:
        order = np.argsort(term.entries, kind="stable")  # NaN is last
        entries, weights = term.entries[order], term.weights[order]
    numbers = np.concatenate((entries, weights.ravel())).astype(np.float64)
    return np.concatenate((np.array(head, dtype=np.int64), numbers.view(np.int64)))
