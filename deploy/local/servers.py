"""PostgreSQL, Consul and an S3 server on loopback, without containers: what a house of several machines stands on.

They are real servers with what they were told kept in folders that may be thrown away. `make cluster` runs on them,
and so do the tests and benchmarks that take them away under load.
"""

import os
import pwd
import secrets
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import mkdtemp
from typing import Final

import psycopg
from consul import Consul
from psycopg.sql import SQL, Identifier
from typing_extensions import override

from deploy.local.installed import consul_binary, postgres_programs, rclone_binary
from deploy.local.ports import LOOPBACK, free_ports, listens
from deploy.local.programs import Program

KEY, SECRET = "cluster", "secret-of-the-cluster"
POSTGRES_ACCOUNT: Final = "postgres"  # who runs it where we are root, which PostgreSQL refuses to
# Nothing is forced to the disk: this machine does not fail, and what the server alone loses it has written.
HASTY: Final = ("-c", "fsync=off", "-c", "full_page_writes=off")


class PostgresServer(Program):
    """A PostgreSQL over a data folder of its own, made anew; `options` are more of its own.

    Raises:
        MissingError: if there is none here.
    """

    ends_at = signal.SIGINT  # in good order, and without waiting for who is connected

    def __init__(self, name: str = "postgres", database: str = "postgres", options: Sequence[str] = ()) -> None:
        self._programs = postgres_programs()
        self._database = database
        self._options = tuple(options)
        self.account = POSTGRES_ACCOUNT if os.getuid() == 0 else None
        # In the system's own place for such folders: its account may not enter any other.
        self.folder: Path = Path(mkdtemp(prefix="manymodels-postgres-"))
        if self.account is not None:
            entry = pwd.getpwnam(self.account)
            os.chown(self.folder, entry.pw_uid, entry.pw_gid)
        super().__init__(name, self.folder / "log")
        self._data = str(self.folder / "data")
        self._run("initdb", "--auth=trust", "--username=manymodels", "--encoding=UTF8", "--no-sync", self._data)
        [self.port] = free_ports(1)

    @property
    @override
    def address(self) -> str:
        return self.url(self._database)

    @property
    def environment(self) -> dict[str, str]:
        """What a service finds its registry by."""
        return {"MANYMODELS_REGISTRY": self.address}

    def url(self, database: str) -> str:
        """Address of one of its databases."""
        return f"postgresql://manymodels@{LOOPBACK}:{self.port}/{database}"

    def create(self, template: str = "template1") -> str:
        """The address of a new database that is a copy of another."""
        name = f"d{secrets.token_hex(6)}"
        statement = SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY")
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement.format(Identifier(name), Identifier(template)))
        return self.url(name)

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """What a statement answers."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def remove(self) -> None:
        """End it, and throw its data away."""
        if self.is_running:
            self.stop()  # killed it would leave a little of the system's shared memory behind
        shutil.rmtree(self.folder, ignore_errors=True)

    @override
    def _command(self) -> Sequence[str]:
        where = ("-D", self._data, "-p", str(self.port), "-h", LOOPBACK, "-k", str(self.folder))
        return [str(self._programs / "postgres"), *where, *HASTY, *self._options]

    @override
    def _answers(self) -> bool:
        try:
            self.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), *arguments]
        subprocess.run(command, capture_output=True, user=self.account, cwd=self.folder, check=True)  # noqa: S603 - PostgreSQL's own


class ConsulServer(Program):
    """A Consul agent in development mode: a server that keeps nothing, so a restart is a Consul that lost its data.

    Raises:
        MissingError: if there is none here.
    """

    def __init__(self, folder: Path, name: str = "consul", house: str = "house") -> None:
        self._binary = consul_binary()
        self._house = house
        self.port, *self._ports = free_ports(4)
        super().__init__(name, folder / f"{name}-{self.port}.log")

    @property
    @override
    def address(self) -> str:
        return f"consul://{LOOPBACK}:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What a service finds its fellow members by."""
        return {"MANYMODELS_MEMBERSHIP": f"{self.address}/{self._house}"}

    @property
    def client(self) -> Consul:
        """A client of it."""
        return Consul(LOOPBACK, self.port)

    @override
    def _command(self) -> Sequence[str]:
        return [*self._agent(), "-dev"]

    def _agent(self) -> Sequence[str]:
        """An agent at its ports, whatever its role."""
        serf, wan, server = self._ports
        ports = f"ports {{ server = {server} serf_lan = {serf} serf_wan = {wan} dns = -1 grpc = -1 }}"
        where = (f"-bind={LOOPBACK}", f"-client={LOOPBACK}", f"-http-port={self.port}")
        return [self._binary, "agent", *where, "-hcl", ports]

    @override
    def _answers(self) -> bool:
        try:
            return bool(self.client.status.leader())
        except Exception:  # noqa: BLE001 - it is not up yet, however it says so
            return False


class BucketServer(Program):
    """rclone as an S3 server: the folders below `root` are its buckets; there is one, `models`.

    Raises:
        MissingError: if there is no rclone here.
    """

    def __init__(self, folder: Path, name: str = "bucket") -> None:
        self._binary = rclone_binary()
        self.root = folder / f"buckets-{secrets.token_hex(4)}"
        (self.root / "models").mkdir(parents=True)
        [self.port] = free_ports(1)
        super().__init__(name, folder / f"{name}-{self.port}.log")

    @property
    @override
    def address(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def credentials(self) -> dict[str, str]:
        """What boto3 finds the server by."""
        return {
            "AWS_ENDPOINT_URL": self.address,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    @property
    def environment(self) -> Mapping[str, str]:
        """What a service finds its artifacts by."""
        return {"MANYMODELS_ARTIFACTS": "s3://models/fleet", **self.credentials}

    def look_again(self) -> None:
        """Have it forget what it knows of its folders, after a file was changed behind its back."""
        self.signal(signal.SIGHUP)

    def file(self, key: str) -> Path:
        """Where it keeps a key of the bucket."""
        return self.root / "models" / key

    @override
    def _command(self) -> Sequence[str]:
        where = ("--addr", f"{LOOPBACK}:{self.port}", "--auth-key", f"{KEY},{SECRET}", "--config", os.devnull)
        return [self._binary, "serve", "s3", *where, "--vfs-cache-mode", "off", str(self.root)]

    @override
    def _answers(self) -> bool:
        return listens(self.port)
