"""A network of this machine that can be cut: a namespace of its own behind a pair of virtual cables.

What is sent into a cut is lost without a word, as in a real network: it goes to a hardware address that nobody has.
"""

import itertools
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from shutil import which

import pytest

from deploy.local.programs import MissingError

NOBODY = "02:00:00:00:00:99"
_numbers = itertools.count()


class Network:
    """One place that others reach at `address`, and that reaches this machine at `host`."""

    def __init__(self) -> None:
        number = next(_numbers)
        self.name = f"mm{os.getpid()}n{number}"
        self._outer, self._inner = f"mo{os.getpid()}n{number}", f"mi{os.getpid()}n{number}"
        net = f"10.{64 + os.getpid() % 64}.{(os.getpid() // 64) % 256}"
        self.host, self.address = f"{net}.{4 * number + 1}", f"{net}.{4 * number + 2}"

    @property
    def within(self) -> tuple[str, ...]:
        """What a command begins with to run there."""
        return ("ip", "netns", "exec", self.name)

    def make(self) -> None:
        _run("ip", "netns", "add", self.name)
        _run("ip", "link", "add", self._outer, "type", "veth", "peer", "name", self._inner, "netns", self.name)
        _run("ip", "address", "add", f"{self.host}/30", "dev", self._outer)
        _run("ip", "link", "set", self._outer, "up")
        _run("ip", "-n", self.name, "address", "add", f"{self.address}/30", "dev", self._inner)
        _run("ip", "-n", self.name, "link", "set", self._inner, "up")
        _run("ip", "-n", self.name, "link", "set", "lo", "up")

    def remove(self) -> None:
        subprocess.run(["ip", "netns", "del", self.name], check=False, capture_output=True)
        subprocess.run(["ip", "link", "del", self._outer], check=False, capture_output=True)

    def cut(self, *, there: bool = True, back: bool = True) -> None:
        """Lose what is sent there, what comes back, or both."""
        if there:
            _run("ip", "neighbour", "replace", self.address, "lladdr", NOBODY, "dev", self._outer)
        if back:
            _run("ip", "-n", self.name, "neighbour", "replace", self.host, "lladdr", NOBODY, "dev", self._inner)

    def heal(self) -> None:
        """Lose nothing any more."""
        for where, address, device in (
            ((), self.address, self._outer),
            (("-n", self.name), self.host, self._inner),
        ):
            command = ["ip", *where, "neighbour", "del", address, "dev", device]
            subprocess.run(command, check=False, capture_output=True)  # where there was no cut there is nothing


@contextmanager
def network() -> Iterator[Network]:
    """A network, until the context is left; without the rights to make one the test is skipped."""
    if which("ip") is None:
        if os.environ.get("CI"):
            raise MissingError("there is no ip: `apt install iproute2`")
        pytest.skip("there is no ip: `apt install iproute2`")
    made = Network()
    try:
        made.make()
    except subprocess.CalledProcessError as error:
        made.remove()
        pytest.skip(f"networks may not be made here: {error.stderr.decode().strip()}")
    try:
        yield made
    finally:
        made.remove()


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
