"""Whom a command talks to and how it prints: the global options, read once.

With `--home` there is no server: the application runs in this process over that home, behind the same transport
Protocol, so that every command works either way.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import typer

from manymodels.cli.output import console, print_json
from manymodels.client import Client
from manymodels.errors import LibraryMissingError
from manymodels.transport import Answer, Body

if TYPE_CHECKING:
    from rich.console import RenderableType

T = TypeVar("T")


class House(Protocol):
    """The application over a home, in this process."""

    def request(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and body of the answer."""


@dataclass(frozen=True, slots=True)
class Session:
    """The global options of one command line."""

    url: str | None = None
    home: Path | None = None
    json: bool = False

    @contextmanager
    def client(self, *, may_create: bool = False) -> Iterator[Client]:
        """A client of the server at the address, or of the application over the home.

        Raises:
            typer.BadParameter: if the home does not exist and the command may not create it.
        """
        if self.home is None:
            with Client(self.url) as client:
                yield client
            return
        if not may_create:
            existing_home(self)
        with needing_server("--home"):
            from gateway.house import open_house
        with open_house(self.home) as house, Client(HouseTransport(house)) as client:
            yield client

    def show(self, value: T, view: Callable[[T], "RenderableType"]) -> None:
        """Print a value: as JSON for machines, else as `view` draws it."""
        if self.json:
            print_json(value)
        else:
            console().print(view(value))

    def say(self, text: str) -> None:
        """Tell people how things go, on stderr; machines are not told."""
        if not self.json:
            console(stderr=True).print(text, soft_wrap=True)


@dataclass(frozen=True, slots=True)
class HouseTransport:
    """A transport to the application in this process."""

    house: House

    def request(
        self, method: str, path: str, headers: Mapping[str, str], body: Body = b"", *, repeatable: bool = False
    ) -> Answer:
        """See `Transport.request`; nothing breaks on the way, so nothing is ever repeated."""
        del repeatable
        data = body if isinstance(body, bytes) else body.read()
        status, answered, answer = self.house.request(method, path, dict(headers), data)
        return Answer(status, {name.lower(): value for name, value in answered.items()}, answer)


def session_of(context: typer.Context) -> Session:
    """The session of a command's context."""
    session = context.find_root().obj
    return session if isinstance(session, Session) else Session()


def existing_home(session: Session) -> Path:
    """The home that a command works on.

    Raises:
        typer.BadParameter: if the command line names none, or it does not exist.
    """
    if session.home is None:
        raise typer.BadParameter("this works on a home's files: name it with --home DIR")
    if not session.home.is_dir():
        raise typer.BadParameter(f"there is no home at {session.home}; `group create` and `serve` make one")
    return session.home


@contextmanager
def needing_server(what: str, extras: str = "server") -> Iterator[None]:
    """Around imports of packages whose libraries the light install lacks.

    Raises:
        LibraryMissingError: saying what to install.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise LibraryMissingError(
            f"{what} needs {error.name}, which is not installed: pip install 'manymodels[{extras}]'"
        ) from error
