"""The client's calls about models: registering one or a fleet, listing, history, deletion."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

from manymodels.fitted import fitted, meta
from manymodels.fleet import Progress, import_files
from manymodels.records import Import, ModelVersion, Registered, Reject
from manymodels.releases import ReleaseCalls
from manymodels.wire import Key, from_answer, group_path, header_json, key_pairs, query

PARQUET: Final = "application/vnd.apache.parquet"


class ModelCalls(ReleaseCalls):
    """Models of a group and their imports."""

    def register(
        self,
        group: str,
        key: Key,
        model: Any,
        *,
        runtime: str | None = None,
        provenance: Mapping[str, object] | None = None,
        tags: Mapping[str, object] | None = None,
        metrics: Mapping[str, float] | None = None,
        classes: Sequence[Any] = (),
        examples: Mapping[str, Any] | None = None,
    ) -> Registered:
        """Register a fitted model for one key; returns when the server has parsed, probed and stored it.

        Args:
            group: the group's name.
            key: all key fields, or those of a fallback level; empty for the whole group's fallback model.
            model: a fitted LightGBM Booster or estimator, scikit-learn estimator, ONNX ModelProto, bytes or Path.
            runtime: of bytes or a file, where their beginning does not tell.
            provenance: `trained_through`, `data`, `run` and the like; `trained_at`, `commit` (of git) and `libraries`
                are found out where they can be.
            tags: text to text, filterable in listings.
            metrics: text to number.
            classes: labels of a classifier's outputs in the model's own order, where the model does not tell.
            examples: `{"instances": [...], "predictions": [...]}`; refused if the server computes other answers.

        Raises:
            UnsupportedModelError: if no runtime serves this kind of model.
            InvalidRequestError: if the server refuses the model, saying why.
        """
        prepared = fitted(model, runtime)
        said = meta(prepared, tags=tags, metrics=metrics, provenance=provenance, classes=classes, examples=examples)
        headers = {
            "content-type": "application/octet-stream",
            "x-model-runtime": prepared.runtime,
            "x-model-meta": header_json(said),
        }
        path = group_path(group, "models") + query(key_pairs(key))
        return Registered.from_json(from_answer(self._upload(path, prepared.artifact, headers)))

    def delete_model(self, group: str, key: Key) -> int:
        """Add a tombstone: releases built from now on hold no model for the key. Returns its version number."""
        return int(self._delete(group_path(group, "models") + query(key_pairs(key)))["version"])

    def models(
        self, group: str, where: Key | None = None, *, tags: Mapping[str, str] | None = None, page: int = 500
    ) -> Iterator[ModelVersion]:
        """The newest version of each key in order, fetched page by page; `where` and `tags` narrow the listing."""
        pairs: list[tuple[str, str | int | None]] = [*key_pairs(where or {})]
        pairs += [(f"tag.{name}", value) for name, value in (tags or {}).items()]
        for body in self._pages(group_path(group, "models"), [*pairs, ("limit", page)], "models"):
            yield ModelVersion.from_json(body)

    def history(self, group: str, key: Key) -> list[ModelVersion]:
        """All versions of one key, newest first, and when each was live."""
        body = self._get(group_path(group, "models", "history") + query(key_pairs(key)))
        return [ModelVersion.from_json(version) for version in body["versions"]]

    def import_fleet(
        self,
        group: str,
        source: str | Path,
        *,
        runtime: str | None = None,
        on_error: str = "fail",
        progress: Callable[[Progress], None] | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> list[Import]:
        """Import the models of a Parquet file, or of all Parquet files below a folder, and wait for the end.

        With auto release on, that includes the release of what came; it goes live by itself only if nothing is live.

        A file has one row a model: key columns as text (null makes a partial key), `model` bytes, and optionally
        `runtime`, `tags`, `metrics`, `provenance`. Calling again with the same files resumes what was interrupted.

        Args:
            group: the group's name.
            source: the file or folder.
            runtime: of all models, for files without a `runtime` column.
            on_error: `fail` publishes nothing of a file with a rejected row, `skip` leaves those rows out.
            progress: called with each file's record while it is imported.
            pause: waits between two looks at an import; seconds.

        Raises:
            ImportFailedError: naming the first rejected rows.
            ReleaseRefusedError: if the release of what came could not be built.
        """
        return list(
            import_files(self, group, Path(source), runtime=runtime, on_error=on_error, progress=progress, pause=pause)
        )

    def start_import(
        self, group: str, file: BinaryIO | bytes, *, runtime: str | None = None, on_error: str = "fail"
    ) -> Import:
        """Send one Parquet file; the import goes on at the server."""
        headers = {"content-type": PARQUET} | ({"x-model-runtime": runtime} if runtime else {})
        path = group_path(group, "models", "bulk") + query([("on_error", on_error)])
        return Import.from_json(from_answer(self._upload(path, file, headers)))

    def imports(self, group: str) -> list[Import]:
        """All imports of a group, newest first."""
        return [Import.from_json(body) for body in self._get(group_path(group, "imports"))["imports"]]

    def import_record(self, group: str, number: int) -> Import:
        """One import as it stands."""
        return Import.from_json(self._get(group_path(group, "imports", number)))

    def rejects(self, group: str, number: int, *, page: int = 500) -> Iterator[Reject]:
        """The rejected rows of an import, in row order, fetched page by page."""
        for body in self._pages(group_path(group, "imports", number, "rejects"), [("limit", page)], "rejects"):
            yield Reject.from_json(body)
