"""How much a fleet of a million models costs to hold and to ask, beside fleets of a thousand and up.

One home grows from size to size, and at each size the same is measured: `python -m benchmarks.density --home DIR
--models 1000000 --write docs/benchmarks.md`. That takes hours, most of them imports; a run that was broken off goes on
where it stopped, and a size that the folder's journal knows is not measured again. `--quick` tries the harness on small
fleets in a folder that is thrown away.
"""

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Final

import orjson

from benchmarks import payloads
from benchmarks.arguments import arguments
from benchmarks.control import Control
from benchmarks.density_report import Sharing, Size, draw, figures, table
from benchmarks.direct import direct
from benchmarks.fleet import GROUP, booster, keys, rows
from benchmarks.footprint import Footprint, disk_bytes
from benchmarks.growth import GrowingHome, hotfix
from benchmarks.machine import SERVER_CORE, machine
from benchmarks.payloads import PREDICT, single
from benchmarks.processes import Served, house, load, measure
from benchmarks.report import PLOTS, as_text, say, write_into
from benchmarks.start import measure_start, started

SIZES: Final = (1_000, 10_000, 100_000)
SHARED_MODELS: Final = 100_000
ASKED: Final = 60_000  # distinct keys at large sizes: the server remembers the last 32,768
COMPARED: Final = 500
CONNECTIONS: Final = 16
FIRST_BYTES: Final = 150_000.0  # of disk a model, until two sizes tell better
TOUCH_SECONDS: Final = 3600.0
# The largest release takes longer to map than the default allows on a busy machine; nothing else is changed.
PATIENT: Final = {"MANYMODELS_PROMOTE_SECONDS": "600"}


def density(
    growing: GrowingHome, sizes: Sequence[int], *, asked: int, times: int, seconds: float
) -> tuple[list[Size], str]:
    """Measure each size that fits on the disk; the sizes, and what the limit was if one does not fit.

    Two processes are set beside one at `SHARED_MODELS`, or at the largest size if all are smaller.
    """
    known = {size.models: size for size in (Size(**entry) for entry in growing.noted("size"))}
    measured: list[Size] = []
    for models in sizes:
        done = measured[-1].models if measured else 0
        if models not in known:
            limit = growing.lacks_room(models - done, _model_bytes(measured))
            if limit:
                say(limit)
                return measured, limit
            known[models] = _size(growing, done, models, asked=asked, times=times, seconds=seconds)
            if models == min(SHARED_MODELS, max(sizes)):
                growing.note("sharing", asdict(sharing(growing, models)))
            growing.note("size", asdict(known[models]))
        measured.append(known[models])
        say(f"{models:,} models: {known[models]}")
    return measured, ""


def _model_bytes(measured: Sequence[Size]) -> float:
    """What one more model takes on the disk, as far as the last two sizes tell."""
    if len(measured) < 2:
        return FIRST_BYTES
    before, last = measured[-2:]
    return 1.1 * (last.home_bytes - before.home_bytes) / (last.models - before.models)


