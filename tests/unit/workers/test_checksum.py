"""The checksum of packs is XXH64: the same number as the specification's algorithm, written down once more here."""

import struct
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.packing.checks import checksum
from workers.packing.wire import checksum_of

P1, P2, P3, P4, P5 = (
    11400714785074694791,
    14029467366897019727,
    1609587929392839161,
    9650029242287828579,
    2870177450012600261,
)
MASK = (1 << 64) - 1


def rotated(value: int, by: int) -> int:
    return (value << by | value >> (64 - by)) & MASK


def rounded(lane: int, word: int) -> int:
    return rotated((lane + word * P2) & MASK, 31) * P1 & MASK


def xxh64(data: bytes, seed: int = 0) -> int:
    """doc/xxhash_spec.md of github.com/Cyan4973/xxHash, step by step."""
    at = 0
    total = (seed + P5) & MASK
    if len(data) >= 32:
        lanes = [(seed + P1 + P2) & MASK, (seed + P2) & MASK, seed, (seed - P1) & MASK]
        while len(data) - at >= 32:
            lanes = [rounded(lane, word) for lane, word in zip(lanes, struct.unpack_from("<4Q", data, at), strict=True)]
            at += 32
        total = sum(rotated(lane, by) for lane, by in zip(lanes, (1, 7, 12, 18), strict=True)) & MASK
        for lane in lanes:
            total = ((total ^ rounded(0, lane)) * P1 + P4) & MASK
    total = (total + len(data)) & MASK
    while len(data) - at >= 8:
        total = (rotated(total ^ rounded(0, *struct.unpack_from("<Q", data, at)), 27) * P1 + P4) & MASK
        at += 8
    if len(data) - at >= 4:
        total = (rotated(total ^ struct.unpack_from("<I", data, at)[0] * P1 & MASK, 23) * P2 + P3) & MASK
        at += 4
    for byte in data[at:]:
        total = rotated(total ^ byte * P5 & MASK, 11) * P1 & MASK
    total = (total ^ total >> 33) * P2 & MASK
    total = (total ^ total >> 29) * P3 & MASK
    return total ^ total >> 32


def ours(data: bytes) -> int:
    words = np.frombuffer(data, dtype=np.int64)
    return int(checksum(words.ctypes.data, len(words)))


@pytest.mark.parametrize(
    ("text", "known"),
    [
        (b"", 0xEF46DB3751D8E999),
        (b"a", 0xD24EC4F1A98C6E5B),
        (b"abc", 0x44BC2CF5AD770999),
        (b"Nobody inspects the spammish repetition", 0xFBCEA83C8A378BF1),
    ],
)
def test_the_reference_here_gives_the_published_values(text, known):
    assert xxh64(text) == known


@pytest.mark.parametrize("lines", [1, 2, 3, 17, 256])
def test_whole_lines_have_the_checksum_of_the_reference(lines):
    data = Random(lines).randbytes(64 * lines)
    assert ours(data) == checksum_of(data) == xxh64(data)


@pytest.mark.parametrize("byte", [0x00, 0x7F, 0x80, 0xFF])
def test_words_of_one_byte_have_the_checksum_of_the_reference(byte):
    assert ours(bytes([byte]) * 128) == xxh64(bytes([byte]) * 128)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 9).flatmap(lambda lines: st.binary(min_size=64 * lines, max_size=64 * lines)))
def test_any_lines_have_the_checksum_of_the_reference(data):
    assert ours(data) == xxh64(data)


def test_every_bit_counts():
    data = bytes(Random(7).randbytes(128))
    sums = {ours(data)}
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        sums.add(ours(bytes(changed)))
    assert len(sums) == 1 + 8 * len(data)
