"""A whole house in one process: home, serving assembly, front door, and a builder in a thread."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from starlette.testclient import TestClient

from discovery.leases import migrate_leases
from gateway.app import Front
from gateway.assembly import Assembly
from gateway.house import Reply
from gateway.roles import SERVE
from gateway.settings import Settings
from registry.database import migrate
from registry.home import Home
from tests.support.models import TinyModel
from tests.support.waiting import SLOW_SECONDS, until
from workers.builder.context import BuilderSettings
from workers.builder.main import run_builder

SIGNATURE = {
    "inputs": [{"name": "price"}, {"name": "feat", "dtype": "float64", "default": 0}],
    "outputs": [{"name": "sales"}],
}


class House(NamedTuple):
    """A running house and a client of its front door."""

    assembly: Assembly
    client: TestClient
    home: Home

    def create(self, name: str, **changes: Any) -> str:
        """A group of store and brand with the whole fallback chain."""
        body = {"name": name, "key": ["store", "brand"], "signature": SIGNATURE, "fallback": [["brand"], []]}
        answer = self.client.post("/v1/groups", json=body | changes)
        assert answer.status_code == 201, answer.text
        return f"/v1/groups/{name}"

    def register(self, group: str, model: TinyModel, key: dict[str, str], **headers: str) -> Any:
        """Register a model; answers the response."""
        headers = {"x-model-runtime": model.runtime, **{name.replace("_", "-"): text for name, text in headers.items()}}
        return self.client.post(f"{group}/models", params=key, content=model.data, headers=headers)

    def release(self, group: str, **body: Any) -> int:
        """Build a release of everything newer and wait until it is ready."""
        answer = self.client.post(f"{group}/releases", json=body)
        assert answer.status_code == 202, answer.text
        number = answer.json()["number"]
        until(lambda: self.client.get(f"{group}/releases/{number}").json()["state"] != "building")
        return number

    def promote(self, group: str, release: int) -> Any:
        """Point `blue` at a release."""
        return self.client.put(f"{group}/deployments", json={"blue": {"release": release, "traffic": 100}})

    def predict(self, group: str, key: dict[str, str], price: float = 1.0, **body: Any) -> Any:
        """Answer one row."""
        return self.client.post(f"{group}/predict", json={"key": key, "instances": [{"price": price}], **body})

    def request(self, method: str, path: str, headers: Mapping[str, str], body: bytes = b"") -> Reply:
        """Answer one request as `gateway.house.House` does, so that a `HouseTransport` takes either."""
        answer = self.client.request(method, path, headers=dict(headers), content=body)
        return answer.status_code, dict(answer.headers), answer.content

    def until_live(self, group: str, release: int = 1) -> None:
        """Wait until this process answers from a release or a later one."""
        name = group.rpartition("/")[2]

        def live() -> int:
            groups = self.client.get("/v1/discovery/snapshot").json()["groups"]
            deployments = next(view["deployments"] for view in groups if view["name"] == name)
            return int(deployments.get("blue", {"release": 0})["release"])

        until(lambda: live() >= release)


@contextmanager
def running_house(root: Path, *, builder: bool = True, member: bool = True, **settings: Any) -> Iterator[House]:
    """Start a house over a new home; without `builder` nothing is ever proved or built.

    One that is no `member` is a front alone: nobody counts on it to hold anything.
    """
    home = Home(root / "home")
    home.prepare()
    migrate(home.registry_url)
    migrate_leases(home.leases_url)
    uri = "http://127.0.0.1:9" if member else None
    assembly = Assembly(home, Settings(**{"prove_seconds": SLOW_SECONDS} | settings), SERVE, uri=uri)
    assembly.start()
    try:
        with _running_builder(home, builder), TestClient(Front(assembly.context)) as client:
            yield House(assembly, client, home)
    finally:
        assembly.drain()
        assembly.stop()


@contextmanager
def _running_builder(home: Home, wanted: bool) -> Iterator[None]:
    if not wanted:
        yield
        return
    stop = threading.Event()
    settings = BuilderSettings(import_children=1, proof_seconds=SLOW_SECONDS)
    builder = threading.Thread(target=run_builder, args=(home.root, stop, settings), name="builder")
    builder.start()
    try:
        yield
    finally:
        stop.set()
        builder.join()
