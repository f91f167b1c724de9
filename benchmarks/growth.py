"""A home that grows from one size of fleet to the next, and a journal of what its growth took.

A million models take hours, so no size starts from nothing: only what a home lacks is imported, file by file, each
file written, imported and removed before the next, and the release is built once a size is complete. The group's
releases are therefore asked for (`auto_release` off): by itself every file would build one. The journal lies beside
the home; a run that was broken off goes on where it stopped and still knows what was measured before.
"""

import json
import math
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.control import Control
from benchmarks.fleet import GROUP, UNUSED, Key, key_of, model_text, rows, write_fleet
from benchmarks.payloads import PREDICT, single
from benchmarks.report import say

FILE_MODELS: Final = 10_000
# A staged file, the same file as written, and what the file system wants for itself.
SPARE_BYTES: Final = 4 << 30


@dataclass(frozen=True)
class GrowingHome:
    """A folder with a home and its journal."""

    folder: Path

    @property
    def home(self) -> Path:
        """The home itself."""
        return self.folder / "home"

    def grow(self, control: Control, models: int) -> None:
        """Bring the served home to the first `models` models of the fleet, all of them live.

        Raises:
            RuntimeError: if it has more already.
        """
        have = self._begun(control)
        if have > models:
            raise RuntimeError(f"the home has {have:,} models already, and the journal knows no figures of {models:,}")
        for first in range(have, models, FILE_MODELS):
            count = min(FILE_MODELS, models - first)
            say(f"importing models {first:,} to {first + count:,} of {models:,}")
            self._import(control, first, count)
        live = control.call("GET", f"/v1/groups/{GROUP}")["live"]
        if live is None or live["models"] < models:
            self._release(control, models)
        control.until_live(key_of(models - 1))

    def note(self, kind: str, entry: Mapping[str, Any]) -> None:
        """Remember something measured."""
        with (self.folder / "journal.jsonl").open("a") as journal:
            journal.write(json.dumps({"kind": kind, **entry}) + "\n")

    def noted(self, kind: str) -> list[dict[str, Any]]:
        """Everything of a kind that was measured, oldest first."""
        journal = self.folder / "journal.jsonl"
        lines = journal.read_text().splitlines() if journal.exists() else []
        return [entry for entry in map(json.loads, lines) if entry.pop("kind") == kind]

    def import_rate(self, low: int, high: int) -> float:
        """Models a second of the imports that brought the fleet from one size to another; NaN if none is noted."""
        done = [entry for entry in self.noted("import") if low <= entry["first"] < high]
        seconds = sum(entry["seconds"] for entry in done)
        return float(sum(entry["models"] for entry in done) / seconds) if done else math.nan

    def release_seconds(self, models: int) -> tuple[float, float]:
        """To build the release of this size, and from its promotion to its answer; NaN if a broken run lost them."""
        done = [entry for entry in self.noted("release") if entry["models"] == models]
        return (done[-1]["build_seconds"], done[-1]["live_seconds"]) if done else (math.nan, math.nan)

    def lacks_room(self, more: int, model_bytes: float) -> str:
        """Why so many more models do not fit on the disk; empty if they do."""
        wanted = more * model_bytes + SPARE_BYTES
        free = shutil.disk_usage(self.folder).free
        if wanted <= free:
            return ""
        return f"{more:,} more models need {wanted / 1e9:,.0f} GB of disk, {free / 1e9:,.0f} GB are free"

    def _begun(self, control: Control) -> int:
        """How many models the home has, once imports that were under way are done."""
        path = f"/v1/groups/{GROUP}"
        if control.ask("GET", path)[0] == 404:
            control.create_group(auto_release=False)
        for begun in control.call("GET", f"{path}/imports")["imports"]:
            if begun["state"] not in ("done", "failed"):
                control.imported(begun["import"])
        return int(control.call("GET", path)["models"])

    def _import(self, control: Control, first: int, count: int) -> None:
        file = self.folder / "models.parquet"
        size = write_fleet(file, count, first)
        started = time.perf_counter()
        control.import_file(file)
        seconds = time.perf_counter() - started
        file.unlink()
        self.note("import", {"first": first, "models": count, "seconds": seconds, "bytes": size})

    def _release(self, control: Control, models: int) -> None:
        say(f"building the release of {models:,} models")
        started = time.perf_counter()
        release = control.release()
        built = time.perf_counter()
        control.promote(release["number"])
        control.until_live(key_of(models - 1))
        live = time.perf_counter()
        self.note("release", {"models": models, "build_seconds": built - started, "live_seconds": live - built})


def hotfix(control: Control, number: int, times: int) -> list[float]:
    """Give one model of the home another text and then its own again, `times` times; seconds to live of each.

    A release is asked for and promoted as soon as the model is registered; the clock stops when a predict shows it.
    """
    key = key_of(number)
    seconds = []
    for _ in range(times):
        version = _version(control, key)
        for text in (model_text(UNUSED + version), model_text(number)):
            started = time.perf_counter()
            registered = control.register(key, text)
            named = {"key": {"store": key[0], "brand": key[1]}, "version": registered["version"]}
            control.promote(control.release({"set": [named]})["number"])
            while _version(control, key) != registered["version"]:
                time.sleep(0.005)
            seconds.append(time.perf_counter() - started)
    return seconds


def _version(control: Control, key: Key) -> int:
    return int(control.call("POST", PREDICT, single(key, rows(1)[0].tolist()))["model"]["version"])
