"""Group views as a gateway sees them, without a registry behind them."""

from discovery.snapshot import GroupView
from registry.keys import KeySchema
from registry.signature import Signature

PRICES = {"inputs": [{"name": "price"}, {"name": "feat", "dtype": "int64", "default": 0}], "outputs": [{"name": "y"}]}


def signature(body=PRICES, key_fields=("store", "brand")) -> Signature:
    return Signature.from_json(body, key_fields)


def view(body=PRICES, *, fields=("store", "brand"), fallback=(("brand",), ()), deployments=None) -> GroupView:
    return GroupView(
        name="oj",
        schema=KeySchema(fields, fallback=fallback),
        signature=signature(body, fields),
        disabled=frozenset(),
        deployments=deployments or {},
        wanted=(),
        auto_release=True,
        suspended=False,
    )
