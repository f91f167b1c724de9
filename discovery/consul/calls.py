"""The calls to Consul that one house needs, each with its failures told as ours."""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from consul import Consul
from consul.exceptions import ConsulException
from requests.exceptions import RequestException

from discovery.errors import DiscoveryAwayError, DiscoveryError

SCHEMES: Final[Mapping[str, str]] = {"consul": "http", "consul+https": "https"}
CALL_SECONDS: Final = 2.0
DEFAULT_PORT: Final = 8500
DEFAULT_HOUSE: Final = "manymodels"
REAP_AFTER: Final = "1m"  # the shortest that Consul takes

T = TypeVar("T")
Entries = Sequence[Mapping[str, Any]]


class ConsulCalls:
    """Consul as one house sees it. Safe from any thread: each has its own connections.

    All calls raise DiscoveryAwayError where Consul cannot be reached or does not do as it is told.

    Attributes:
        house: the service that members register as, and the folder of the house's keys.
    """

    def __init__(self, url: str) -> None:
        """`url` is `consul://host:port/house`, or `consul+https://`; a token comes from `CONSUL_HTTP_TOKEN`.

        Raises:
            DiscoveryError: if it is anything else.
        """
        try:
            parts = urlsplit(url)
            port = parts.port or DEFAULT_PORT
        except ValueError as error:
            raise _no_address() from error
        house = parts.path.strip("/") or DEFAULT_HOUSE
        if parts.scheme not in SCHEMES or parts.query or parts.fragment or parts.username is not None:
            raise _no_address()
        if not house.replace("-", "").isalnum() or not house.isascii():
            raise DiscoveryError(f"{house!r} cannot name a house: letters, digits and - can", field="membership")
        self.house = house
        self._address = parts.hostname or "127.0.0.1", port, SCHEMES[parts.scheme]
        self._clients = threading.local()

    def register(
        self,
        member: str,
        address: tuple[str, int],
        *,
        tags: Sequence[str],
        meta: Mapping[str, str],
        ttls: Mapping[str, float],
    ) -> None:
        """Register a member with the agent, or anew; `ttls` are seconds by name of its checks, which begin passed."""
        first, *others = [
            {
                "CheckID": self._check(member, name),
                "Name": f"{name} of {member}",
                "TTL": f"{seconds:g}s",
                "Status": "passing",
                "DeregisterCriticalServiceAfter": REAP_AFTER,
            }
            for name, seconds in ttls.items()
        ]
        self._call(
            lambda consul: consul.agent.service.register(
                self.house,
                service_id=self._id(member),
                address=address[0],
                port=address[1],
                tags=list(tags),
                meta=dict(meta),
                check=first,
                extra_checks=others,
                replace_existing_checks=True,
            )
        )

    def renew(self, member: str, checks: Sequence[str]) -> bool:
        """Pass a member's checks; False if the agent does not know them (some versions answer that with 500)."""
        for name in checks:
            try:
                if not self._client().agent.check.ttl_pass(self._check(member, name)):
                    return False
            except ConsulException:
                return False
            except RequestException as error:
                raise _away(error) from error
        return True

    def deregister(self, member: str) -> None:
        """Drop a member; one that the agent does not know is fine."""
        self._call(lambda consul: consul.agent.service.deregister(self._id(member)))

    def members(self, index: str | None, wait: str) -> tuple[str, Entries]:
        """All instances with their checks, once that has another index than this one, or after `wait`.

        Their service's `ID` is the member's.
        """
        found: tuple[str, Entries] = self._call(
            lambda consul: consul.health.service(self.house, index=index, wait=wait)
        )
        for entry in found[1]:
            entry["Service"]["ID"] = entry["Service"]["ID"].removeprefix(f"{self.house}:")
        return found

    def get(self, key: str, index: str | None = None, wait: str = "") -> tuple[str, tuple[int, bytes] | None]:
        """The index of a key of the house, and when (by ModifyIndex) it became what; None where there is none."""
        found: tuple[str, Mapping[str, Any] | None] = self._call(
            lambda consul: consul.kv.get(f"{self.house}/{key}", index=index, wait=wait or None)
        )
        at, entry = found
        return at, None if entry is None else (int(entry["ModifyIndex"]), entry["Value"] or b"")

    def put(self, key: str, value: bytes, *, if_at: int | None = None) -> bool:
        """Write a key; only if it still is as of that ModifyIndex where one is given, 0 for a key that is not there."""
        return bool(self._call(lambda consul: consul.kv.put(f"{self.house}/{key}", value, cas=if_at)))

    def delete(self, key: str) -> None:
        """Delete a key; one that is not there is fine."""
        self._call(lambda consul: consul.kv.delete(f"{self.house}/{key}"))

    def folder(self, folder: str) -> dict[str, bytes]:
        """All keys below a folder of the house, by what follows it."""
        prefix = f"{self.house}/{folder}/"
        found = self._call(lambda consul: consul.kv.get(prefix, recurse=True))[1]
        return {entry["Key"].removeprefix(prefix): entry["Value"] or b"" for entry in found or ()}

    def _id(self, member: str) -> str:
        """What an agent knows a member by, which is one for all services."""
        return f"{self.house}:{member}"

    def _check(self, member: str, name: str) -> str:
        return f"{self._id(member)}:{name}"

    def _call(self, call: Callable[[Consul], Any]) -> Any:
        try:
            return call(self._client())
        except (ConsulException, RequestException) as error:
            raise _away(error) from error

    def _client(self) -> Consul:
        client: Consul | None = getattr(self._clients, "consul", None)
        if client is None:
            host, port, scheme = self._address
            client = self._clients.consul = Consul(host, port, scheme=scheme, connections_timeout=CALL_SECONDS)
        return client


def _away(error: Exception) -> DiscoveryAwayError:
    return DiscoveryAwayError(f"Consul does not answer: {type(error).__name__}")


def _no_address() -> DiscoveryError:
    # It may hold a password, so it is not repeated.
    return DiscoveryError("the address names no Consul; consul://host:port/house does", field="membership")
