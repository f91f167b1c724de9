"""The sandboxes of a process: which runtimes' models run in one, and which model in which."""

from collections.abc import Sequence
from itertools import count

from workers.resolving import ModelIdentity, Resolved
from workers.sandbox.process import Limits
from workers.sandbox.quarantine import Quarantine
from workers.sandbox.sandbox import Sandbox, SandboxedModel


def home_of(identity: ModelIdentity, sandboxes: int) -> int:
    """The sandbox a model belongs to: always the same, so that it is loaded once."""
    return int(identity[1][:8], 16) % sandboxes


class Sandboxes:
    """Some sandboxes with one quarantine. Safe from any thread; lives until `close`."""

    def __init__(
        self, size: int, limits: Limits, *, runtimes: Sequence[str], quarantine: Quarantine | None = None
    ) -> None:
        """`runtimes` are the names of those whose models run in a sandbox."""
        self._runtimes = frozenset(runtimes)
        quarantine = quarantine or Quarantine()
        self._all = [Sandbox(limits, quarantine, name=f"sandbox-{number}") for number in range(size)]
        self._numbers = count(1)

    def takes(self, runtime: str) -> bool:
        """Whether models of this runtime run in a sandbox."""
        return runtime in self._runtimes

    def load(self, resolved: Resolved, runtime: str, data: bytes) -> SandboxedModel:
        """Load a model where it belongs; waits for that. Raises as `Sandbox.bring`."""
        sandbox = self._all[home_of(resolved.identity, len(self._all))]
        model = SandboxedModel(sandbox, next(self._numbers), resolved)
        sandbox.bring(model, resolved, runtime, data).result()
        return model

    def close(self) -> None:
        """End all children."""
        for sandbox in self._all:
            sandbox.close()
