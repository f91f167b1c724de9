"""What the largest bulks of one client cost another that asks for single predicts: three runs over one server.

The waits of all three are measured at the same steady pace (`benchmarks.crowd`): with nobody else, beside JSON bulks
of 2 MB, and beside Arrow bulks of 50 MB, each sent as soon as the one before is answered.
"""

from pathlib import Path
from typing import Final

from benchmarks import payloads
from benchmarks.arrow_bulk import arrow_body_of
from benchmarks.crowd import Pace, crowded, paced
from benchmarks.fleet import key_of, rows
from benchmarks.load import ARROW, JSON
from benchmarks.machine import SERVER_CORE
from benchmarks.payloads import BULK, PREDICT
from benchmarks.processes import Served
from benchmarks.report import Figure, say

LARGEST_JSON: Final = 2 << 20
LARGEST_ARROW: Final = 50_000_000
MOST_MILLISECONDS: Final = 20.0


def crowd_figures(served: Served, folder: Path, models: int, *, seconds: float) -> list[Figure]:
    """The 99th percentile of single predicts, alone and beside each kind of bulk."""
    served.place(SERVER_CORE)
    singles = payloads.write_lines(folder / "crowd.jsonl", payloads.singles(models, models))
    arrow, arrow_rows = arrow_body_of(models, LARGEST_ARROW)
    (folder / "largest.arrow").write_bytes(arrow)
    document, document_rows = json_body_of(models, LARGEST_JSON)
    (folder / "largest.jsonl").write_bytes(document)
    say("single predicts beside the largest bulks")
    alone = paced(served.port, PREDICT, singles, seconds)
    with crowded(served.port, BULK, folder / "largest.jsonl", JSON):
        beside_json = paced(served.port, PREDICT, singles, seconds)
    with crowded(served.port, BULK, folder / "largest.arrow", ARROW):
        beside_arrow = paced(served.port, PREDICT, singles, seconds)
    what = "single predict, p99"
    return [
        Figure(f"{what}, with nobody else", alone.p99, "ms", _said(alone)),
        _figure(f"{what}, beside JSON bulks of {document_rows:,} rows (2 MB)", beside_json),
        _figure(f"{what}, beside Arrow bulks of {arrow_rows:,} rows (50 MB)", beside_arrow),
    ]


def json_body_of(models: int, size: int) -> tuple[bytes, int]:
    """A JSON bulk by columns of about so many bytes, not more, its keys drawn in turn; the body and its rows."""
    sample = 10_000
    count = int(size / (len(_json_body(models, sample)) / sample) * 0.99)
    body = _json_body(models, count)
    assert len(body) <= size, f"{len(body)} bytes are over {size}"
    return body, count


def _json_body(models: int, count: int) -> bytes:
    return payloads.bulk([key_of(row * 7919 % models) for row in range(count)], rows(count, 5).tolist())


def _figure(what: str, pace: Pace) -> Figure:
    return Figure(what, pace.p99, "ms", _said(pace), most=MOST_MILLISECONDS)


def _said(pace: Pace) -> str:
    return f"p50 {pace.p50:,.2f} ms, longest {pace.worst:,.1f} ms, {pace.requests:,} requests at a steady pace"
