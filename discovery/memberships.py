"""Which membership an address names: leases in SQL, or Consul."""

from contextlib import closing

from discovery.errors import DiscoveryError
from discovery.leases import SqlMembership, migrate_leases
from discovery.membership import Membership
from registry.errors import DatabaseUnknownError


def open_membership(url: str, *, ttl: float) -> Membership:
    """The membership at `consul://host:port/house` or at the URL of an SQL database. Nothing is asked yet.

    Raises:
        DiscoveryError: if the address names neither.
    """
    if url.startswith("consul"):
        from discovery.consul.membership import ConsulMembership  # noqa: PLC0415 - its client takes long to import

        return ConsulMembership(url, ttl=ttl)
    try:
        return SqlMembership(url, ttl=ttl)
    except DatabaseUnknownError as error:
        said = "the address names no membership; consul://host:port/house does"
        raise DiscoveryError(said, field="membership") from error


def begin_membership(url: str, *, ttl: float, alone: bool) -> None:
    """See to it that a membership can be used, before the processes that use it start.

    Args:
        url: see `open_membership`.
        ttl: seconds of a lease.
        alone: whether all its members belonged to the caller, so that none of them lives: then they are dropped.

    Raises:
        DiscoveryError: if the address names none.
        DiscoveryAwayError, DatabaseBusyError: if it does not answer.
    """
    with closing(open_membership(url, ttl=ttl)) as membership:
        if isinstance(membership, SqlMembership):
            migrate_leases(url)
            if alone:
                membership.purge()
        membership.changes()
