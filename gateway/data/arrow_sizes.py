"""How large an Arrow stream becomes when it is read, told from its message headers before anything is unpacked.

A compressed buffer says its real size in its first eight bytes and the library allocates whatever it says, so a few
kilobytes may ask for gigabytes. The headers are FlatBuffers, of which the few fields needed are read here by hand.
Format: https://arrow.apache.org/docs/format/Columnar.html#recordbatch-message
"""

from struct import Struct
from struct import error as StructError  # noqa: N812 - the standard library names it like a variable
from typing import Any, Final

import pyarrow as pa

from gateway.errors import ArrowInvalidError

_U16: Final = Struct("<H")
_U32: Final = Struct("<I")
_I32: Final = Struct("<i")
_I64: Final = Struct("<q")

# Positions of fields in their tables (Message.fbs).
_HEADER: Final = 2  # of Message
_DATA: Final = 1  # of DictionaryBatch
_BUFFERS: Final = 2  # of RecordBatch
_COMPRESSION: Final = 3  # of RecordBatch
_BUFFER_BYTES: Final = 16  # offset and length
_STORED: Final = -1  # a buffer of a compressed batch that is not compressed itself


def unpacked_bytes(raw: bytes) -> int:
    """Bytes of all batches and dictionaries of a stream once their buffers are unpacked.

    Raises:
        ArrowInvalidError: if a header leads out of its message.
        pa.ArrowException, OSError: if the stream is broken otherwise.
    """
    total = 0
    for message in pa.ipc.MessageReader.open_stream(raw):
        if message.type == "schema":
            continue
        try:
            total += _message_bytes(message)
        except StructError as error:
            raise ArrowInvalidError("the body is not an Arrow IPC stream: a header is damaged") from error
    return total


def _message_bytes(message: Any) -> int:
    header, body = memoryview(message.metadata), memoryview(message.body)
    batch = _table(header, _read(_U32, header, 0), _HEADER)
    if message.type == "dictionary":
        batch = _table(header, batch, _DATA)
    if not _field(header, batch, _COMPRESSION):
        return len(body)
    buffers = _table(header, batch, _BUFFERS)
    return sum(
        _buffer_bytes(header, body, buffers + _U32.size + index * _BUFFER_BYTES)
        for index in range(_read(_U32, header, buffers))
    )


def _buffer_bytes(header: memoryview, body: memoryview, at: int) -> int:
    offset, length = _read(_I64, header, at), _read(_I64, header, at + _I64.size)
    if length == 0:
        return 0
    unpacked = _read(_I64, body, offset)
    if length < 0 or unpacked < _STORED:  # would make room for others in the sum
        raise StructError
    return length if unpacked == _STORED else unpacked


def _table(header: memoryview, table: int, field: int) -> int:
    """Position of what a field refers to."""
    at = _field(header, table, field)
    return at + _read(_U32, header, at)


def _field(header: memoryview, table: int, field: int) -> int:
    """Position of a field of a table, 0 if it is absent."""
    fields = table - _read(_I32, header, table)
    entry = 4 + 2 * field
    if entry >= _read(_U16, header, fields):
        return 0
    offset = _read(_U16, header, fields + entry)
    return table + offset if offset else 0


def _read(kind: Struct, data: memoryview, at: int) -> int:
    if at < 0:  # would count from the end
        raise StructError
    return int(kind.unpack_from(data, at)[0])
