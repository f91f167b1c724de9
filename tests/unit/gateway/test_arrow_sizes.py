"""What an Arrow stream unpacks to is known before a byte of it is unpacked, and bounded."""

import struct

import numpy as np
import pyarrow as pa
import pytest

from gateway.data.arrow import read_arrow_bulk
from gateway.data.arrow_sizes import unpacked_bytes
from gateway.data.rows import RowReader
from gateway.errors import ArrowInvalidError, BodyTooLargeError
from tests.support.tables import arrow_stream
from tests.support.views import view

ROWS = 1000


def table(rows=ROWS):
    return pa.table(
        {
            "store": pa.array([str(row % 7) for row in range(rows)]),
            "brand": pa.array(["t", None] * (rows // 2)).dictionary_encode(),
            "price": np.arange(rows, dtype=np.float64),
        }
    )


def read(raw):
    seen = view()
    return read_arrow_bulk(seen, RowReader(seen.signature), raw, max_level=0, explain=False, limit=3_000_000)


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_a_compressed_stream_is_as_large_as_it_was_and_reads_the_same(compression):
    plain, packed = arrow_stream(table()), arrow_stream(table(), compression=compression)
    padding = 0.01 * len(plain)
    assert len(packed) < unpacked_bytes(packed) == pytest.approx(unpacked_bytes(plain), abs=padding)
    assert read(packed).features.matrix.tolist() == read(plain).features.matrix.tolist()


def test_a_stream_that_would_fill_the_memory_is_refused_unread():
    raw = arrow_stream(pa.table({"price": np.zeros(10_000_000)}), compression="zstd")
    before = pa.total_allocated_bytes()
    pool = pa.default_memory_pool()
    most = pool.max_memory()
    with pytest.raises(BodyTooLargeError):
        read(raw)
    assert pool.max_memory() <= max(most, before + 1_000_000)


def test_a_long_text_that_every_row_refers_to_is_held_once():
    long = pa.DictionaryArray.from_arrays(pa.array(np.zeros(100_000, np.int8)), pa.array(["x" * 1_000_000]))
    rows = read(arrow_stream(pa.table({"store": long, "brand": long, "price": np.zeros(100_000)})))
    assert {problem.code for problem in rows.errors.values()} == {"key_too_long"}


def test_views_of_text_are_read_like_text_unless_they_multiply_it():
    plain = table(10).set_column(1, "brand", pa.array(["a text too long to lie in its view"] * 10))
    viewed = plain.cast(pa.schema([("store", pa.string_view()), ("brand", pa.string_view()), ("price", pa.float64())]))
    assert read(arrow_stream(viewed)).keys == read(arrow_stream(plain)).keys
    one = struct.pack("<i4sii", 1000, b"yyyy", 0, 0)
    buffers = [None, pa.py_buffer(one * 10_000), pa.py_buffer(b"y" * 1000)]
    many = pa.Array.from_buffers(pa.string_view(), 10_000, buffers)
    with pytest.raises(BodyTooLargeError):
        read(arrow_stream(pa.table({"store": many, "brand": many, "price": np.zeros(10_000)})))


def test_damaged_headers_are_refused_and_lead_nowhere():
    raw = arrow_stream(table(20), compression="zstd")
    for at in range(0, len(raw), 3):
        for changed in (0x00, 0xFF, raw[at] ^ 0x80):
            try:
                unpacked_bytes(raw[:at] + bytes([changed]) + raw[at + 1 :])
            except (ArrowInvalidError, pa.ArrowException, OSError):
                continue
