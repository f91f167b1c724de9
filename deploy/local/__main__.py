"""`make cluster`: a whole cluster on this machine as processes, with the demo's fleets in it, until Ctrl-C.

It needs PostgreSQL, Consul and rclone installed, and no containers. What is lost is started again after a while, as a
cluster would, so that one may kill what one likes and see what requests notice of it.
"""

import argparse
import json
import signal
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from deploy.local.fleets import GROUPS, await_live, bring_in, question
from deploy.local.house import House
from deploy.local.programs import MissingError, Program, StartError
from manymodels.demo.history import Shelf

AGAIN_SECONDS: Final = 10.0
LOOK_SECONDS: Final = 0.5


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a cluster until SIGINT or SIGTERM; answers the exit code."""
    asked = _parser().parse_args(arguments)
    screen = Console(stderr=asked.json)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="manymodels-cluster-") as folder:
        try:
            house = House(Path(folder), members=asked.members)
        except MissingError as missing:
            screen.print(f"{missing}.", soft_wrap=True)
            if "Consul" in str(missing):
                screen.print("Or do without: python -m deploy.local --members postgresql", soft_wrap=True)
            return 1
        return _run(house, asked, screen)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m deploy.local", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--members", choices=("consul", "postgresql"), default="consul", help="where they meet")
    parser.add_argument("--stores", type=int, default=42, help="stores in the demo's history, of six brands each")
    parser.add_argument("--group", action="append", choices=GROUPS, help="bring in this fleet only; repeatable")
    parser.add_argument("--json", action="store_true", help="say what runs as JSON on standard output")
    return parser


def _run(house: House, asked: argparse.Namespace, screen: Console) -> int:
    shelf = Shelf(stores=asked.stores)
    groups = asked.group or GROUPS
    try:
        screen.print("starting servers and services ...")
        house.start()
        _fill(house, shelf, groups, screen)
        _show(house, shelf, groups[0], screen, as_json=asked.json)
        _watch(house, screen)
    except KeyboardInterrupt:
        screen.print("stopping ...")
    except StartError as error:
        screen.print(str(error), soft_wrap=True, markup=False)
        house.kill()
        return 1
    _stop(house)
    return 0


def _fill(house: House, shelf: Shelf, groups: Sequence[str], screen: Console) -> None:
    gateways = house.of("gateway")
    screen.print(f"training and importing {', '.join(groups)} through {gateways[0].name} ...")
    began = time.monotonic()
    models = bring_in(gateways[0].url, shelf, groups, house.folder / "fleets")
    for gateway in gateways:
        for group in groups:
            await_live(gateway.url, shelf, group)
    screen.print(f"{models:,} models are live after {time.monotonic() - began:.0f} s")


def _show(house: House, shelf: Shelf, group: str, screen: Console, *, as_json: bool) -> None:
    """Say what runs where, with a predict and what to try."""
    url = house.of("gateway")[0].url
    predict, body = f"{url}/v1/groups/{group}/predict", question(shelf)
    answer = _ask(predict, body)
    worker, told = house.of("worker")[0], f"curl -s {predict} -H 'content-type: application/json' -d '{body}'"
    if as_json:
        programs = [_row(program) for program in house.programs]
        sys.stdout.write(json.dumps({"programs": programs, "predict": told, "answer": json.loads(answer)}) + "\n")
        sys.stdout.flush()
        return
    table = Table("name", "address", "pid", "log")
    for column in table.columns:
        column.overflow = "fold"
    for program in house.programs:
        table.add_row(program.name, program.address or "-", str(program.pid), str(program.log))
    screen.print(table)
    said = (
        f"\n$ {told}\n{answer}\n\n"
        f"Kill a worker with all its processes (kill -9 -- -{worker.pid}) or freeze it (kill -STOP -- -{worker.pid}) "
        f"and ask again: another answers. What was killed is started again after {AGAIN_SECONDS:.0f} s.\n"
        f"Where things are: manymodels status --url {url}, and {url}/docs. Ctrl-C stops everything."
    )
    screen.print(said, soft_wrap=True, markup=False, highlight=False)


def _row(program: Program) -> dict[str, object]:
    return {"name": program.name, "address": program.address, "pid": program.pid, "log": str(program.log)}


def _ask(url: str, body: str) -> str:
    request = urllib.request.Request(url, body.encode(), {"content-type": "application/json"})  # noqa: S310 - ours
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - as above
        return str(answer.read().decode())


def _watch(house: House, screen: Console) -> None:
    """Start again what was lost, until a signal comes."""
    due: dict[str, float] = {}
    while True:
        time.sleep(LOOK_SECONDS)
        for program in house.programs:
            if program.is_running:
                continue
            if program.name not in due:
                due[program.name] = time.monotonic() + AGAIN_SECONDS
                screen.print(f"{program.name} is lost; it starts again in {AGAIN_SECONDS:.0f} s")
            elif time.monotonic() > due[program.name]:
                del due[program.name]
                _start_again(program, screen)


def _start_again(program: Program, screen: Console) -> None:
    try:
        program.start()
    except StartError as error:  # as often as a server that it needs is away
        screen.print(str(error), soft_wrap=True, markup=False)
    else:
        screen.print(f"{program.name} is back as process {program.pid}")


def _stop(house: House) -> None:
    try:
        house.stop()
    except KeyboardInterrupt:
        house.kill()


if __name__ == "__main__":
    sys.exit(main())
