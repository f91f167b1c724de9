"""The root of the command line: global options anywhere on the line, and every refusal told in one way.

`--url`, `--home` and `--json` mean the same for all commands, so they may stand before or behind the command's name.
What a command raises becomes text on stderr that says what is wrong and what to do, and an exit code: 1 refused,
2 wrong usage, 3 no server reached.
"""

from collections.abc import Sequence
from typing import Any, Final

import typer
from typer.core import TyperGroup

from manymodels.cli.output import say_error
from manymodels.errors import KeyValueError, ManymodelsError, UnreachableError
from registry.errors import Problem

REFUSED: Final = 1
USAGE: Final = 2
UNREACHABLE: Final = 3

_VALUED: Final = ("--url", "--home")
_FLAGS: Final = ("--json",)


class Commands(TyperGroup):
    """The root command group."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the global options from wherever they stand."""
        return super().parse_args(ctx, hoisted(args))

    def invoke(self, ctx: Any) -> Any:
        """Run a command; what it raises ends the program with its exit code."""
        try:
            return super().invoke(ctx)
        except (ManymodelsError, Problem) as error:
            say_error(error, for_machines=bool(ctx.params.get("json")))
            raise typer.Exit(exit_code(error)) from error


def hoisted(args: Sequence[str]) -> list[str]:
    """The arguments with all global options moved to the front; nothing behind a bare `--` is looked at."""
    front: list[str] = []
    rest: list[str] = []
    waiting = iter(args)
    for argument in waiting:
        if argument == "--":
            rest += [argument, *waiting]
        elif argument in _FLAGS or argument.startswith(tuple(f"{name}=" for name in _VALUED)):
            front.append(argument)
        elif argument in _VALUED:
            front += [argument, *[value for value in (next(waiting, None),) if value is not None]]
        else:
            rest.append(argument)
    return front + rest


def exit_code(error: Exception) -> int:
    """The exit code of what a command raised."""
    if isinstance(error, UnreachableError):
        return UNREACHABLE
    return USAGE if isinstance(error, KeyValueError) else REFUSED
