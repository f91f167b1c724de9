"""The demo's fleets, brought into a running house through its front door as a training job would bring them."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from deploy.local.programs import until
from manymodels.client import Client
from manymodels.demo.history import FEATURES, Partition, Shelf, make_history, trained_partitions
from manymodels.demo.parquet import write_fleet
from manymodels.demo.training import FALLBACK, KEY, KINDS, SIGNATURE, Kind, train_fleet
from manymodels.errors import ApiError
from manymodels.wire import to_json

GROUPS: Final = tuple(kind.group for kind in KINDS)
ROW: Final = (2.49, "flyer", 27, 160)
LIVE_SECONDS: Final = 120.0
IMPORT_SECONDS: Final = 300.0


def bring_in(url: str, shelf: Shelf, groups: Sequence[str], folder: Path) -> int:
    """Train these groups' fleets on the demo's history, import and promote them; answers the number of models."""
    history = make_history(shelf)
    folder.mkdir(exist_ok=True)
    models = 0
    with Client(url, timeout=IMPORT_SECONDS) as client:
        for kind in KINDS:
            if kind.group in groups:
                fleet = list(train_fleet(kind, history))
                file = folder / f"{kind.group}.parquet"
                write_fleet(file, kind, fleet, datetime.now(UTC))
                _make_live(client, kind, file)
                models += len(fleet)
    return models


def await_live(url: str, shelf: Shelf, group: str) -> None:
    """Wait until a gateway answers for a group.

    Raises:
        StartError: if it does not in time.
    """
    with Client(url) as client:
        until(lambda: _answers(client, group, _known(shelf)), LIVE_SECONDS, f"an answer of {group} at {url}")


def question(shelf: Shelf) -> str:
    """A predict's body for one partition of a demo group."""
    row = dict(zip(FEATURES, ROW, strict=True))
    return to_json({"key": _known(shelf).as_key(), "instances": [row]}).decode()


def _make_live(client: Client, kind: Kind, file: Path) -> None:
    client.create_group(kind.group, KEY, SIGNATURE, fallback=FALLBACK)
    (record,) = client.import_fleet(kind.group, file)
    if record.release is not None:
        client.promote(kind.group, record.release)


def _known(shelf: Shelf) -> Partition:
    return trained_partitions(shelf)[0]


def _answers(client: Client, group: str, partition: Partition) -> bool:
    try:
        client.predict(group, partition.as_key(), [dict(zip(FEATURES, ROW, strict=True))])
    except ApiError:
        return False
    return True
