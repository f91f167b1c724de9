"""Names of what an artifact store holds, checked before they become a path or a key."""

import re
from typing import Final

from registry.errors import ArtifactMissingError

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_NAME: Final = re.compile(r"[0-9a-f]{32}")


def is_digest(text: str) -> bool:
    """Whether a text can be the digest of an object."""
    return _DIGEST.fullmatch(text) is not None


def is_name(text: str) -> bool:
    """Whether a text can be the name of a staged upload."""
    return _NAME.fullmatch(text) is not None


def checked_digest(digest: str) -> str:
    """The digest. Raises ArtifactMissingError if it can be none."""
    if not is_digest(digest):
        raise ArtifactMissingError(f"{digest!r} is no digest of an object")
    return digest


def checked_name(name: str) -> str:
    """The name of a staged upload. Raises ArtifactMissingError if it can be none."""
    if not is_name(name):
        raise ArtifactMissingError(f"{name!r} is no name of a staged upload")
    return name
