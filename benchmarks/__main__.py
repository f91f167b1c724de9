"""`make bench`: every measurement in one run, figures at its end.

`python -m benchmarks --write docs/benchmarks.md` replaces the table there and draws the plots beside it; `--only`
picks parts, `--quick` makes everything small, to try the harness itself.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from benchmarks import payloads
from benchmarks.fleet import write_fleet
from benchmarks.fleet_import import import_figures
from benchmarks.hotpath import hotpath_figures
from benchmarks.machine import machine
from benchmarks.memory import STEP, memory_figures
from benchmarks.report import PLOTS, Figure, as_text, say, write_into
from benchmarks.serving import MODELS, serving_figures


@dataclass(frozen=True)
class Run:
    """One run: its folder, and how large everything is."""

    folder: Path
    quick: bool

    @property
    def models(self) -> int:
        """Models of the large fleet."""
        return 1000 if self.quick else 10_000

    @cached_property
    def fleet(self) -> Path:
        """The Parquet file of the large fleet."""
        return self._fleet("fleet.parquet", self.models)

    def serving(self) -> list[Figure]:
        """Predicts over sockets, then the same without a network over the home they leave."""
        folder = self.folder / "serving"
        folder.mkdir()
        parquet = self._fleet("thousand.parquet", MODELS)
        measured = serving_figures(folder, parquet, rounds=3, seconds=1.0 if self.quick else 3.0)
        single, bulk = folder / "single.jsonl", folder / "bulk.jsonl"
        return measured + hotpath_figures(folder / "home", single, bulk, payloads.BULK_KEYS)

    def fleet_import(self) -> list[Figure]:
        """Import of the large fleet, hotfix and disable."""
        return import_figures(self.folder / "home", self.fleet, models=self.models)

    def memory(self) -> list[Figure]:
        """Memory over many random requests; imports the fleet if that was not measured before."""
        home = self.folder / "home"
        if not home.exists():
            self.fleet_import()
        requests = 5 * STEP if self.quick else 50_000
        plot = None if self.quick else PLOTS / "memory.png"
        return memory_figures(home, self.folder, plot, models=self.models, requests=requests)

    def _fleet(self, name: str, models: int) -> Path:
        path = self.folder / name
        say(f"making {models:,} models")
        write_fleet(path, models)
        return path


def main() -> None:
    """Run the parts and print their figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--write", type=Path, metavar="FILE", help="replace the table of this document")
    parser.add_argument("--only", choices=("serving", "fleet_import", "memory"), nargs="+", default=None)
    parser.add_argument("--quick", action="store_true", help="small sizes; the figures mean little")
    given = parser.parse_args()
    for fact in machine():
        say(fact)
    with tempfile.TemporaryDirectory(prefix="manymodels-bench-") as folder:
        run = Run(Path(folder), given.quick)
        parts = {"serving": run.serving, "fleet_import": run.fleet_import, "memory": run.memory}
        figures = [figure for name in given.only or parts for figure in _part(name, parts[name])]
    if given.write is not None:
        write_into(given.write, "benchmarks", figures)


def _part(name: str, measure: Callable[[], Sequence[Figure]]) -> Sequence[Figure]:
    say(f"\n{name}")
    started = time.monotonic()
    figures = measure()
    say(as_text(figures))
    say(f"({time.monotonic() - started:.0f} s)")
    return figures


if __name__ == "__main__":
    main()
