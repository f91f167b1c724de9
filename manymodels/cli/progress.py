"""Progress bars on stderr for work that takes a while; machines see none."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from manymodels.cli.output import console
from manymodels.cli.session import Session
from manymodels.fleet import Progress

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID


def bars(session: Session) -> "Bars":
    """A set of bars, to be used as a context manager; each shows what is done, how much of it, and for how long."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    return Bars(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console(stderr=True),
        disable=session.json,
    )


def import_updates(shown: "Bars") -> Callable[[Progress], None]:
    """What to tell the progress of an import to, so that each of its files has a bar over its rows."""
    tasks: dict[int, TaskID] = {}

    def update(progress: Progress) -> None:
        if progress.index not in tasks:
            tasks[progress.index] = shown.add_task("", total=None)
        record = progress.record
        doing = "releasing" if progress.releasing else "waiting" if record.state == "queued" else record.state
        place = "" if progress.files == 1 else f" ({progress.index + 1}/{progress.files})"
        shown.update(
            tasks[progress.index],
            description=f"{doing} {progress.path.name}{place}",
            completed=record.proved + record.rejected,
            total=record.rows or None,
        )

    return update
