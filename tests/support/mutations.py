"""Packs as somebody would write them who means harm: real ones changed where it hurts, and ones made up from nothing.

Values are drawn from those at which a bound is just kept or just broken, because a uniform draw of 64 bits is refused
at the first look and tests nothing behind it.
"""

from collections.abc import Sequence
from random import Random
from typing import Final

from workers.packing.layout import HEAD_WORDS, LINE_WORDS, MOST_RAW, bits

_LARGE: Final = (1 << 15, 1 << 16, 1 << 24, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, (1 << 63) - 1)
_SIGNED: Final = 1 << 64
_NUMBERS: Final = (0.0, -0.0, 1.5, -3.0, 40.0, float("inf"), float("-inf"), float("nan"), 1e308)

Words = list[int]


def as_bytes(words: Sequence[int]) -> bytes:
    """The words as they lie in a file, each taken as 64 bits whatever its sign."""
    return b"".join((word % _SIGNED).to_bytes(8, "little") for word in words)


def mutated(random: Random, words: Sequence[int], width: int) -> Words:
    """A pack with one to three things changed; its first word is made to fit its length now and then."""
    changed = list(words)
    if len(changed) < HEAD_WORDS:  # there is nothing left of it to be changed
        return changed
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        change = random.choice((_head, _head, _node, _node, _node, _place, _projection, _flip, _any_word, _copied))
        change(random, changed, width)
    if random.random() < 0.1:
        changed = _resized(random, changed)
    return changed


