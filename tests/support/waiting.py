"""Waiting for what another process or thread does: asked again and again, and never for longer than a deadline."""

import time
from collections.abc import Callable
from typing import Any

SLOW_SECONDS = 120.0  # a machine that runs everything at once is no reason to fail
ASK_SECONDS = 0.005


def until(happened: Callable[[], Any], seconds: float = SLOW_SECONDS, what: str = "it") -> Any:
    """What `happened` answers once that is true. Fails when `seconds` are over."""
    deadline = time.monotonic() + seconds
    while not (found := happened()):
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds:g} s: {found!r}"
        time.sleep(ASK_SECONDS)
    return found


def seconds_until(happened: Callable[[], Any], deadline: float = 5.0, what: str = "it") -> float:
    """After how many seconds it has happened. Fails past the deadline."""
    began = time.monotonic()
    until(happened, deadline, what)
    return time.monotonic() - began
