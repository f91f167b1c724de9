"""Pictures that stand beside the figures in the documentation."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure


@contextmanager
def drawn(path: Path, *, rows: int = 1, columns: int = 1, size: tuple[float, float] = (8, 4)) -> Iterator[list[Axes]]:
    """Axes to draw on, row by row; the picture is written when the context is left."""
    figure = Figure(figsize=size, layout="constrained")
    yield list(figure.subplots(rows, columns, squeeze=False).flat)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
