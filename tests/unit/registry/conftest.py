from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.registries import Registry


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    opened = Registry(tmp_path)
    yield opened
    opened.close()
