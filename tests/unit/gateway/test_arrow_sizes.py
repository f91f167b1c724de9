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
    return read_arrow_bulk(seen, RowReader(seen.signature), raw, max_level=0, limit=3_000_000)


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


def in_batches(*batches):
    """A stream of several batches of one schema."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batches[0].schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


def test_columns_that_cost_no_bytes_are_bounded_by_their_cells():
    nulls = pa.table({name: pa.nulls(2_000_000) for name in ("store", "brand", "price")})
    raw = arrow_stream(nulls)
    assert len(raw) < 1000
    with pytest.raises(BodyTooLargeError):
        read(raw)
    few = read(arrow_stream(nulls.slice(0, 1000)))
    assert {problem.code for problem in few.errors.values()} == {"key_type"}


def test_views_of_text_are_bounded_over_all_batches_of_a_stream():
    one = struct.pack("<i4sii", 1000, b"yyyy", 0, 0)
    many = pa.Array.from_buffers(pa.string_view(), 900, [None, pa.py_buffer(one * 900), pa.py_buffer(b"y" * 1000)])
    batch = pa.record_batch({"store": many, "brand": pa.array(["t"] * 900), "price": np.zeros(900)})
    assert read(in_batches(batch)).total == 900
    with pytest.raises(BodyTooLargeError):
        read(in_batches(*[batch] * 30))


def test_a_size_below_zero_makes_no_room_for_others():
    raw = arrow_stream(table(), compression="zstd")
    declared = struct.pack("<q", 8 * ROWS)  # of the prices
    assert raw.count(declared) >= 1
    with pytest.raises(ArrowInvalidError):
        unpacked_bytes(raw.replace(declared, struct.pack("<q", -(1 << 40))))


def test_batches_may_each_have_a_dictionary_of_their_own_with_narrow_indices():
    def batch(first):
        stores = pa.array([str(first + row) for row in range(100)])
        indices = pa.array(np.arange(100, dtype=np.int8))
        return pa.record_batch(
            {
                "store": pa.DictionaryArray.from_arrays(indices, stores),
                "brand": pa.array(["t"] * 100),
                "price": np.zeros(100),
            }
        )

    rows = read(in_batches(batch(0), batch(100)))
    assert not rows.errors
    assert [key[0] for key in rows.keys] == [str(number) for number in range(200)]


def test_a_dictionary_of_countless_nulls_is_read_as_missing_text():
    seen = view({"inputs": [{"name": "price"}, {"name": "s", "dtype": "string"}], "outputs": [{"name": "y"}]})
    nulls = pa.DictionaryArray.from_arrays(pa.array([0, 1], pa.int32()), pa.nulls(2**31 - 1))
    raw = arrow_stream(pa.table({"store": ["1", "2"], "brand": ["t", "t"], "price": [1.0, 2.0], "s": nulls}))
    rows = read_arrow_bulk(seen, RowReader(seen.signature), raw, max_level=0, limit=10)
    assert [problem.code for problem in rows.errors.values()] == ["feature_null"] * 2


def test_damaged_headers_are_refused_and_lead_nowhere():
    raw = arrow_stream(table(20), compression="zstd")
    for at in range(0, len(raw), 3):
        for changed in (0x00, 0xFF, raw[at] ^ 0x80):
            try:
                unpacked_bytes(raw[:at] + bytes([changed]) + raw[at + 1 :])
            except (ArrowInvalidError, pa.ArrowException, OSError):
                continue
