"""What a process shows of itself to whoever looks: where it finds a model, and what it has counted."""

import re
from collections.abc import Mapping
from urllib.parse import urlencode

from tests.support.ledger import Caller


def knows(caller: Caller, group: str, key: Mapping[str, str]) -> bool:
    """Whether a process can say where a model is; that loads nothing."""
    return caller.call("GET", f"/v1/discovery/lookup?{urlencode({'group': group, **key})}").status == 200


def metric(caller: Caller, name: str) -> float:
    """The sum of all series of a metric; its name as /metrics spells it."""
    text = caller.call("GET", "/metrics").answer.decode()
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if re.match(rf"{name}(\{{.*)? ", line))
