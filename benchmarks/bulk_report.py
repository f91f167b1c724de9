"""What `benchmarks.bulk` found in JSON bulks: figures beside both rivals, and a plot over the size of the fleet."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.plots import drawn
from benchmarks.report import Figure, of_rounds, spread


@dataclass(frozen=True)
class Rounds:
    """Rows a second of each round, over a fleet of ours of so many models."""

    models: int
    ours: list[float]
    rival: list[float]
    loop: list[float]


def json_figures(measured: Sequence[Rounds], rival_models: int) -> list[Figure]:
    """Three lines a fleet."""
    figures = []
    for of in measured:
        what = f"500-key JSON bulk over {of.models:,} models"
        ours = spread(of.ours, "rows/s")
        figures += [
            Figure(what, median(of.ours), "rows/s", f"ours {ours}", least=200_000),
            Figure(
                f"{what}, over a loop of Booster.predict",
                of_rounds(of.ours, of.loop),
                "x",
                f"loop over {rival_models:,} models {spread(of.loop, 'rows/s')}",
                least=5.0,
            ),
            Figure(
                f"{what}, over the rival's",
                of_rounds(of.ours, of.rival),
                "x",
                f"rival with {rival_models:,} models {spread(of.rival, 'rows/s')}",
                least=8.0,
            ),
        ]
    return figures


def draw(measured: Sequence[Rounds], path: Path) -> None:
    """Plot rows a second, a group of bars a fleet."""
    places = np.arange(len(measured))
    with drawn(path) as (axes,):
        for at, (label, name) in enumerate((("ours", "ours"), ("rival", "rival"), ("loop of Booster.predict", "loop"))):
            middles = [median(getattr(of, name)) for of in measured]
            axes.bar(places + (at - 1) * 0.27, middles, 0.25, label=label)
        axes.set(
            xticks=places,
            xticklabels=[f"{of.models:,} models" for of in measured],
            ylabel="rows a second",
            title="JSON bulks of 500 different models, one process on one core",
        )
        axes.legend()
