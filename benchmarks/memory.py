"""Memory of a serving process that may map a third of its fleet at once, over fifty thousand random requests.

What must not grow is anonymous memory: resolved keys, bookkeeping of what is mapped, and whatever a leak or a torn heap
would add. File-backed pages (libraries and mapped segments) are drawn apart; they come and go with the mappings.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Final

import numpy as np

from benchmarks import payloads
from benchmarks.control import Control
from benchmarks.machine import SERVER_CORE
from benchmarks.payloads import PREDICT
from benchmarks.plots import drawn
from benchmarks.processes import house, load
from benchmarks.report import Figure, say

MAPPED_BYTES: Final = 64 << 20
STEP: Final = 2000
SETTLING: Final = 6000  # requests until the budget is full and every code path was taken
CONNECTIONS: Final = 8


@dataclass(frozen=True, slots=True)
class Sample:
    """Resident memory after some requests, MiB."""

    requests: int
    anonymous: float
    file_backed: float


def memory_figures(home: Path, folder: Path, plot: Path | None, *, models: int, requests: int) -> list[Figure]:
    """Serve an imported fleet with few mapped bytes, touch it at random and watch; `plot` is written if given."""
    bodies = payloads.write_lines(folder / "random.jsonl", payloads.random_singles(models, requests))
    rates: list[float] = []
    with house(home, environment={"MANYMODELS_MAPPED_BYTES": str(MAPPED_BYTES)}) as served:
        control = Control(served.port)
        control.ready()
        served.place(SERVER_CORE)
        pid = control.serving_pid()
        say(f"sending {requests:,} requests")
        samples = [_sample(pid, 0)]
        for done in range(0, requests, STEP):
            step = ["--count", str(STEP), "--skip", str(done), "--connections", str(CONNECTIONS)]
            rates.append(load(served.port, PREDICT, bodies, *step).rate)
            samples.append(_sample(pid, done + STEP))
        packs = control.call("GET", "/v1/status")["packs"]
    if plot is not None:
        draw(samples, plot, models)
    return _figures(samples, rates, f"segments unmapped {packs['unmapped']:,} times")


def _figures(samples: Sequence[Sample], rates: Sequence[float], mapped: str) -> list[Figure]:
    settled = [sample for sample in samples if sample.requests >= SETTLING]
    fifth = max(2, len(settled) // 5)
    first = fmean(sample.anonymous for sample in settled[:fifth])
    last = fmean(sample.anonymous for sample in settled[-fifth:])
    slope, _ = np.polyfit([s.requests / 1000 for s in settled], [s.anonymous * 1024 for s in settled], 1)
    half = settled[len(settled) // 2 :]
    peak = max(sample.anonymous for sample in samples)
    later, _ = np.polyfit([s.requests / 1000 for s in half], [s.anonymous * 1024 for s in half], 1)
    said = (
        f"{first:.0f} MiB to {last:.0f} MiB, peak {peak:.0f} MiB; {slope:+.0f} KiB per 1,000 requests, "
        f"{later:+.0f} in the second half; {mapped}"
    )
    rate = fmean(rates[len(rates) // 5 :])
    return [
        Figure(
            "anonymous memory, last fifth of the requests over the first",
            last / first,
            "x",
            said,
            most=1.05,
        ),
        Figure(
            "predicts of a fleet three times the mapped bytes", rate, "req/s", f"{CONNECTIONS} connections, random keys"
        ),
    ]


def draw(samples: Sequence[Sample], path: Path, models: int) -> None:
    """Plot the samples."""
    thousands = [sample.requests / 1000 for sample in samples]
    with drawn(path) as (axes,):
        axes.plot(thousands, [sample.anonymous for sample in samples], label="anonymous", linewidth=2)
        axes.plot(thousands, [sample.file_backed for sample in samples], label="file-backed", linestyle="--")
        axes.axhline(MAPPED_BYTES / 2**20, color="grey", linewidth=1, linestyle=":", label="bytes that may be mapped")
        axes.set(
            xlabel="thousand requests",
            ylabel="resident memory, MiB",
            title=f"{models:,} models touched at random, 64 MiB mapped at most",
            ylim=(0, None),
        )
        axes.legend()


def _sample(pid: int, requests: int) -> Sample:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    kibibytes = {line.partition(":")[0]: line.split()[1] for line in lines if line.startswith("Rss")}
    return Sample(requests, int(kibibytes["RssAnon"]) / 1024, int(kibibytes["RssFile"]) / 1024)