def _size(growing: GrowingHome, low: int, models: int, *, asked: int, times: int, seconds: float) -> Size:
    with house(growing.home, environment=PATIENT) as served:
        control = Control(served.port)
        control.ready()
        growing.grow(control, models)
        hotfixes = hotfix(control, models // 2, times)
        segment_bytes = int(control.call("GET", f"/v1/groups/{GROUP}")["live"]["bytes"])
    built, live = growing.release_seconds(models)
    asked = min(asked, models)
    bodies = payloads.write_lines(growing.folder / "bodies.jsonl", payloads.singles(models, asked))
    say("starting")
    start = measure_start(growing.home, models, times=times)
    with started(growing.home, 0) as (served, _):
        compared = _compare(Control(served.port), models, min(COMPARED, asked))
        say("asking")
        touched = _touch(served, bodies, asked)
        one = measure(served, PREDICT, bodies, connections=1, seconds=seconds)
        many = measure(served, PREDICT, bodies, connections=CONNECTIONS, seconds=seconds)
        memory = Footprint.of(*Control(served.port).serving_pids())
    say("asking the worker itself")
    worker = direct(growing.home, bodies, timeout=TOUCH_SECONDS)
    return Size(
        models=models,
        import_rate=growing.import_rate(low, models),
        build_seconds=built,
        live_seconds=live,
        start_seconds=start.cached,
        uncached_start_seconds=start.uncached,
        segment_bytes=segment_bytes,
        home_bytes=disk_bytes(growing.home),
        resident=memory.resident,
        proportional=memory.proportional,
        anonymous=memory.anonymous,
        worker_first_p50=worker.first_p50,
        worker_first_p99=worker.first_p99,
        worker_p50=worker.p50,
        worker_p99=worker.p99,
        first_rate=touched,
        http_p50=one.p50,
        http_p99=one.p99,
        http_rate=many.rate,
        load_busy=max(one.busy, many.busy),
        hotfix_seconds=median(hotfixes),
        asked=asked,
        compared=compared,
    )


def _touch(served: Served, bodies: Path, asked: int) -> float:
    """Ask every key once, for the first time in this process; requests a second."""
    served.place(SERVER_CORE)
    given = ["--count", str(asked), "--connections", str(CONNECTIONS)]
    return load(served.port, PREDICT, bodies, *given, timeout=TOUCH_SECONDS).rate


def _compare(control: Control, models: int, count: int) -> int:
    """Ask models spread over the whole fleet: each answer must be the native one to the last bit."""
    step = max(models // count, 1)
    numbers = range(step // 2, models, step)
    known, table_ = keys(models), rows(len(numbers), seed=11)
    bodies = [orjson.dumps(single(known[at], row)) for at, row in zip(numbers, table_.tolist(), strict=True)]
    answers = [orjson.loads(answer)["predictions"][0] for answer in control.predict(PREDICT, bodies)]
    natives = [float(booster(at).predict(row[None], num_threads=1)[0]) for at, row in zip(numbers, table_, strict=True)]
    assert answers == natives, "our answers must equal Booster.predict to the last bit"
    return len(answers)


def sharing(growing: GrowingHome, models: int) -> Sharing:
    """Memory of two serving processes over a home of this many models beside one; every key is asked by each of both.

    Half the connections go to either process as the kernel pleases, so keys are asked four times.
    """
    bodies = payloads.write_lines(growing.folder / "bodies.jsonl", payloads.singles(models, models))
    found: list[Footprint] = []
    for processes in (1, 2):
        say(f"{processes} serving over {models:,} models")
        with house(growing.home, processes=processes) as served:
            control = Control(served.port)
            control.ready()
            control.until_live(keys(1)[0])
            given = ["--count", str(4 * models), "--connections", str(CONNECTIONS)]
            load(served.port, PREDICT, bodies, *given, timeout=TOUCH_SECONDS)
            pids = control.serving_pids()
            assert len(pids) == processes, f"{len(pids)} of {processes} processes serve"
            found.append(Footprint.of(*pids))
    one, two = found
    return Sharing(models, one.proportional, two.proportional, one.anonymous, two.anonymous)


def empty_house() -> Footprint:
    """A server that holds nothing: what every size has besides its models."""
    with tempfile.TemporaryDirectory(prefix="manymodels-bench-") as folder, house(Path(folder) / "home") as served:
        control = Control(served.port)
        control.ready()
        return Footprint.of(control.serving_pid())


def main() -> None:
    """Measure all sizes and print the report."""
    home = "folder of the home that grows, and of its journal"
    parser = arguments("benchmarks.density", __doc__, home=home, quick="100 and 300 models")
    parser.add_argument("--models", type=int, default=1_000_000, help="the largest fleet")
    given = parser.parse_args()
    if given.home is None and not given.quick:
        parser.error("--home is needed, on a disk with room")
    for fact in machine():
        say(fact)
    with ExitStack() as stack:
        folder = given.home or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="manymodels-bench-")))
        folder.mkdir(parents=True, exist_ok=True)
        growing = GrowingHome(folder.absolute())
        sizes = (100, 300) if given.quick else sorted({size for size in SIZES if size < given.models} | {given.models})
        empty = empty_house()
        times, seconds = (1, 1.0) if given.quick else (3, 4.0)
        measured, limit = density(growing, sizes, asked=ASKED, times=times, seconds=seconds)
        shared = [Sharing(**entry) for entry in growing.noted("sharing")][-1:]
    found = figures(measured, empty, shared, limit)
    sizes_table = table(measured, empty)
    say(f"{as_text(found)}\n\n{sizes_table}")
    if given.write is not None:
        plot = "![Predicts, starts and memory over the size of the fleet](benchmarks/density.png)"
        write_into(given.write, "benchmarks.density", found, [sizes_table, plot])
        draw(measured, empty, PLOTS / "density.png")


if __name__ == "__main__":
    main()
