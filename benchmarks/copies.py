"""Copies of a trained model that differ from it, and from each other, in every leaf value and most thresholds.

A fleet of a million distinct models cannot be trained for a benchmark, and putting model texts together number by
number costs as much as importing them. So digits are changed where they stand: past its second significant digit a
decimal fraction gets random digits, which moves the number by a few percent at most, keeps the text's length and with
it the sizes that LightGBM reads trees by, and costs a copy of the text. A number with an exponent (the threshold next
to zero, by which 0 and 1 are told apart) stays as it is. The digits come from the copy's number alone, so that any
process can make any copy again.
"""

import re
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

_LINE: Final = re.compile(rb"^(?:threshold|leaf_value)=(.*)$", re.MULTILINE)
_FRACTION: Final = re.compile(rb"-?(\d+)\.(\d+)(?![\d.e])")
_KEPT: Final = 2  # significant digits
_DIGIT: Final = bytes(ord("0") + byte % 10 for byte in range(256))

Numbers = NDArray[np.float64]


class Original:
    """A model text and the places of its digits that differ between copies."""

    def __init__(self, text: bytes) -> None:
        self._text = np.frombuffer(text, dtype=np.uint8)
        self._places = np.array(sorted(_places(text)), dtype=np.int64)
        if not len(self._places):
            raise ValueError("the model has no number of which a digit may change")

    def copy(self, number: int) -> bytes:
        """The text of a copy."""
        drawn = np.random.default_rng(number).bytes(len(self._places))
        text = self._text.copy()
        text[self._places] = np.frombuffer(drawn.translate(_DIGIT), dtype=np.uint8)
        return text.tobytes()


def thresholds(text: bytes) -> Numbers:
    """All thresholds of a model text, tree by tree."""
    return _numbers(text, b"threshold=")


def leaf_values(text: bytes) -> Numbers:
    """All leaf values of a model text, tree by tree."""
    return _numbers(text, b"leaf_value=")


def _numbers(text: bytes, name: bytes) -> Numbers:
    lines = [line[len(name) :] for line in text.split(b"\n") if line.startswith(name)]
    return np.array(b" ".join(lines).split(), dtype=np.float64)


def _places(text: bytes) -> Iterator[int]:
    for line in _LINE.finditer(text):
        for number in _FRACTION.finditer(text, *line.span(1)):
            start, end = number.span(2)
            significant = len(number[1].lstrip(b"0"))
            zeros = 0 if significant else len(number[2]) - len(number[2].lstrip(b"0"))
            yield from range(start + zeros + max(_KEPT - significant, 0), end)
