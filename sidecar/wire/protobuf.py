"""Fields of Protocol Buffers as bytes (protobuf.dev/programming-guides/encoding), for messages of few fields.

The library makes an object of each field first, which takes three times as long, or half of what a decision takes.
"""

from __future__ import annotations

_SMALL = [bytes((number,)) for number in range(0x80)]


def varint(number: int) -> bytes:
    """A number that is not negative, seven bits in each byte, the lowest first."""
    if number < 0x80:
        return _SMALL[number]
    if number < 0x4000:
        return bytes((number & 0x7F | 0x80, number >> 7))
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def number_tag(field: int) -> bytes:
    """Return what stands before a varint: a number, a truth value or an enum."""
    return varint(field << 3)


def double_tag(field: int) -> bytes:
    """Return what stands before a double, eight bytes with the lowest first."""
    return varint(field << 3 | 1)


def sized_tag(field: int) -> bytes:
    """Return what stands before a value with a length: a string, bytes or a message."""
    return varint(field << 3 | 2)


def sized(tag: bytes, data: bytes) -> bytes:
    """A field whose value has its length before it."""
    size = len(data)
    return tag + (_SMALL[size] if size < 0x80 else varint(size)) + data


def short_size(data: bytes, at: int) -> tuple[int, int]:
    """A length of one or two bytes -> (it, where it ends); 0 for any other."""
    low = data[at] if at < len(data) else 0
    if low < 0x80:
        return low, at + 1
    high = data[at + 1] if at + 1 < len(data) else 0x80
    return (low & 0x7F | high << 7, at + 2) if high < 0x80 else (0, at)