def made_up(random: Random, width: int, columns: int, groups: int) -> Words:
    """A small pack of the right shape, filled with words that are often right."""
    raw = random.choice((1, 2, 3, columns, columns, columns, groups or 1, MOST_RAW, MOST_RAW + 1))
    leaf = random.choice((1, 1, 1, raw, raw, random.randint(0, 4)))
    outputs = 0 if raw == columns and random.random() < 0.8 else random.choice((1, 2, 2, columns))
    parts = random.choice((0, 1, 1, 2, 3))
    shapes = [random.choice((0, 1, 1, 2, 5)) for _ in range(parts)]
    reads = random.choice((0, 0, 1, width))
    body = [random.randrange(width) for _ in range(reads)]
    starts_at = random.choice((0, HEAD_WORDS + len(body)))
    body += [bits(random.choice(_NUMBERS)) for _ in range(raw if starts_at else 0)]
    parts_at = HEAD_WORDS + len(body)
    sets = random.choice((0, 1, 2, 4))
    first = parts_at + parts
    blocks: Words = []
    for count in shapes:
        body.append(first + len(blocks) | count << 32)
        blocks += _tree(random, count, leaf, width, sets)
    body += blocks
    sets_at = HEAD_WORDS + len(body)
    body += [random.getrandbits(32) for _ in range(sets)]
    projection_at = HEAD_WORDS + len(body)
    body += _columns(random, raw, outputs, columns, groups)
    size = -(-(HEAD_WORDS + len(body)) // LINE_WORDS) * LINE_WORDS
    family, transform = random.choice((0, 0, 0, 1, 1, 2, 3, -1)), random.choice((0, *range(8)))
    scale, divisor, refuses = bits(random.choice(_NUMBERS)), random.choice((0, 0, 3, -1)), random.choice((0, 1, 7, -1))
    head = [size, family, parts, raw, leaf, transform, scale, divisor, refuses, reads, HEAD_WORDS, starts_at]
    head += [parts_at, sets_at, projection_at, outputs]
    return head + body + [0] * (size - HEAD_WORDS - len(body))


def near(random: Random, value: int, size: int) -> int:
    """A number at which a bound may break."""
    around = (value - 8, value - 1, value, value + 1, value + 8)
    edges = (0, 1, HEAD_WORDS - 1, HEAD_WORDS, size - 8, size - 1, size, size + 1)
    chosen = random.choice((*around, *around, *edges, *edges, random.choice(_LARGE), -random.choice(_LARGE), -1))
    return _wrapped(chosen if random.random() < 0.97 else random.getrandbits(64))


def _wrapped(value: int) -> int:
    """As int64."""
    value %= _SIGNED
    return value - _SIGNED if value >> 63 else value


def _tree(random: Random, count: int, leaf: int, width: int, sets: int) -> Words:
    nodes: Words = []
    for number in range(count):
        special = random.random() < 0.4
        flags = (1 << 15 | random.choice((1, 2, 4, 8, 16, 17, 18))) if special else random.choice((0, 1))
        first = bits(random.choice(_NUMBERS))
        if special:
            first = random.randint(0, sets) << 32 | random.choice((0, 0, 1, sets, sets + 1))
        inputs = random.randrange(width) if random.random() < 0.98 else width
        children = [_child(random, number, count) for _ in range(2)]
        nodes += [first, _wrapped(children[0] | children[1] << 16 | inputs << 32 | flags << 48)]
    return nodes + [bits(random.choice(_NUMBERS)) for _ in range((count + 1) * leaf)]


def _child(random: Random, number: int, count: int) -> int:
    if number + 1 < count and random.random() < 0.5:
        return random.randint(number + 1, count - 1)
    if random.random() < 0.98:
        return 0xFFFF - random.randint(0, count)
    return random.choice((number, 0, count, 0xFFFF - count - 1, 0x7FFF))


def _columns(random: Random, raw: int, outputs: int, columns: int, groups: int) -> Words:
    specs: Words = []
    at = 0
    for _ in range(outputs):
        kind = random.choice((1, 2, 3, 4, 5)) if at + groups <= columns else random.choice((2, 3, 4, 5))
        wide = groups if kind == 1 else 1
        specs.append(kind << 48 | wide << 24 | at)
        at += wide
    return specs + [random.randrange(groups or 1) for _ in range(max(raw, 2) if outputs else 0)]


def _head(random: Random, words: Words, _width: int) -> None:
    field = random.randrange(HEAD_WORDS)
    words[field] = near(random, words[field], len(words))


def _node(random: Random, words: Words, width: int) -> None:
    """One field of a node of some tree: a child, an input, flags or the threshold."""
    at, count = _some_tree(random, words)
    if not count:
        return
    number = random.randrange(count)
    at += 2 * number
    if random.random() < 0.25:
        words[at] = random.choice((bits(random.choice(_NUMBERS)), near(random, 0, 9) << 32 | random.randint(0, 9)))
        return
    shift = random.choice((0, 16, 32, 48))
    edges = (0, number, number + 1, count - 1, count, 0xFFFF - count, 0xFFFE - count, 0x7FFF, 0x8000, 0xFFFF)
    chosen = random.choice(
        (*edges, width - 1, width) if shift < 48 else (0, 1, *(0x8000 | 1 << bit for bit in range(6)))
    )
    words[at + 1] = _wrapped(words[at + 1] % _SIGNED & ~(0xFFFF << shift) | (chosen & 0xFFFF) << shift)


def _some_tree(random: Random, words: Words) -> tuple[int, int]:
    """Where a tree begins and its count of nodes; none if the head leads nowhere any more."""
    parts, parts_at = words[2], words[12]
    if not 0 < parts < len(words) or not 0 <= parts_at < len(words) - parts:
        return 0, 0
    place = words[parts_at + random.randrange(parts)]
    at, count = place & 0xFFFFFFFF, place >> 32
    return (at, count) if count > 0 and at + 2 * count < len(words) else (0, 0)


def _place(random: Random, words: Words, _width: int) -> None:
    """Where a tree lies and how many nodes it has."""
    parts, at = words[2], words[12]
    if 0 < parts < len(words) and 0 <= at < len(words) - parts:
        at += random.randrange(parts)
        first, count = words[at] & 0xFFFFFFFF, words[at] >> 32
        count = random.choice((count, count - 1, count + 1, 0, 0x7FFF, 0x8000, near(random, count, len(words))))
        words[at] = _wrapped(near(random, first, len(words)) & 0xFFFFFFFF | count << 32)


def _projection(random: Random, words: Words, _width: int) -> None:
    at = words[14] + random.randint(0, max(0, words[15]) + 3)
    if HEAD_WORDS <= at < len(words):
        shift = random.choice((0, 24, 48))
        words[at] = _wrapped(words[at] + (random.choice((-2, -1, 1, 2, 1 << 23)) << shift))


def _flip(random: Random, words: Words, _width: int) -> None:
    for _ in range(random.randint(1, 4)):
        at = random.randrange(len(words))
        words[at] = _wrapped(words[at] ^ 1 << random.randrange(64))


def _any_word(random: Random, words: Words, _width: int) -> None:
    at = random.randrange(len(words))
    words[at] = near(random, words[at], len(words))


def _copied(random: Random, words: Words, _width: int) -> None:
    """Some words over others."""
    length = random.randint(1, 8)
    source, target = random.randrange(len(words)), random.randrange(len(words))
    run = words[source : source + length][: len(words) - target]
    words[target : target + len(run)] = run


def _resized(random: Random, words: Words) -> Words:
    """A pack of more or fewer lines, whose first word mostly owns up to it."""
    lines = max(0, len(words) // LINE_WORDS + random.choice((-3, -2, -1, 1)))
    words = (words + [0] * 64)[: lines * LINE_WORDS]
    if words and random.random() < 0.8:
        words[0] = len(words)
    return words
