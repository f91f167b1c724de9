"""What befalls the file of any segment, whichever models it holds: flipped bits, another header, one that lies."""

# What every header says, and what none may say in its place.
LIES = (
    (b'"format":"2"', b'"format":"1"'),
    (b'"format":"2"', b'"format":"3"'),
    (b'"format":"2"', b'"format":2'),
    (b'"kind":"models"', b'"kind":"packed"'),
    (b'"kind":"models"', b'"kind":"stored"'),
    (b'"stored":', b'"strewn":'),
)


def flipped(data: bytes, *bits: int) -> bytes:
    """The file with these bits turned over."""
    damaged = bytearray(data)
    for bit in bits:
        damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


def header_text(data: bytes) -> bytes:
    """What the file's header says."""
    return data[8 : 8 + int.from_bytes(data[:8], "little")]


def with_header(data: bytes, text: bytes) -> bytes:
    """The file with this in its header's place."""
    return len(text).to_bytes(8, "little") + text + data[8 + len(header_text(data)) :]
