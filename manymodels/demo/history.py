"""A believable retail history: weekly sales of every brand in every store, from a seed.

Demand follows what real shelves show: each brand has its price elasticity and its season, each store its size, each
pair a taste of its own; flyers and displays lift sales, years drift, weeks scatter. One frame for all partitions, so
that it is made in milliseconds and is the same on every machine.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

REGIONS: Final = ("north", "south", "east", "west")
BRANDS: Final = ("citra", "dolce", "fresco", "grove", "sunrise", "valley")
NEW_BRAND: Final = "zest"  # on the shelves of a few stores since last week: no model anywhere
PROMOTIONS: Final = ("none", "flyer", "display")
FEATURES: Final = ("price", "promotion", "week", "trend")

_LIFT: Final = np.array([0.0, 0.35, 0.6])
_SHARES: Final = (0.75, 0.15, 0.10)


@dataclass(frozen=True, slots=True)
class Shelf:
    """What the history covers.

    Attributes:
        stores: how many stores; store i lies in region i mod 4.
        new_stores: how many of them opened last week, with no history to train on.
        weeks: weeks of history of the others.
        seed: of everything random.
    """

    stores: int = 42
    new_stores: int = 2
    weeks: int = 156
    seed: int = 20_26


@dataclass(frozen=True, slots=True)
class Partition:
    """One brand in one store."""

    region: str
    store: str
    brand: str

    def as_key(self) -> dict[str, str]:
        """The partition key, fields in the group's order."""
        return {"region": self.region, "store": self.store, "brand": self.brand}


def trained_partitions(shelf: Shelf) -> list[Partition]:
    """The partitions that have a history, and so models."""
    return [_partition(store, brand) for store in range(shelf.stores - shelf.new_stores) for brand in BRANDS]


def untrained_partitions(shelf: Shelf) -> list[Partition]:
    """Partitions without a history: all brands of the new stores, then the new brand in the first stores."""
    opened = range(shelf.stores - shelf.new_stores, shelf.stores)
    return [_partition(store, brand) for store in opened for brand in BRANDS] + [
        _partition(store, NEW_BRAND) for store in range(len(REGIONS))
    ]


def make_history(shelf: Shelf) -> pd.DataFrame:
    """Weekly sales of all trained partitions.

    Columns: region, store, brand (text), price, promotion (text), week (1..52), trend (weeks since the beginning),
    units (float64, what models learn). Rows are ordered by partition, then by week.
    """
    random = np.random.default_rng(shelf.seed)
    partitions = trained_partitions(shelf)
    count, weeks = len(partitions), shelf.weeks
    brand = np.array([BRANDS.index(each.brand) for each in partitions])
    store = np.array([int(each.store) - 1 for each in partitions])
    trend = np.arange(weeks)
    price, promotion = _offers(random, brand, weeks)
    log_units = (
        4.0
        + random.normal(0.0, 0.4, shelf.stores)[store][:, None]
        + random.normal(0.0, 0.2, count)[:, None]
        - random.uniform(1.2, 2.8, len(BRANDS))[brand][:, None] * np.log(price / 3.0)
        + _LIFT[promotion] * random.uniform(0.7, 1.3, count)[:, None]
        + _season(random, brand, trend)
        + random.normal(0.0, 0.001, count)[:, None] * trend
        + random.normal(0.0, 0.12, (count, weeks))
    )
    return pd.DataFrame(
        {
            **{
                name: np.repeat([getattr(each, name) for each in partitions], weeks)
                for name in ("region", "store", "brand")
            },
            "price": price.ravel(),
            "promotion": np.array(PROMOTIONS)[promotion.ravel()],
            "week": np.tile(trend % 52 + 1, count),
            "trend": np.tile(trend, count),
            "units": np.round(np.exp(log_units)).ravel(),
        }
    )


def next_weeks(shelf: Shelf, partitions: list[Partition], rows: int) -> pd.DataFrame:
    """What one would ask the models: the coming weeks of each partition, `rows` rows each in the partitions' order."""
    random = np.random.default_rng(shelf.seed + 1)
    trend = shelf.weeks + np.arange(rows)
    count = len(partitions) * rows
    return pd.DataFrame(
        {
            **{
                name: np.repeat([getattr(each, name) for each in partitions], rows)
                for name in ("region", "store", "brand")
            },
            "price": random.uniform(1.9, 4.2, count).round(2),
            "promotion": random.choice(PROMOTIONS, count, p=_SHARES),
            "week": np.tile(trend % 52 + 1, len(partitions)),
            "trend": np.tile(trend, len(partitions)),
        }
    )


def _partition(store: int, brand: str) -> Partition:
    return Partition(REGIONS[store % len(REGIONS)], str(store + 1), brand)


def _offers(random: np.random.Generator, brand: np.ndarray, weeks: int) -> tuple[np.ndarray, np.ndarray]:
    """Price and promotion (index) of each partition and week; promotions come with a discount."""
    count = len(brand)
    promotion = random.choice(len(PROMOTIONS), size=(count, weeks), p=_SHARES)
    usual = random.uniform(2.2, 3.8, len(BRANDS))[brand][:, None] * random.uniform(0.92, 1.08, count)[:, None]
    discount = np.where(
        promotion > 0, random.uniform(0.08, 0.3, (count, weeks)), random.uniform(0.0, 0.04, (count, weeks))
    )
    return np.round(usual * (1 - discount), 2), promotion


def _season(random: np.random.Generator, brand: np.ndarray, trend: np.ndarray) -> np.ndarray:
    height = random.uniform(0.1, 0.35, len(BRANDS))[brand][:, None]
    phase = random.uniform(0.0, 2 * np.pi, len(BRANDS))[brand][:, None]
    return np.asarray(height * np.sin(2 * np.pi * trend / 52 + phase))
