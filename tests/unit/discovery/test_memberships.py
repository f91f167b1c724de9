"""An address says where members are found."""

import pytest

from discovery.consul.membership import ConsulMembership
from discovery.errors import DiscoveryError
from discovery.leases import SqlMembership
from discovery.memberships import open_membership


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("sqlite:////tmp/leases.db", SqlMembership),
        ("postgresql://ann@db/oj", SqlMembership),
        ("postgres://ann@db/oj", SqlMembership),
        ("consul://127.0.0.1:8500/oj", ConsulMembership),
        ("consul+https://consul.example/oj", ConsulMembership),
    ],
)
def test_an_address_names_its_membership(url, kind):
    membership = open_membership(url, ttl=3.0)
    assert isinstance(membership, kind)
    membership.close()


@pytest.mark.parametrize("url", ["", "leases.db", "zk://ann:secret@host", "consulting://ann:secret@host"])
def test_an_address_of_none_is_refused_without_repeating_it(url):
    with pytest.raises(DiscoveryError, match="consul://host:port/house") as refused:
        open_membership(url, ttl=3.0)
    assert "secret" not in refused.value.detail
