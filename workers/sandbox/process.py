"""The process of a sandbox, and which models are in it. For one thread; it is replaced when it is lost."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Final

from workers.children.pool import Child, ChildDiedError
from workers.errors import ModelLoadError
from workers.features import Matrix
from workers.metrics import SANDBOX_DEATHS
from workers.sandbox import inside
from workers.sandbox.wire import LoadOrder, PredictOrder, Refused, is_loaded, parted, read_scores, written

ROWS_A_DEADLINE: Final = 1000


@dataclass(frozen=True, slots=True)
class Limits:
    """What a sandbox is allowed.

    Attributes:
        memory_bytes: beyond what its libraries take; its models and what they work with.
        load_seconds: for loading one model.
        predict_seconds: for the answer of one model to a thousand rows.
        queue_seconds: of work that may lie before a predict.
        catalog: dotted name of the function that knows the runtimes.
        niceness: added to its scheduling priority.
    """

    memory_bytes: int
    load_seconds: float
    predict_seconds: float
    queue_seconds: float
    catalog: str = "workers.runtimes.catalog:runtime"
    niceness: int = 0


class ModelProcess:
    """A child that is started when it is first needed.

    Attributes:
        inside: numbers of the models in it.
    """

    def __init__(self, limits: Limits) -> None:
        self.inside: set[int] = set()
        self._limits = limits
        self._catalog = limits.catalog.encode()
        self._child: Child | None = None

    def ready(self) -> None:
        """Have a child that takes orders; one that was lost while nobody asked is replaced.

        Raises:
            ModelLoadError: if none starts.
        """
        if self._child is not None and not self._child.alive:
            self.end("lost")
        if self._child is None:
            self._child = Child(inside.PREPARE, self._limits.memory_bytes, self._limits.niceness)
            try:
                self._child.await_ready()
            except ChildDiedError as error:
                self.end()
                raise ModelLoadError(f"the process that runs models did not start: {error}") from error

    def load(self, order: LoadOrder) -> Refused | None:
        """Load a model; answers why it cannot be.

        Raises:
            ChildDiedError: if it ended the child, or took too long.
            ModelLoadError: if there is no child.
        """
        self.inside.difference_update(order.dropped)
        [refused] = [is_loaded(answer) for answer in self._run(inside.LOAD, order, self._limits.load_seconds)]
        if refused is None:
            self.inside.add(order.number)
        return refused

    def predict(self, orders: Sequence[PredictOrder], width: Sequence[int]) -> Iterator[list[Matrix | Refused]]:
        """What models that are inside answer, in order, each of them so many numbers a row; those that come together.

        Raises:
            ChildDiedError: if one ended the child or took too long (`at` tells which), also for too few answers.
            ModelLoadError: if there is no child.
        """
        rows = max(order[2][0] for order in orders)
        deadline = self._limits.predict_seconds * max(1, ceil(rows / ROWS_A_DEADLINE))
        asked = iter(zip(orders, width, strict=True))
        count = 0
        for message in self._run(inside.PREDICT, orders, deadline):
            answers = zip(parted(message), asked, strict=False)  # as many as came; what is too much is left
            found = [read_scores(answer, order[2][0], wide) for answer, (order, wide) in answers]
            count += len(found)
            yield found
        if count < len(orders):
            raise ChildDiedError("fewer answers than it was asked for", hung=False)

    @property
    def at(self) -> int:
        """Which of the orders it was at last."""
        return self._child.progress if self._child is not None else 0

    def kill(self) -> None:
        """End the child; from any thread. Whoever waits for an answer learns of it."""
        child = self._child
        if child is not None:
            child.kill()

    def end(self, reason: str = "") -> None:
        """End the child; a reason is counted."""
        child, self._child = self._child, None
        self.inside.clear()
        if child is not None:
            child.stop()
            if reason:
                SANDBOX_DEATHS.labels(reason).inc()

    def _run(self, job: str, order: LoadOrder | Sequence[PredictOrder], deadline: float) -> Iterator[bytes]:
        self.ready()
        assert self._child is not None, "ready() raises otherwise"
        return self._child.run(job, self._catalog, written(order), deadline)
