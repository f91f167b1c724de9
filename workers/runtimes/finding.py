"""Runtimes in a child, each imported with its library when its first model comes: a fleet of one kind loads one.

scikit-learn's takes three times as long to import as all else together, and as much memory. What an import takes is
not the model's: neither its time nor its memory counts against what a proof or a sandbox allows that.
"""

from typing import Final

from workers.children.child import importing, note, resolve
from workers.runtimes.runtime import Runtime

_found: Final[dict[tuple[str, str], Runtime]] = {}


def found_runtime(catalog: str, name: str) -> Runtime:
    """The runtime of this name, as the function of the dotted name `catalog` knows it.

    Raises:
        ArtifactInvalidError: if there is none.
    """
    runtime = _found.get((catalog, name))
    if runtime is None:
        with importing():
            runtime = _found[catalog, name] = resolve(catalog)(name)
        note(len(_found))
    return runtime
