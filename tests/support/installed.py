"""Servers that tests need and this machine may lack: without them a test is skipped, and in CI it fails."""

import os
from collections.abc import Callable
from typing import TypeVar

import pytest

from deploy.local.programs import MissingError

T = TypeVar("T")


def needed(make: Callable[[], T]) -> T:
    """What `make` makes; without what that needs the test is skipped."""
    try:
        return make()
    except MissingError as missing:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(missing))
