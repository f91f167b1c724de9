"""A worker that starts with nothing on its disk, over a fleet that lies in S3.

`python -m benchmarks.cold_worker` runs a cluster over real PostgreSQL, Consul and S3, imports `--models`, stops the one
worker, throws its home away and starts it again: the clock runs from its process to its readiness, which follows when
it holds its share, and to its first answer that equals LightGBM's own to the last bit. The limit is what boto3 alone
takes to download the same objects with as many threads. With `--rival PYTHON`, an interpreter that has mlserver and
mlserver-lightgbm, MLServer loads `--rival-models` of the same models from its own disk, and is compared by models a
second.
"""

import argparse
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Final

import boto3
import orjson
from boto3.s3.transfer import TransferConfig
from botocore.config import Config

from benchmarks import fleet
from benchmarks.control import Control, until
from benchmarks.machine import machine
from benchmarks.payloads import single
from benchmarks.report import Figure, as_text, say, spread, write_into
from deploy.local.house import House, Kind, Service
from deploy.local.ports import free_ports
from gateway.settings import Settings

SERVICES: Final = (Kind("discovery", 1), Kind("worker", 1), Kind("builder", 1, listens=False), Kind("gateway", 1))
ROUNDS: Final = 3
PATH: Final = f"/v1/groups/{fleet.GROUP}/predict"


def imported(house: House, folder: Path, models: int) -> None:
    """A fleet of so many models, live."""
    control = Control(house.of("gateway")[0].port)
    control.create_group()
    say(f"making and importing {models:,} models")
    fleet.write_fleet(folder / "fleet.parquet", models)
    control.import_fleet(folder / "fleet.parquet")
    (folder / "fleet.parquet").unlink()


def cold_start(worker: Service, number: int) -> tuple[float, float, int]:
    """Seconds to readiness and to the first right answer, and the bytes that were fetched."""
    row = fleet.rows(1, seed=number)
    expected = float(fleet.booster(number).predict(row, num_threads=1)[0])
    body = orjson.dumps(single(fleet.key_of(number), row[0].tolist()))
    worker.stop()
    shutil.rmtree(worker.home)
    control = Control(worker.port)

    def right() -> bool:
        status, answer = control.ask("POST", PATH, body, {"content-type": "application/json"})
        return status == 200 and orjson.loads(answer)["predictions"] == [expected]

    begun = time.perf_counter()
    worker.launch()
    until(_quietly(lambda: control.ask("GET", "/health/ready")[0] == 200), "ready")
    ready = time.perf_counter() - begun
    until(_quietly(right), "answering")
    taken = time.perf_counter() - begun
    worker.await_answer()
    return ready, taken, sum(file.stat().st_size for file in worker.home.rglob("*") if file.is_file())


def _quietly(ask: Callable[[], bool]) -> Callable[[], bool]:
    """As `ask`, but nobody there is a no."""

    def asked() -> bool:
        try:
            return ask()
        except OSError:
            return False

    return asked


