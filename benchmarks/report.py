"""Figures of a run: ratios first, for they travel to other machines; what they were made of beside them."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.machine import machine

PLOTS: Final = Path(__file__).resolve().parent.parent / "docs" / "benchmarks"
END: Final = "<!-- end of figures -->"


@dataclass(frozen=True)
class Figure:
    """One line of the report.

    Attributes:
        what: is measured.
        value: the figure, a ratio unless the words say otherwise.
        unit: behind the value: "x", "s", "rows/s".
        beside: the absolutes.
        least, most: the target; None where there is none.
    """

    what: str
    value: float
    unit: str
    beside: str = ""
    least: float | None = None
    most: float | None = None

    @property
    def shown(self) -> str:
        """The value as text."""
        digits = 0 if abs(self.value) >= 100 else 2
        return f"{self.value:,.{digits}f} {self.unit}"

    @property
    def target(self) -> str:
        """The target as text."""
        if self.least is not None:
            return f"at least {self.least:,g}"
        return f"at most {self.most:,g}" if self.most is not None else ""

    @property
    def verdict(self) -> str:
        """Whether the target is met; empty without one."""
        if self.least is None and self.most is None:
            return ""
        met = (self.least is None or self.value >= self.least) and (self.most is None or self.value <= self.most)
        return "met" if met else "MISSED"


def say(text: str) -> None:
    """Print a line now, whoever reads it."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def of_rounds(over: Sequence[float], under: Sequence[float]) -> float:
    """The median of the ratios of each round: both sides of a ratio met the same noise."""
    return median(first / second for first, second in zip(over, under, strict=True))


def spread(values: Sequence[float], unit: str, digits: int = 0) -> str:
    """Median and range of the rounds."""
    middle, least, most = (f"{value:,.{digits}f}" for value in (median(values), min(values), max(values)))
    return f"{middle} {unit} ({least} to {most})"


def as_text(figures: Sequence[Figure]) -> str:
    """The report for a terminal."""
    wide = max(len(figure.what) for figure in figures)
    return "\n".join(
        f"{figure.what:<{wide}}  {figure.shown:>16}  {figure.verdict:<6} {figure.target:<18} {figure.beside}".rstrip()
        for figure in figures
    )


def as_markdown(figures: Sequence[Figure], others: Sequence[str]) -> str:
    """The report for the documentation: machine, the figures, then other tables and plots, in Markdown already."""
    table = ["| what | figure | target | | absolutes: median (range) |", "| --- | --- | --- | --- | --- |"]
    table += [f"| {f.what} | {f.shown} | {f.target} | {f.verdict} | {f.beside} |" for f in figures]
    facts = [f"- {fact}" for fact in machine()]
    parts = [f"Run of {datetime.now(UTC):%Y-%m-%d}.", "", *facts, "", *table]
    for other in others:
        parts += ["", other]
    return "\n".join(parts)


def grid(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table of words, as Markdown that can be read in a terminal too."""
    wide = [max(len(line[at]) for line in (head, *lines)) for at in range(len(head))]
    spelled = [" | ".join(cell.ljust(width) for cell, width in zip(line, wide, strict=True)) for line in (head, *lines)]
    spelled.insert(1, " | ".join("-" * width for width in wide))
    return "\n".join(f"| {line} |" for line in spelled)


def write_into(path: Path, command: str, figures: Sequence[Figure], others: Sequence[str] = ()) -> None:
    """Replace what a command has written into a document before: its figures, then other tables and plots.

    Raises:
        ValueError: if the document does not mark its place.
    """
    mark = f"<!-- figures: written by python -m {command} --write -->"
    text = path.read_text()
    before, begin, rest = text.partition(mark)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{path} must hold the lines {mark!r} and {END!r}")
    path.write_text(f"{before}{mark}\n\n{as_markdown(figures, others)}\n\n{END}{after}")
    say(f"wrote {path}")
