"""Opening a skops file: limits first, then every type against this server's list, then construction.

A skops file is a zip of arrays and a `schema.json` that says how to put them together. The schema is judged here,
node by node, before the skops library reads it, so that neither its defaults nor a hole in them decides what runs.
"""

import io
import zipfile
from collections.abc import Iterator
from typing import Any, Final

import orjson
import skops.io

from workers.errors import ArtifactInvalidError
from workers.runtimes.sklearn_types import ALLOWED_FUNCTIONS, ALLOWED_LOADERS, ALLOWED_TYPES

MAX_MEMBERS: Final = 100_000
MAX_UNPACKED: Final = 1 << 30
MAX_SCHEMA: Final = 64 << 20
MAX_RATIO: Final = 200

_SCHEMA: Final = "schema.json"


def sniff_file(data: bytes) -> None:
    """Refuse bytes that are not a whole skops file within the limits.

    Raises:
        ArtifactInvalidError: saying what is wrong.
    """
    if not data.startswith(b"PK\x03\x04"):
        raise ArtifactInvalidError(f"a skops file is a zip file, these bytes begin with {data[:12]!r}")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            members = file.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ArtifactInvalidError(f"the skops file is damaged: {error}") from error
    names = [member.filename for member in members]
    if _SCHEMA not in names:
        raise ArtifactInvalidError("the zip file is no skops file: it lacks schema.json")
    if len(names) > MAX_MEMBERS or len(set(names)) != len(names):
        raise ArtifactInvalidError(f"the skops file has {len(names)} members; {MAX_MEMBERS} distinct ones are allowed")
    unpacked = sum(member.file_size for member in members)
    if unpacked > min(MAX_UNPACKED, max(MAX_RATIO * len(data), 1 << 20)):
        raise ArtifactInvalidError(
            f"the skops file of {len(data)} bytes unpacks to {unpacked}, which is over the limit"
        )
    if file.getinfo(_SCHEMA).file_size > MAX_SCHEMA:
        raise ArtifactInvalidError(f"schema.json is over the limit of {MAX_SCHEMA} bytes")


def open_file(data: bytes) -> Any:
    """The estimator in a skops file that `sniff_file` let pass.

    Raises:
        ArtifactInvalidError: if a type is not allowed (naming it), or construction fails.
    """
    _check_schema(data)
    try:
        # The schema's types are all on our list; skops still wants to hear which of them it did not know itself.
        trusted = sorted((ALLOWED_TYPES | ALLOWED_FUNCTIONS).intersection(skops.io.get_untrusted_types(data=data)))
        return skops.io.loads(data, trusted=trusted)
    except Exception as error:  # a file made to break its parser may raise anything
        raise ArtifactInvalidError(f"the skops file cannot be opened: {type(error).__name__}: {error}"[:500]) from error


def _check_schema(data: bytes) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            schema = orjson.loads(file.read(_SCHEMA))
        refused = {_type(node) for node in _nodes(schema) if not _is_allowed(node)}
    except Exception as error:  # zlib, zipfile and JSON errors alike mean a damaged file
        raise ArtifactInvalidError(f"schema.json cannot be read: {type(error).__name__}: {error}"[:500]) from error
    if refused:
        raise ArtifactInvalidError(
            f"the skops file needs types that are not allowed here: {', '.join(sorted(refused)[:5])}"[:500]
        )


def _is_allowed(node: dict[str, Any]) -> bool:
    loader = node.get("__loader__")
    if loader == "FunctionNode":
        return _type(node) in ALLOWED_FUNCTIONS
    if loader == "PartialNode" and node["content"]["func"]["__loader__"] != "FunctionNode":
        return False
    return loader in ALLOWED_LOADERS and _type(node) in ALLOWED_TYPES


def _type(node: dict[str, Any]) -> str:
    return f"{node.get('__module__')}.{node.get('__class__')}"


def _nodes(schema: Any) -> Iterator[dict[str, Any]]:
    """Every object of the schema that names a type or a loader, wherever it lies."""
    waiting = [schema]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting.extend(value)
        elif isinstance(value, dict):
            waiting.extend(value.values())
            if value.keys() & {"__class__", "__module__", "__loader__"}:
                yield value