def plain_download(house: House, folder: Path) -> float:
    """Seconds in which boto3 alone downloads what the worker fetched."""
    [worker] = house.of("worker")
    names = [file.parent.name + file.name for file in (worker.home / "cache" / "objects").rglob("*") if file.is_file()]
    given = house.bucket.credentials
    client = boto3.client(
        "s3",
        endpoint_url=house.bucket.address,
        region_name=given["AWS_DEFAULT_REGION"],
        aws_access_key_id=given["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=given["AWS_SECRET_ACCESS_KEY"],
        config=Config(response_checksum_validation="when_required"),  # rclone answers ranges with the whole's
    )
    alone = TransferConfig(use_threads=False)
    folder.mkdir()

    def download(name: str) -> None:
        client.download_file("models", f"fleet/objects/{name[:2]}/{name[2:]}", str(folder / name), Config=alone)

    begun = time.perf_counter()
    with ThreadPoolExecutor(Settings().fetch_threads) as threads:
        list(threads.map(download, names))
    return time.perf_counter() - begun


def our_figures(models: int) -> tuple[list[Figure], float]:
    """Cold starts of a worker beside plain downloads, in turn; and the models that one takes up a second."""
    with tempfile.TemporaryDirectory(prefix="manymodels-bench-") as root:
        folder = Path(root)
        with House(folder, services=SERVICES) as house:
            imported(house, folder, models)
            [worker] = house.of("worker")
            found, plain = [], []
            for turn in range(ROUNDS):
                found.append(cold_start(worker, (turn * 7919) % models))
                plain.append(plain_download(house, folder / f"plain-{turn}"))
                shutil.rmtree(folder / f"plain-{turn}")
    readies, takens, sizes = (list(column) for column in zip(*found, strict=True))
    beside = f"{models:,} models, {sizes[0] / 2**20:,.0f} MiB fetched from S3"
    ratio = median(ready / alone for ready, alone in zip(readies, plain, strict=True))
    figures = [
        Figure("cold worker: start to ready", median(readies), "s", f"{beside}; {spread(readies, 's', 2)}"),
        Figure("cold worker: start to first right answer", median(takens), "s", spread(takens, "s", 2)),
        Figure("cold worker: start to ready / boto3 alone", ratio, "x", spread(plain, "s", 2)),
    ]
    return figures, models / median(readies)


def rival_figures(python: str, models: int, ours: float) -> list[Figure]:
    """MLServer from its start until it says of the last of its models that it is ready."""
    with tempfile.TemporaryDirectory(prefix="manymodels-bench-") as root:
        folder = Path(root)
        ports = free_ports(3)
        listens = dict(zip(("http_port", "grpc_port", "metrics_port"), ports, strict=True))
        _write(folder / "settings.json", {**listens, "parallel_workers": 0})
        for number in range(models):
            place = folder / f"model-{number}"
            place.mkdir()
            (place / "model.bst").write_bytes(fleet.model_text(number))
            said = {"name": place.name, "implementation": "mlserver_lightgbm.LightGBMModel"}
            _write(place / "model-settings.json", {**said, "parameters": {"uri": "./model.bst"}})
        control = Control(ports[0])
        begun = time.perf_counter()
        with _mlserver(python, folder):

            def ready() -> bool:
                return control.ask("GET", "/v2/health/ready")[0] == 200

            until(_quietly(ready), "ready", every=0.05, seconds=1200)
            taken = time.perf_counter() - begun
    return [
        Figure(f"MLServer: start to ready over {models:,} models on its own disk", taken, "s"),
        Figure(
            "cold worker / MLServer, models/s", ours * taken / models, "x", f"{ours:,.0f} and {models / taken:,.0f}"
        ),
    ]


@contextmanager
def _mlserver(python: str, folder: Path) -> Iterator[None]:
    with (folder / "log").open("wb") as log:
        command = [str(Path(python).with_name("mlserver")), "start", str(folder)]
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            yield
        finally:
            process.terminate()
            process.wait(60)


def _write(path: Path, body: Any) -> None:
    path.write_text(json.dumps(body))


def main() -> None:
    """Measure and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cold_worker", description=__doc__)
    parser.add_argument("--models", type=int, default=100_000)
    parser.add_argument("--rival", metavar="PYTHON", help="an interpreter that has mlserver and mlserver-lightgbm")
    parser.add_argument("--rival-models", type=int, default=1000)
    parser.add_argument("--write", type=Path, metavar="FILE", help="replace the table of this document")
    given = parser.parse_args()
    for fact in machine():
        say(fact)
    figures, pace = our_figures(given.models)
    if given.rival:
        figures += rival_figures(given.rival, given.rival_models, pace)
    say(as_text(figures))
    if given.write is not None:
        write_into(given.write, "benchmarks.cold_worker", figures)


if __name__ == "__main__":
    main()
