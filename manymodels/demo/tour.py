"""What to try with a running demo, as lines to copy into a shell."""

from manymodels.demo.history import FEATURES, NEW_BRAND, Partition, Shelf, trained_partitions, untrained_partitions
from manymodels.wire import key_pairs, query, to_json

_ROW = (2.49, "flyer", 27, 160)
_JSON = "-H 'content-type: application/json'"


def tour(url: str, shelf: Shelf, program: str) -> list[tuple[str, str]]:
    """Pairs of a heading and what to type (or to open)."""
    known = trained_partitions(shelf)[0]
    opened, *_, newest = untrained_partitions(shelf)
    groups = f"{url}/v1/groups"
    single = f"curl -s {groups}/retail-lightgbm/predict {_JSON} -d"
    lookup = f"{url}/v1/discovery/lookup" + query([("group", "retail-onnx"), *key_pairs(known.as_key())])
    named = " ".join(f"{field}={value}" for field, value in known.as_key().items())
    return [
        ("one partition, its own model", f"{single} '{_single(known)}'"),
        ("a store without history: its brand's model answers (fallback level 1)", f"{single} '{_single(opened)}'"),
        (
            f"a brand without history ({NEW_BRAND}): the whole group's model answers (level 2)",
            f"{single} '{_single(newest)}'",
        ),
        (
            "many partitions in one call, each by its own model",
            f"curl -s {groups}/retail-ridge/predict/bulk {_JSON} -d '{_bulk([known, opened, newest])}'",
        ),
        ("where a partition is served, and by which release", f"curl -s '{lookup}'"),
        (
            "switch one model off, and on again",
            f"{program} hold retail-lightgbm disable {named} --reason demo --url {url}",
        ),
        ("", f"{program} unhold retail-lightgbm {named} --url {url}"),
        ("how the groups fare", f"{program} status --url {url}"),
        ("the API, page by page", f"{url}/docs"),
    ]


def _single(partition: Partition) -> str:
    row = dict(zip(FEATURES, _ROW, strict=True))
    return to_json({"key": partition.as_key(), "instances": [row]}).decode()


def _bulk(partitions: list[Partition]) -> str:
    columns = [*partitions[0].as_key(), *FEATURES]
    return to_json({"columns": columns, "data": [[*each.as_key().values(), *_ROW] for each in partitions]}).decode()
