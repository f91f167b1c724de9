"""The control calls a benchmark makes of our server: make the group, import the fleet, wait until it is live."""

import http.client
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

from benchmarks.fleet import GROUP, Key, group_body, keys, rows
from benchmarks.payloads import single

WAIT_SECONDS: Final = 300.0
CALL_SECONDS: Final = 900.0  # an upload of gigabytes, a promotion that maps a million models
BUILD_SECONDS: Final = 3600.0  # a first release of a million models writes every segment; an import proves thousands
POLL_SECONDS: Final = 0.005
T = TypeVar("T")


@dataclass(frozen=True)
class Control:
    """Calls to one server on loopback about one group, one connection a call."""

    port: int
    group: str = GROUP

    @property
    def path(self) -> str:
        """The group's own path."""
        return f"/v1/groups/{self.group}"

    def call(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None, *, expect: int = 200
    ) -> Any:
        """One call; JSON out. A body is JSON unless it is bytes or an open file.

        Raises:
            RuntimeError: if the status is not the expected one.
        """
        status, raw = self.ask(method, path, body, headers)
        if status != expect:
            raise RuntimeError(f"{method} {path}: {status} {raw[:1000].decode()}")
        return json.loads(raw) if raw else None

    def ask(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """One call; whatever it answers."""
        given = dict(headers or {})
        if isinstance(body, dict | list):
            body = json.dumps(body).encode()
            given.setdefault("content-type", "application/json")
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=CALL_SECONDS)
        try:
            connection.request(method, path, body, given)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def predict(self, path: str, bodies: Sequence[bytes]) -> list[bytes]:
        """Answers of predicts, over one connection.

        Raises:
            RuntimeError: if one is refused.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=CALL_SECONDS)
        answers = []
        try:
            for body in bodies:
                connection.request("POST", path, body, {"content-type": "application/json"})
                answer = connection.getresponse()
                answers.append(answer.read())
                if answer.status != 200:
                    raise RuntimeError(f"{path}: {answer.status} {answers[-1][:1000].decode()}")
        finally:
            connection.close()
        return answers

    def ready(self) -> None:
        """Wait until the server says it is."""
        until(lambda: self.ask("GET", "/health/ready")[0] == 200, "ready")

    def create_group(self, *, auto_release: bool = True) -> None:
        """Make the group."""
        self.call("POST", "/v1/groups", group_body(auto_release=auto_release) | {"name": self.group}, expect=201)

    def import_fleet(self, parquet: Path) -> Mapping[str, Any]:
        """Import a bulk file into a group where nothing is live, and wait until its models are; the finished import."""
        done = self.import_file(parquet)
        self.until_live(keys(1)[0])
        return done

    def import_file(self, parquet: Path) -> Mapping[str, Any]:
        """Import a bulk file; the finished import.

        Raises:
            RuntimeError: if the import fails or rejects a row.
        """
        size = {"content-length": str(parquet.stat().st_size), "content-type": "application/vnd.apache.parquet"}
        with parquet.open("rb") as file:
            number = self.call("POST", f"{self.path}/models/bulk", file, size, expect=202)["import"]
        return self.imported(number)

    def imported(self, number: int) -> Mapping[str, Any]:
        """Wait for the end of an import; how it ended.

        Raises:
            RuntimeError: if the import fails or rejects a row.
        """

        def finished() -> Mapping[str, Any] | None:
            state: Mapping[str, Any] = self.call("GET", f"{self.path}/imports/{number}")
            return state if state["state"] in ("done", "failed") else None

        done = until(finished, "imported", every=0.05, seconds=BUILD_SECONDS)
        if done["state"] == "failed" or done["rejected"]:
            raise RuntimeError(f"the import failed: {done}")
        return done

    def until_live(self, key: Key) -> None:
        """Wait until a key answers.

        Live is what answers, not what the registry says: the serving process takes a release up a moment later.
        """
        body = single(key, rows(1)[0].tolist())
        until(lambda: self.ask("POST", f"{self.path}/predict", body)[0] == 200, "live", every=0.02)

    def release(self, named: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        """Build a release of everything newer, or of what is named; the release when it is ready.

        Raises:
            RuntimeError: if it cannot be built.
        """
        number = self.call("POST", f"{self.path}/releases", dict(named or {}), expect=202)["number"]

        def built() -> Mapping[str, Any] | None:
            state: Mapping[str, Any] = self.call("GET", f"{self.path}/releases/{number}")
            return state if state["state"] != "building" else None

        done = until(built, "built", seconds=BUILD_SECONDS)
        if done["state"] != "ready":
            raise RuntimeError(f"the release is {done['state']}: {done['report']}")
        return done

    def promote(self, number: int) -> None:
        """Make a release live."""
        self.call("PUT", f"{self.path}/deployments", {"blue": {"release": number, "traffic": 100}})

    def register(self, key: Key, model: bytes) -> Mapping[str, Any]:
        """Register one LightGBM model; what was registered."""
        headers = {"x-model-runtime": "lightgbm", "content-type": "application/octet-stream"}
        answer: Mapping[str, Any] = self.call("POST", f"{self.path}/models?{query(key)}", model, headers, expect=201)
        return answer

    def serving_pids(self) -> list[int]:
        """The processes that answer predicts."""
        members = self.call("GET", "/v1/discovery/services")["services"]["worker"]
        return [int(member["metadata"]["pid"]) for member in members if member["state"] == "alive"]

    def serving_pid(self) -> int:
        """The process that answers predicts (one, by `--processes 1`)."""
        (pid,) = self.serving_pids()
        return pid


def query(key: Key) -> str:
    """A key as query parameters."""
    return urlencode({"store": key[0], "brand": key[1]})


def until(what: Callable[[], T | None], name: str, *, every: float = POLL_SECONDS, seconds: float = WAIT_SECONDS) -> T:
    """Ask until the answer is true; the answer.

    Raises:
        RuntimeError: if it takes longer than `seconds`.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = what()
        if answer:
            return answer
        time.sleep(every)
    raise RuntimeError(f"not {name} in {seconds:.0f} s")
