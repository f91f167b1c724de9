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
from benchmarks.payloads import PREDICT, single

IMPORT_SECONDS: Final = 300.0
POLL_SECONDS: Final = 0.005
T = TypeVar("T")


@dataclass(frozen=True)
class Control:
    """Calls to one server on loopback, one connection a call."""

    port: int

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
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=IMPORT_SECONDS)
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
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=IMPORT_SECONDS)
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

    def create_group(self) -> None:
        """Make the benchmark's group."""
        self.call("POST", "/v1/groups", group_body(), expect=201)

    def import_fleet(self, parquet: Path) -> Mapping[str, Any]:
        """Import a bulk file and wait until its models are live; the finished import.

        Raises:
            RuntimeError: if the import fails or rejects a row.
        """
        size = {"content-length": str(parquet.stat().st_size), "content-type": "application/vnd.apache.parquet"}
        with parquet.open("rb") as file:
            number = self.call("POST", f"/v1/groups/{GROUP}/models/bulk", file, size, expect=202)["import"]

        def finished() -> Mapping[str, Any] | None:
            state: Mapping[str, Any] = self.call("GET", f"/v1/groups/{GROUP}/imports/{number}")
            return state if state["state"] in ("done", "failed") else None

        done = until(finished, "imported", every=0.05)
        if done["state"] == "failed" or done["rejected"]:
            raise RuntimeError(f"the import failed: {done}")
        # Live is what answers, not what the registry says: the serving process takes a release up a moment later.
        first = single(keys(1)[0], rows(1)[0].tolist())
        until(lambda: self.ask("POST", PREDICT, first)[0] == 200, "live", every=0.02)
        return done

    def register(self, key: Key, model: bytes) -> Mapping[str, Any]:
        """Register one LightGBM model; what was registered."""
        headers = {"x-model-runtime": "lightgbm", "content-type": "application/octet-stream"}
        answer: Mapping[str, Any] = self.call(
            "POST", f"/v1/groups/{GROUP}/models?{query(key)}", model, headers, expect=201
        )
        return answer

    def serving_pid(self) -> int:
        """The process that answers predicts (one, by `--processes 1`)."""
        members = self.call("GET", "/v1/discovery/services")["services"]["worker"]
        (member,) = [member for member in members if member["state"] == "alive"]
        return int(member["metadata"]["pid"])


def query(key: Key) -> str:
    """A key as query parameters."""
    return urlencode({"store": key[0], "brand": key[1]})


def until(what: Callable[[], T | None], name: str, *, every: float = POLL_SECONDS) -> T:
    """Ask until the answer is true; the answer.

    Raises:
        RuntimeError: if it takes longer than an import may.
    """
    deadline = time.monotonic() + IMPORT_SECONDS
    while time.monotonic() < deadline:
        answer = what()
        if answer:
            return answer
        time.sleep(every)
    raise RuntimeError(f"not {name} in {IMPORT_SECONDS:.0f} s")
