"""What `benchmarks.density` found: figures that set the largest fleet beside the smallest, a table, a plot."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.footprint import Footprint
from benchmarks.plots import drawn
from benchmarks.report import Figure, grid

MEBIBYTE: Final = 1 << 20


@dataclass(frozen=True)
class Size:
    """What was measured at one size of fleet. Times are seconds or, of predicts, microseconds; sizes are bytes.

    Attributes:
        import_rate: models a second, upload and proof and publication, of those that this size has more.
        build_seconds, live_seconds: from asking for the release until it is built; from promoting it to its answer.
        start_seconds, uncached_start_seconds: process start to first right answer, files in the page cache or not.
        segment_bytes, home_bytes: segments of the live release; everything of the home.
        resident, proportional, anonymous: of the serving process after all keys were asked.
        worker_first_p50, worker_first_p99, worker_p50, worker_p99: of a predict without HTTP, each model for the first
            time in the process, or again.
        first_rate: requests a second over 16 connections while every key is asked for the first time.
        http_p50, http_p99: over one connection.
        http_rate: requests a second over 16 connections.
        load_busy: share of its core that the load took at most.
        asked: distinct keys, in random order.
        compared: answers that were compared with the native library's, all equal to the last bit.
    """

    models: int
    import_rate: float
    build_seconds: float
    live_seconds: float
    start_seconds: float
    uncached_start_seconds: float
    segment_bytes: int
    home_bytes: int
    resident: int
    proportional: int
    anonymous: int
    worker_first_p50: float
    worker_first_p99: float
    worker_p50: float
    worker_p99: float
    first_rate: float
    http_p50: float
    http_p99: float
    http_rate: float
    load_busy: float
    hotfix_seconds: float
    asked: int
    compared: int


@dataclass(frozen=True)
class Sharing:
    """Memory of one and of two serving processes over one home, bytes, summed over the processes."""

    models: int
    one: int
    two: int
    one_anonymous: int
    two_anonymous: int


def figures(sizes: Sequence[Size], empty: Footprint, shared: Sequence[Sharing], limit: str) -> list[Figure]:
    """The largest size over the smallest, and two processes over one where that was measured."""
    small, large = sizes[0], sizes[-1]
    least = f"{small.models:,}"
    said = f"; not more because {limit}" if limit else ""

    def over(what: str, of: Callable[[Size], float], unit: str, digits: int = 0) -> Figure:
        beside = f"{of(large):,.{digits}f} {unit} against {of(small):,.{digits}f}"
        return Figure(f"{what}, {large.models:,} models over {least}", of(large) / of(small), "x", beside)

    return [
        Figure("largest fleet", large.models, "models", f"{large.compared:,} answers compared, all equal{said}"),
        over("predict without HTTP, p50", lambda size: size.worker_p50, "us", 1),
        over("predict without HTTP, p99", lambda size: size.worker_p99, "us", 1),
        over("predict over one connection, p50", lambda size: size.http_p50, "us"),
        over("predicts a second over 16 connections", lambda size: size.http_rate, "req/s"),
        over("one-model hotfix to live", lambda size: size.hotfix_seconds, "s", 2),
        over("process start to first right answer", lambda size: size.start_seconds, "s", 2),
        *(_sharing_figure(one, empty) for one in shared),
    ]


def _sharing_figure(shared: Sharing, empty: Footprint) -> Figure:
    return Figure(
        f"proportional memory of two processes over one, {shared.models:,} models",
        shared.two / shared.one,
        "x",
        f"{shared.two / MEBIBYTE:,.0f} MiB (anonymous {shared.two_anonymous / MEBIBYTE:,.0f}) against "
        f"{shared.one / MEBIBYTE:,.0f} MiB (anonymous {shared.one_anonymous / MEBIBYTE:,.0f}), every key asked; "
        f"an empty server has {empty.proportional / MEBIBYTE:,.0f} MiB",
        most=1.15,
    )


def table(sizes: Sequence[Size], empty: Footprint) -> str:
    """All that was measured, a column a size."""

    def thousand(size: Size, own: int, nothing: int) -> str:
        return f"{max(own - nothing, 0) / MEBIBYTE / (size.models / 1000):,.2f} MiB"

    lines: list[tuple[str, Callable[[Size], str]]] = [
        ("import", lambda s: f"{s.import_rate:,.0f} models/s"),
        ("release built", lambda s: f"{s.build_seconds:,.2f} s"),
        ("promoted and answering", lambda s: f"{s.live_seconds:,.2f} s"),
        ("one-model hotfix to live", lambda s: f"{s.hotfix_seconds:,.2f} s"),
        ("start to first right answer, files cached", lambda s: f"{s.start_seconds:,.2f} s"),
        ("the same, files not cached", lambda s: f"{s.uncached_start_seconds:,.2f} s"),
        ("segments, a model", lambda s: f"{s.segment_bytes / s.models:,.0f} bytes"),
        ("whole home with former releases, a model", lambda s: f"{s.home_bytes / s.models:,.0f} bytes"),
        ("resident memory", lambda s: f"{s.resident / MEBIBYTE:,.0f} MiB"),
        ("proportional memory", lambda s: f"{s.proportional / MEBIBYTE:,.0f} MiB"),
        (
            "proportional, a thousand models, beyond an empty server",
            lambda s: thousand(s, s.proportional, empty.proportional),
        ),
        ("anonymous, a thousand models, beyond an empty server", lambda s: thousand(s, s.anonymous, empty.anonymous)),
        ("predict without HTTP, p50 (p99)", lambda s: f"{s.worker_p50:,.1f} us ({s.worker_p99:,.1f})"),
        ("the same, model met first", lambda s: f"{s.worker_first_p50:,.1f} us ({s.worker_first_p99:,.1f})"),
        ("predict, 1 connection, p50 (p99)", lambda s: f"{s.http_p50:,.0f} us ({s.http_p99:,.0f})"),
        ("predicts, 16 connections", lambda s: f"{s.http_rate:,.0f} req/s"),
        ("the same, models met first", lambda s: f"{s.first_rate:,.0f} req/s"),
        ("load generator's own use of its core", lambda s: f"{s.load_busy:.2f}"),
        ("distinct keys asked", lambda s: f"{s.asked:,}"),
        ("answers compared, equal to the last bit", lambda s: f"{s.compared:,}"),
    ]
    return grid(
        ["models", *(f"{size.models:,}" for size in sizes)], [[name, *map(tell, sizes)] for name, tell in lines]
    )


def draw(sizes: Sequence[Size], empty: Footprint, path: Path) -> None:
    """Plot latency, throughput, start and memory over the size of the fleet."""
    plots: dict[str, dict[str, Callable[[Size], float]]] = {
        "one predict, microseconds": {
            "worker p50": lambda s: s.worker_p50,
            "worker p99": lambda s: s.worker_p99,
            "HTTP p50": lambda s: s.http_p50,
        },
        "predicts a second, 16 connections": {
            "models met again": lambda s: s.http_rate,
            "models met first": lambda s: s.first_rate,
        },
        "seconds": {
            "start to answer": lambda s: s.start_seconds,
            "the same files not cached": lambda s: s.uncached_start_seconds,
            "hotfix to live": lambda s: s.hotfix_seconds,
        },
        "memory of the serving process, MiB": {
            "proportional": lambda s: s.proportional / MEBIBYTE,
            "anonymous": lambda s: s.anonymous / MEBIBYTE,
            "empty server": lambda _: empty.proportional / MEBIBYTE,
        },
    }
    with drawn(path, rows=2, columns=2, size=(10, 7)) as places:
        for axes, (title, lines) in zip(places, plots.items(), strict=True):
            for label, of in lines.items():
                axes.plot([size.models for size in sizes], [of(size) for size in sizes], marker="o", label=label)
            axes.set(xscale="log", xlabel="models", title=title, ylim=(0, None))
            axes.legend()
