"""Proofs in children: whatever an artifact does to the process that parses it, the caller gets an answer.

An artifact that kills its child is refused; the other artifacts of its batch never notice. Any thread may prove.
"""

import pickle
from collections.abc import Generator
from typing import Final

from registry.errors import Problem
from workers.builder.proof import (
    BulkRow,
    Proof,
    ProofContext,
    ProofRequest,
    ProvedRow,
    ReadingPlan,
    RefusedRow,
    RowBatch,
    key_words,
)
from workers.children.pool import ChildDiedError, ChildPool
from workers.errors import ParquetInvalidError, ProofFailedError

PREPARE: Final = "workers.builder.proving:prepare"
PREPARE_ROWS: Final = "workers.builder.proving:prepare_rows"
PROVE_ONE: Final = "workers.builder.proving:prove_one"
PROVE_ROWS: Final = "workers.builder.proving:prove_rows"
READ: Final = "workers.builder.parquet:read_batches"


class ProofPool:
    """Warm children that prove artifacts.

    Args:
        size: how many artifacts may be proved at once.
        deadline_seconds: for one artifact.
        memory_bytes: what one artifact may make its child allocate.
        niceness: 0..19 added to the children's scheduling priority.
        prepare: dotted name of what each child calls before its limits stand.
    """

    def __init__(
        self, size: int, deadline_seconds: float, memory_bytes: int, *, niceness: int = 0, prepare: str = PREPARE
    ) -> None:
        self.size = size
        self._children = ChildPool(
            size,
            prepare=prepare,
            deadline=deadline_seconds,
            memory_bytes=memory_bytes,
            niceness=niceness,
        )

    def warm(self) -> None:
        """Start a child now rather than at the first proof."""
        self._children.warm()

    def close(self) -> None:
        """End all children; a later proof starts new ones."""
        self._children.close()

    def prove(self, context: ProofContext, request: ProofRequest) -> Proof:
        """Prove one artifact.

        Raises:
            Problem: whatever is wrong with it; ProofFailedError if it crashed or held up its child.
        """
        try:
            answers = list(self._children.run(PROVE_ONE, pickle.dumps(context), pickle.dumps(request)))
        except ChildDiedError as death:
            raise _refusal(death) from death
        answer: Proof | Problem = pickle.loads(answers[0])  # noqa: S301 - from our own child
        if isinstance(answer, Problem):
            raise answer
        return answer

    def prove_rows(self, context: ProofContext, batch: RowBatch) -> list[ProvedRow | RefusedRow]:
        """Prove the rows of a bulk file; one answer a row, in order.

        A row at which the child died is tried once more alone, since a row before it may have caused that; a row that
        was too slow is not.
        """
        shared = pickle.dumps(context)
        answers: list[ProvedRow | RefusedRow] = []
        alone = False
        while len(answers) < batch.count:
            start = len(answers)
            stop = start + 1 if alone else batch.count
            try:
                for answer in self._children.run(PROVE_ROWS, shared, pickle.dumps((batch.rows, start, stop))):
                    # The answers before a death count, so each is taken as it comes.
                    answers.append(pickle.loads(answer))  # noqa: PERF401, S301 - as said; from our own child
                alone = False
            except ChildDiedError as death:
                died_alone = alone and len(answers) == start
                if died_alone or death.hung:
                    answers.append(_refused_row(context, batch, len(answers), death))
                alone = not (died_alone or death.hung)
        return answers


class FileReader:
    """A warm child that reads bulk files, because those are as strange as artifacts.

    Args:
        deadline_seconds: for one batch of rows.
        memory_bytes: what reading may allocate.
        niceness: 0..19 added to the child's scheduling priority.
    """

    def __init__(self, deadline_seconds: float, memory_bytes: int, *, niceness: int = 0) -> None:
        self._children = ChildPool(
            1,
            prepare="workers.builder.parquet:prepare",
            deadline=deadline_seconds,
            memory_bytes=memory_bytes,
            niceness=niceness,
        )

    def close(self) -> None:
        """End the child; a later file starts a new one."""
        self._children.close()

    def read(self, plan: ReadingPlan) -> Generator[RowBatch, None, None]:
        """The rows of a file in batches, at most a few of them in memory however slowly they are taken.

        Raises:
            ParquetInvalidError: if the file is not what it should be, or reading it killed the child.
        """
        try:
            for answer in self._children.run(READ, pickle.dumps(plan), b""):
                batch: RowBatch | Problem = pickle.loads(answer)  # noqa: S301 - from our own child
                if isinstance(batch, Problem):
                    raise batch
                yield batch
        except ChildDiedError as death:
            raise ParquetInvalidError(f"the file cannot be read: {death}") from death


def _refusal(death: ChildDiedError) -> ProofFailedError:
    what = "took too long" if death.hung else "crashed the process that proved it"
    return ProofFailedError(f"the model {what}: {death}")


def _refused_row(context: ProofContext, batch: RowBatch, at: int, death: ChildDiedError) -> RefusedRow:
    rows: list[BulkRow] = pickle.loads(batch.rows)  # noqa: S301 - from our own child
    return RefusedRow(rows[at].row, key_words(context.schema, rows[at].key), _refusal(death))
