"""What benchmarks with a part of the documentation to themselves are asked on the command line."""

import argparse
from pathlib import Path


def arguments(command: str, about: str | None, *, home: str, quick: str) -> argparse.ArgumentParser:
    """The parser of a command; `home` says what the folder is, `quick` what a quick run is made of."""
    parser = argparse.ArgumentParser(prog=f"python -m {command}", description=about)
    parser.add_argument("--home", type=Path, metavar="DIR", help=home)
    parser.add_argument("--write", type=Path, metavar="FILE", help="replace the table of this document, and its plot")
    parser.add_argument("--quick", action="store_true", help=f"{quick}; the figures mean little")
    return parser
