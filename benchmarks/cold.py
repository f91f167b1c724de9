"""What stands between a model's file and its first answer: packing, loading the usual ways, and a server's cold start.

`python -m benchmarks.cold --write docs/benchmarks.md`; `--home DIR` takes the home of `benchmarks.density` in besides.
A pack is made and proven once, when a model is registered; what else a user could run loads every model in every
process, at every start.
"""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.arguments import arguments
from benchmarks.bulk import HOME, given_home, imported, rivals_of
from benchmarks.control import Control
from benchmarks.loading import WAYS, Readied, readied, write_ways
from benchmarks.machine import machine
from benchmarks.payloads import BULK_KEYS
from benchmarks.plots import drawn
from benchmarks.processes import module
from benchmarks.report import PLOTS, Figure, as_text, of_rounds, say, spread, write_into
from benchmarks.start import Start, measure_start

SIZES: Final = (1_000, 10_000)
QUICK_SIZES: Final = (500,)
LOADED: Final = 1000
QUICK_LOADED: Final = 100


@dataclass(frozen=True)
class Started:
    """A cold start over a home of so many models."""

    models: int
    start: Start


def loading_figures(folder: Path, models: int, rounds: int) -> list[Figure]:
    """Packing and each way of loading: time and held memory a model."""
    say(f"making {models:,} models ready in {len(WAYS)} ways")
    folder.mkdir()
    write_ways(folder, models)
    found: dict[str, list[Readied]] = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way, rows in found.items():
            rows.append(readied(way, folder))
    seconds = {way: [one.seconds for one in rows] for way, rows in found.items()}
    sizes = {way: [one.size for one in rows] for way, rows in found.items()}
    pack = seconds["pack"]
    figures = [
        Figure(
            "packing on one core, proof included",
            median(1 / one for one in pack),
            "models/s",
            spread([1000 * one for one in pack], "ms a model", 2),
        )
    ]
    for way in ("native", "onnxruntime", "joblib"):
        took = spread([1000 * one for one in seconds[way]], "ms a model", 2)
        figures.append(Figure(f"load by {_NAMES[way]}, share of packing", of_rounds(seconds[way], pack), "x", took))
    for way in ("native", "onnxruntime", "joblib"):
        held = f"{_kilobytes(sizes[way])}, a pack {_kilobytes(sizes['pack'])}"
        ratio = of_rounds(sizes[way], sizes["pack"])
        figures.append(Figure(f"memory of a model by {_NAMES[way]}, over its pack", ratio, "x", held))
    return figures


_NAMES: Final = {"native": "lightgbm.Booster", "onnxruntime": "an onnxruntime session", "joblib": "joblib.load"}


def _kilobytes(sizes: Sequence[float]) -> str:
    return f"{median(sizes) / 1000:,.1f} KB"


def start_figures(folder: Path, sizes: Sequence[int], home: Path | None, times: int) -> tuple[list[Started], Figure]:
    """Cold starts of ours over homes of all sizes; the rival's over the smallest, as a figure."""
    found = []
    for models in sizes:
        with imported(folder, models):
            pass
        found.append(Started(models, measure_start(folder / f"home-{models}", models, times=times)))
    if home is not None:
        with given_home(home / "home", folder) as ours:
            models = ours.models
        found.append(Started(models, measure_start(home / "home", models, times=times)))
    least = found[0]
    rival = _rival_start(folder, least.models)
    beside = f"rival {rival:,.2f} s, loading {least.models:,} sessions; ours {least.start.cached:,.2f} s"
    return found, Figure("the rival's start over ours, the same models", rival / least.start.cached, "x", beside)


def _rival_start(folder: Path, models: int) -> float:
    """Seconds from the start of the rival's process to its first answer."""
    with rivals_of(folder, models) as rivals:
        bulk = rivals.bodies.read_bytes().splitlines()[0]
    begun = time.perf_counter()
    with module("rival", ["--models", str(folder / "onnx")]) as served:
        Control(served.port).predict("/predict/bulk", [bulk])
        return time.perf_counter() - begun


def figures_of(started: Sequence[Started]) -> list[Figure]:
    """Cold starts, each over the smallest home's."""
    least = started[0]
    return [
        Figure(
            f"start to first right answer, {one.models:,} models over {least.models:,}",
            one.start.cached / least.start.cached,
            "x",
            f"{one.start.cached:,.2f} s; {one.start.uncached:,.2f} s with the home's files out of the page cache",
        )
        for one in started
    ]


def draw(started: Sequence[Started], path: Path) -> None:
    """Plot cold starts over the size of the home."""
    models = [one.models for one in started]
    cached, uncached = [one.start.cached for one in started], [one.start.uncached for one in started]
    with drawn(path) as (axes,):
        axes.plot(models, cached, marker="o", label="files in the page cache")
        axes.plot(models, uncached, marker="s", linestyle="--", label="files on the disk")
        axes.set(
            xscale="log", xlabel="models", ylabel="seconds", title="process start to first right answer", ylim=(0, None)
        )
        axes.legend()


def main() -> None:
    """Measure and print the report."""
    given = arguments("benchmarks.cold", __doc__, home=HOME, quick=f"{QUICK_LOADED} models").parse_args()
    for fact in machine():
        say(fact)
    sizes, loaded, times = (QUICK_SIZES, QUICK_LOADED, 1) if given.quick else (SIZES, LOADED, 3)
    assert min(sizes) >= BULK_KEYS, "the rival is asked a whole bulk"
    with tempfile.TemporaryDirectory(prefix="manymodels-bench-") as name:
        folder = Path(name)
        figures = loading_figures(folder / "loaded", loaded, times)
        started, rival = start_figures(folder, sizes, given.home, times)
    figures += [*figures_of(started), rival]
    say(as_text(figures))
    if given.write is not None:
        plot = "![Cold starts over the size of the home](benchmarks/cold.png)"
        write_into(given.write, "benchmarks.cold", figures, [plot])
        draw(started, PLOTS / "cold.png")


if __name__ == "__main__":
    main()
