"""The rival: what an expert writes in an afternoon with FastAPI and onnxruntime, and tunes with care.

Async handlers that take the bare request (no pydantic model, no dependency), orjson in and out, a dict of warm
sessions of one thread without an arena, float32 straight into the session, uvicorn with httptools and uvloop. It does
less than our server: no checks of types or names, no fallback, no versions, no metrics.
"""

import argparse
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime
import orjson
from fastapi import FastAPI, Request, Response

from benchmarks.fleet import FEATURES, Key
from benchmarks.onnx_fleet import INPUT
from benchmarks.uvicorn_run import run_bare

_JSON: Final = "application/json"
Sessions = dict[Key, onnxruntime.InferenceSession]


def session(model: bytes) -> onnxruntime.InferenceSession:
    """A warm session of one thread, without an arena."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    made = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    made.run(None, {INPUT: np.zeros((1, len(FEATURES)), dtype=np.float32)})
    return made


def load_sessions(folder: Path) -> Sessions:
    """A warm session for every `store~brand.onnx` of a folder."""
    sessions: Sessions = {}
    for path in sorted(folder.glob("*.onnx")):
        store, _, brand = path.stem.partition("~")
        sessions[store, brand] = session(path.read_bytes())
    return sessions


def rival(sessions: Sessions) -> FastAPI:
    """The application: `/predict` for one key and `/predict/bulk` for many, in our bodies' shapes."""
    app = FastAPI(openapi_url=None)
    outputs = [next(iter(sessions.values())).get_outputs()[0].name]

    @app.post("/predict")
    async def predict(request: Request) -> Response:
        body = orjson.loads(await request.body())
        key = body["key"]
        matrix = np.array([[row[name] for name in FEATURES] for row in body["instances"]], dtype=np.float32)
        answer = sessions[key["store"], key["brand"]].run(outputs, {INPUT: matrix})[0]
        return Response(orjson.dumps({"predictions": answer[:, 0].tolist()}), media_type=_JSON)

    @app.post("/predict/bulk")
    async def bulk(request: Request) -> Response:
        body = orjson.loads(await request.body())
        data = body["data"]
        rows_of: dict[Key, list[int]] = {}
        for number, row in enumerate(data):
            rows_of.setdefault((row[0], row[1]), []).append(number)
        matrix = np.array([row[2:] for row in data], dtype=np.float32)
        predictions: list[Any] = [None] * len(data)
        for key, numbers in rows_of.items():
            session = sessions[key]
            if len(numbers) == 1:
                at = numbers[0]
                predictions[at] = float(session.run(outputs, {INPUT: matrix[at : at + 1]})[0][0, 0])
            else:
                answers = session.run(outputs, {INPUT: matrix[numbers]})[0][:, 0].tolist()
                for at, answer in zip(numbers, answers, strict=True):
                    predictions[at] = answer
        return Response(orjson.dumps({"predictions": predictions}), media_type=_JSON)

    return app


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--models", type=Path, required=True)
    given = parser.parse_args()
    run_bare(rival(load_sessions(given.models)), given.port)


if __name__ == "__main__":
    main()
