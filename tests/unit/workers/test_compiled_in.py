"""What numba compiled is never older than its sources."""

import hashlib
from pathlib import Path

import pytest

from gateway.data import scan
from workers.packing import blocks, checks, kernel, numerals

FOLDER = Path(kernel.__file__).parent  # of all that is compiled into others


@pytest.mark.parametrize("module", [blocks, checks, kernel, numerals, scan])
def test_a_compiled_module_names_the_state_of_what_is_compiled_into_it(module):
    names, state = module.COMPILED_IN
    found = hashlib.sha256(b"".join((FOLDER / f"{name}.py").read_bytes() for name in names)).hexdigest()[:12]
    assert state == found, f"something compiled into {module.__name__} has changed: its COMPILED_IN is {found} now"
