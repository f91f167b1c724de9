"""Between rows of SQL and the registry's values: the one place that knows how a value lies in a column."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy import Row

from registry.keys import KeySchema, PartitionKey, unquoted
from registry.meta import meta_body
from registry.records import BundleSlice, Group, ModelMeta, NewVersion, Packing, Release, Version
from registry.signature import Signature


def dump_json(value: Any) -> str:
    """JSON text of a value."""
    return orjson.dumps(value, default=_as_plain).decode()


def _as_plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is no JSON value")


def stored_key(text: str) -> PartitionKey:
    """The key of a canonical text that was checked before it was stored."""
    if not text:
        return PartitionKey(())
    pieces = [piece.split("=") for piece in text.split("/")]
    return PartitionKey(tuple([(field, unquoted(value)) for field, value in pieces]))


def write_meta(meta: ModelMeta) -> str:
    """JSON text of a meta, without its empty parts."""
    body = meta_body(meta)
    return dump_json(body) if body else "{}"


def stored_meta(text: str) -> ModelMeta:
    """The meta of a text that `write_meta` wrote."""
    if text == "{}":
        return ModelMeta()
    body = orjson.loads(text)
    body["classes"] = tuple(body.get("classes", ()))
    return ModelMeta(**body)


def write_definition(schema: KeySchema, signature: Signature) -> str:
    """JSON text of what defines a group."""
    return dump_json(
        {
            "key": list(schema.fields),
            "shard_by": list(schema.shard_by),
            "fallback": [list(level) for level in schema.fallback],
            "signature": signature.to_json(),
        }
    )


def read_definition(text: str) -> tuple[KeySchema, Signature]:
    """What a text defines that `write_definition` wrote."""
    body = orjson.loads(text)
    fallback = tuple(tuple(level) for level in body["fallback"])
    schema = KeySchema(tuple(body["key"]), tuple(body["shard_by"]), fallback)
    return schema, Signature.from_json(body["signature"], body["key"])


def read_group(row: Row[Any]) -> Group:
    """A group of a row of `groups`."""
    schema, signature = read_definition(row.definition)
    return Group(
        id=row.id,
        name=row.name,
        schema=schema,
        signature=signature,
        auto_release=row.auto_release,
        suspended=row.suspended,
        created=row.created,
        replicas=row.replicas,
        pool=row.pool,
    )


def version_columns(new: NewVersion) -> dict[str, Any]:
    """What `model_versions` and `import_rows` hold of a proved artifact alike."""
    return {
        "digest": new.digest,
        "runtime": new.runtime,
        "size": new.size,
        "heap": new.heap,
        "bundle": new.place.bundle,
        "offset": new.place.offset,
        "length": new.place.length,
        "verdict": new.packing.verdict,
        "pack_length": new.packing.length,
        "pack_size": new.packing.size,
        "meta": write_meta(new.meta),
    }


def read_new_version(row: Row[Any]) -> NewVersion:
    """A proved artifact of a row of `import_rows`."""
    return NewVersion(
        key=stored_key(row.key),
        digest=row.digest,
        runtime=row.runtime,
        size=row.size,
        heap=row.heap,
        place=BundleSlice(row.bundle, row.offset, row.length),
        meta=stored_meta(row.meta),
        packing=Packing(row.verdict, row.pack_length, row.pack_size),
    )


def read_version(row: Sequence[Any]) -> Version:
    """A version of a row of `registry.queries.VERSION_COLUMNS`, taken apart by place: builds read a million of them."""
    key, sequence, number, digest, runtime, size, heap, bundle, offset, length, *more = row
    verdict, pack_length, pack_size, meta, created, withdrawn = more
    return Version(
        key=stored_key(key),
        number=number,
        sequence=sequence,
        digest=digest,
        runtime=runtime,
        size=size,
        heap=heap,
        place=None if bundle is None else BundleSlice(bundle, offset, length),
        meta=stored_meta(meta),
        withdrawn=withdrawn,
        created=created,
        packing=Packing(verdict, pack_length, pack_size),
    )


def read_release(row: Row[Any], group: str) -> Release:
    """A release of a row of `releases`."""
    return Release(
        number=row.number,
        group=group,
        state=row.state,
        base=row.base,
        through=row.through,
        manifest=row.manifest,
        models=row.models,
        size=row.size,
        report=orjson.loads(row.report),
        created=row.created,
        ready=row.ready,
        gates=orjson.loads(row.gates),
    )
