"""Arguments that several commands share, and how their texts are read.

A key is given as `field=value` words; everything behind the first `=` is the value as it stands, so that values with
`/`, `=` or `%2F` need no escaping beyond the shell's own. Only where a key is part of a longer word (`--set`) is it
written in its canonical, percent-encoded form.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import unquote

import orjson
import typer

GROUP = Annotated[str, typer.Argument(help="The group's name.", metavar="GROUP")]
KEY = Annotated[list[str], typer.Argument(help="Key fields, e.g. store=2 brand=tropicana.", metavar="KEY...")]
SOME_KEY = Annotated[
    list[str] | None, typer.Argument(help="Key fields, e.g. store=2; as many as you like.", metavar="[KEY]...")
]
TAGS = Annotated[list[str] | None, typer.Option("--tag", help="A tag, name=value. Repeatable.")]
GLOBAL: Final = "--url, --home and --json may stand here too; see `manymodels --help`."


def read_pairs(words: Sequence[str] | None, what: str) -> dict[str, str]:
    """`name=value` words as a mapping, values as they stand.

    Raises:
        typer.BadParameter: for a word without `=`, or a name given twice.
    """
    pairs: dict[str, str] = {}
    for word in words or ():
        name, sign, value = word.partition("=")
        if not sign or not name:
            raise typer.BadParameter(f"{what} are given as name=value, got {word!r}")
        if name in pairs:
            raise typer.BadParameter(f"{name!r} is given twice")
        pairs[name] = value
    return pairs


def read_key(words: Sequence[str] | None) -> dict[str, str]:
    """A key from its `field=value` words."""
    return read_pairs(words, "key fields")


def read_named_version(text: str) -> tuple[dict[str, str], int]:
    """`store=2/brand=tropicana@3`: a key in canonical form and a version number.

    Raises:
        typer.BadParameter: if it is anything else.
    """
    key, sign, number = text.rpartition("@")
    if not sign or not number.isdecimal():
        raise typer.BadParameter(f"a version is named like store=2/brand=tropicana@3, got {text!r}")
    pairs = read_pairs(key.split("/") if key else (), "key fields")
    return {name: unquote(value) for name, value in pairs.items()}, int(number)


def read_numbers(words: Sequence[str] | None, what: str) -> dict[str, float]:
    """`name=number` words as a mapping.

    Raises:
        typer.BadParameter: if a value is no number.
    """
    found: dict[str, float] = {}
    for name, text in read_pairs(words, what).items():
        try:
            found[name] = float(text)
        except ValueError as error:
            raise typer.BadParameter(f"{name!r} must be a number, got {text!r}") from error
    return found


def read_json(text: str | bytes, what: str) -> Any:
    """A JSON text.

    Raises:
        typer.BadParameter: if it is none.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise typer.BadParameter(f"{what} must be JSON: {error}") from error


def read_json_file(path: Path, what: str) -> Any:
    """A JSON file, or standard input for `-`.

    Raises:
        typer.BadParameter: if it is none, or cannot be read.
    """
    try:
        data = typer.get_binary_stream("stdin").read() if str(path) == "-" else path.read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"{path} cannot be read: {error.strerror}") from error
    return read_json(data, what)
