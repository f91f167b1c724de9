"""The Python client: a whole fleet of models behind one object, over one kept-alive connection pool.

    with Client("http://127.0.0.1:8080") as client:
        key = {"store": 2, "brand": "tropicana"}
        client.register("oj-sales", key, model, provenance={"trained_through": "2026-11-19"})
        client.predict("oj-sales", key, [{"price": 3.87, "feat": 0}]).predictions

It needs none of the server's packages and no modelling library; each is imported by the one call that needs it.
"""

import os
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from manymodels.foreign import is_frame, is_table
from manymodels.frames import ARROW, arrow_stream, has_arrow, json_columns, table_columns
from manymodels.models import ModelCalls
from manymodels.records import Group
from manymodels.results import BulkResult, Lookup, Prediction
from manymodels.state import Status
from manymodels.transport import Transport
from manymodels.wire import Key, checked, group_path, key_pairs, query

if TYPE_CHECKING:
    from manymodels.direct.transport import DirectTransport
    from manymodels.http_transport import HttpTransport

DEFAULT_URL: Final = "http://127.0.0.1:8080"


class Client(ModelCalls):
    """Talks to one manymodels server. Safe to share between threads; close it, or use it as a context manager.

    Args:
        server: its address; by default MANYMODELS_URL of the environment, else http://127.0.0.1:8080. Or a transport
            of the caller's own, which the caller closes.
        timeout: seconds to wait for an answer.
        direct: ask workers themselves for predicts, by discovery's snapshot, which is watched at the server. They must
            be within reach; bulks and all other calls go to the server.

    Every call raises `UnreachableError` if no answer comes and the `ApiError` subclass of a refusal (see `errors`).
    """

    def __init__(self, server: str | Transport | None = None, *, timeout: float = 60.0, direct: bool = False) -> None:
        self._owned: HttpTransport | DirectTransport | None = None
        if server is None or isinstance(server, str):
            url = server or os.environ.get("MANYMODELS_URL") or DEFAULT_URL
            server = self._owned = _directly(url, timeout) if direct else _over_http(url, timeout)
        super().__init__(server)

    def close(self) -> None:
        """Close the connections."""
        if self._owned is not None:
            self._owned.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    # Predictions

    def predict(
        self,
        group: str,
        key: Key,
        instances: Any,
        *,
        max_fallback_level: int | None = None,
    ) -> Prediction:
        """The answer of one key's model.

        Args:
            group: the group's name.
            key: all its key fields, text or integers.
            instances: rows, each an object by input name or an array in signature order; or a pandas DataFrame.
            max_fallback_level: how far down the fallback chain the answer may come from; 0 is the key's own model.

        Raises:
            NotFoundError: if no model answers for the key.
        """
        body: dict[str, Any] = {"key": dict(key), "instances": _rows(instances)}
        if max_fallback_level is not None:
            body["max_fallback_level"] = max_fallback_level
        return Prediction.from_json(self._send("POST", group_path(group, "predict"), body, repeatable=True))

    def predict_bulk(
        self, group: str, data: Any, *, explain: bool = False, max_fallback_level: int | None = None
    ) -> BulkResult:
        """The answers for rows of many keys in one call; a row that fails is listed in `errors`, the others answer.

        Args:
            group: the group's name.
            data: key fields and inputs side by side, as a pandas DataFrame, a pyarrow Table or RecordBatch,
                `{"columns": [...], "data": [[...], ...]}`, or a list of objects. Frames and tables go in Arrow form,
                a frame without pyarrow as JSON.
            explain: also say which model answered each row. Only the JSON form carries this, so it is used.
            max_fallback_level: as in `predict`, for all rows.
        """
        path = group_path(group, "predict", "bulk")
        if (is_table(data) or (is_frame(data) and has_arrow())) and not explain:
            path += query([("max_fallback_level", max_fallback_level)])
            answer = self._upload(path, arrow_stream(data), {"content-type": ARROW, "accept": ARROW})
            return BulkResult.from_arrow(checked(answer))
        body = _bulk_body(data)
        if explain:
            body["explain"] = True
        if max_fallback_level is not None:
            body["max_fallback_level"] = max_fallback_level
        return BulkResult.from_json(self._send("POST", path, body, repeatable=True))

    def lookup(self, group: str, key: Key, *, explain: bool = False) -> Lookup:
        """Where a key is served, by which release and model.

        `explain` asks why each member stands where it stands; a group with a key field of that name cannot be asked.
        """
        asked = [("group", group), *([("explain", "true")] if explain else []), *key_pairs(key)]
        return Lookup.from_json(self._get("/v1/discovery/lookup" + query(asked)))

    def status(self) -> Status:
        """Each group's live release and what is lost, stale or held in it; members and cache of the server."""
        return Status.from_json(self._get("/v1/status"))

    # Groups

    def create_group(
        self,
        name: str,
        key: Sequence[str],
        signature: Mapping[str, Any],
        *,
        fallback: Sequence[Sequence[str]] = (),
        shard_by: Sequence[str] = (),
        auto_release: bool = True,
        replicas: int | None = None,
        pool: str | None = None,
    ) -> Group:
        """Create a group.

        Args:
            name: its name.
            key: the names of its key fields, in order.
            signature: `{"inputs": [{"name", "dtype", ...}], "outputs": [{"name", ...}]}`.
            fallback: key subsets tried in turn when a key has no model, e.g. `[["brand"], []]`.
            shard_by: the fields that choose the shard; all by default.
            auto_release: whether single registrations go live by themselves.
            replicas: how many seats hold each of its shards, where workers hold shares; by default 2.
            pool: of workers, whose seats those are; by default `default`.
        """
        body: dict[str, Any] = {
            "name": name,
            "key": list(key),
            "signature": dict(signature),
            "fallback": [list(level) for level in fallback],
            "shard_by": list(shard_by),
            "auto_release": auto_release,
            **_given(replicas=replicas, pool=pool),
        }
        return Group.from_json(self._send("POST", "/v1/groups", body))

    def groups(self) -> list[Group]:
        """All groups."""
        return [Group.from_json(body) for body in self._get("/v1/groups")["groups"]]

    def group(self, name: str) -> Group:
        """One group, with its live release."""
        return Group.from_json(self._get(group_path(name)))

    def place_group(self, name: str, *, replicas: int | None = None, pool: str | None = None) -> Group:
        """Change how many seats hold each shard of a group, or of which pool of workers; None leaves it as it is."""
        body = _given(replicas=replicas, pool=pool)
        return Group.from_json(self._send("PUT", group_path(name, "placement"), body))

    def delete_group(self, name: str, *, confirm: str) -> None:
        """Delete a group with all its models; `confirm` repeats the name."""
        self._delete(group_path(name) + query([("confirm", confirm)]))


def _over_http(url: str, timeout: float) -> "HttpTransport":
    from manymodels.http_transport import HttpTransport  # noqa: PLC0415 - takes half of the command line's start

    return HttpTransport(url, timeout=timeout)


def _given(**members: Any) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


def _rows(instances: Any) -> Any:
    if not is_frame(instances):
        return instances
    body = json_columns(instances)
    return [dict(zip(body["columns"], row, strict=True)) for row in body["data"]]


def _bulk_body(data: Any) -> dict[str, Any]:
    if is_table(data):
        return table_columns(data)
    if is_frame(data):
        return json_columns(data)
    return dict(data) if isinstance(data, Mapping) else {"rows": list(data)}


def _directly(url: str, timeout: float) -> "DirectTransport":
    from manymodels.direct.transport import DirectTransport  # noqa: PLC0415 - as above, and hardly ever wanted

    return DirectTransport(url, timeout=timeout)
