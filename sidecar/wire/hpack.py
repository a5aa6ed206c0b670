"""Header blocks of HTTP/2 (RFC 7541), as far as one client of one server needs them.

What we send is either taught to the server's table once and then named by numbers, or spelled out. What we read stands
for itself: our settings allow the server no table, so equal blocks mean equal fields, and one that names an entry of a
table is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType

from sidecar.bounded import remembered

Field = tuple[bytes, bytes]

STATIC_ENTRIES = 61
_STATUS = 8
"""The first of seven entries of the static table (appendix A) that are a status."""
_STATUSES = (b"200", b"204", b"206", b"304", b"400", b"404", b"500")
_STATIC_NAMES = {1: b":authority", 4: b":path", 31: b"content-type", 58: b"user-agent"}
_STATIC_NAMES.update({_STATUS + number: b":status" for number in range(len(_STATUSES))})
"""Number -> name of the entries that matter here; those of the others are not told apart."""
_NUMBERS = {b":authority": 1, b":path": 4, b"content-type": 31, b"user-agent": 58}
_WHOLE = {(b":method", b"POST"): 3, (b":scheme", b"http"): 6, (b":scheme", b"https"): 7}
_MAX_TAUGHT = 60

NO_TABLE = b"\x20"
"""Says that the encoder uses no table (section 6.3); must come first where the peer allows less than the default."""


class BadBlock(Exception):
    """Bytes that are no header block, or one that needs a table."""


# --- what we send ---


def spelled(fields: Sequence[Field]) -> bytes:
    """A block that changes no table, and needs none but the static one."""
    return b"".join(_indexed(field) or _literal(0x00, 4, field) for field in fields)


def taught(fields: Sequence[Field]) -> tuple[bytes, bytes]:
    """Two blocks with the same meaning: the first to be sent on a connection, which fills the server's table, and the
    one for all others. Between them no other block may fill the table."""
    new = [field for field in fields if _indexed(field) is None]
    if len(new) > _MAX_TAUGHT:
        raise ValueError(f"{len(new)} fields, expected at most {_MAX_TAUGHT}")
    first = b"".join(_indexed(field) or _literal(0x40, 6, field) for field in fields)
    # the newest entry has the lowest number (section 2.3.3)
    numbers = {field: STATIC_ENTRIES + len(new) - at for at, field in enumerate(new)}
    later = b"".join(_indexed(field) or bytes((0x80 | numbers[field],)) for field in fields)
    return first, later


def _indexed(field: Field) -> bytes | None:
    number = _WHOLE.get(field)
    return None if number is None else bytes((0x80 | number,))


def _literal(pattern: int, bits: int, field: Field) -> bytes:
    name, value = field
    number = _NUMBERS.get(name, 0)
    head = _integer(pattern, bits, number)
    return head + (b"" if number else _string(name)) + _string(value)


def _string(text: bytes) -> bytes:
    return _integer(0x00, 7, len(text)) + text


def _integer(pattern: int, bits: int, value: int) -> bytes:
    """Section 5.1: a number whose first `bits` bits share a byte with `pattern`."""
    most = (1 << bits) - 1
    if value < most:
        return bytes((pattern | value,))
    out = bytearray((pattern | most,))
    value -= most
    while value >= 0x80:
        out.append(0x80 | (value & 0x7F))
        value >>= 7
    out.append(value)
    return bytes(out)


# --- what we read ---


# a server's blocks, which are much alike: about 100 of them
@remembered(128 * 1024)
def read_block(block: bytes) -> MappingProxyType[bytes, bytes]:
    """The fields of a block, those of no interest under the name b"". Raises BadBlock, also for a field that is there
    twice and can be there once only."""
    fields: dict[bytes, bytes] = {}
    at = 0
    while at < len(block):
        name, value, at = _read_field(block, at)
        if name in fields and name in (b":status", b"grpc-status", b"grpc-message", b"content-type"):
            raise BadBlock(f"{name.decode('ascii')} twice")
        if name is not None:
            fields[name] = value
    return MappingProxyType(fields)


def _read_field(block: bytes, at: int) -> tuple[bytes | None, bytes, int]:
    first = block[at]
    if first & 0x80:
        number, at = read_integer(block, at, 7)
        return *_static_field(number), at
    if first & 0xE0 == 0x20:
        size, at = read_integer(block, at, 5)
        if size:
            raise BadBlock("a table of a size that we did not allow")
        return None, b"", at
    # with and without indexing, and never to be indexed, are the same to one who keeps no table
    number, at = read_integer(block, at, 6 if first & 0x40 else 4)
    if number:
        name = _static_name(number)
    else:
        name, at = read_string(block, at)
    value, at = read_string(block, at)
    return name, value, at


def _static_name(number: int) -> bytes:
    if not 0 < number <= STATIC_ENTRIES:
        raise BadBlock(f"the entry {number} of a table that we did not allow")
    return _STATIC_NAMES.get(number, b"")


def _static_field(number: int) -> Field:
    name = _static_name(number)
    at = number - _STATUS
    return (name, _STATUSES[at]) if 0 <= at < len(_STATUSES) else (b"", b"")


def read_integer(block: bytes, at: int, bits: int) -> tuple[int, int]:
    """A number whose first `bits` bits end the octet at `at` (section 5.1) -> (it, where it ends). Raises BadBlock."""
    most = (1 << bits) - 1
    value = block[at] & most
    at += 1
    if value < most:
        return value, at
    for shift in (0, 7, 14):
        if at >= len(block):
            raise BadBlock("a number that is cut off")
        octet = block[at]
        at += 1
        value += (octet & 0x7F) << shift
        if octet < 0x80:
            return value, at
    raise BadBlock("a number beyond any length")


def read_string(block: bytes, at: int) -> tuple[bytes, int]:
    """A string (section 5.2) -> (octets, where it ends). Raises BadBlock."""
    if at >= len(block):
        raise BadBlock("a string that is cut off")
    coded = bool(block[at] & 0x80)
    length, at = read_integer(block, at, 7)
    data = block[at : at + length]
    if len(data) != length:
        raise BadBlock("a string that is cut off")
    return (_decoded(data) if coded else data), at + length


# RFC 7541 appendix B: bits of a code -> its octets. The code is canonical: codes of one length are consecutive, in the
# order of their octets.
_CODED = {
    5: b"012aceiost",
    6: b" %-./3456789=A_bdfghlmnpru",
    7: b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz",
    8: b"&*,;XZ",
    10: b'!"()?',
    11: b"'+|",
    12: b"#>",
    13: b"\x00$@[]~",
    14: b"^}",
    15: b"<`{",
    19: b"\\\xc3\xd0",
    20: bytes.fromhex("808283a2b8c2e0e2"),
    21: bytes.fromhex("99a1a7acb0b1b3d1d8d9e3e5e6"),
    22: bytes.fromhex("8184858688929a9ca0a3a4a9aaadb2b5b9babbbdbec4c6e4e8e9"),
    23: bytes.fromhex("0187898a8b8c8d8f93959697989b9d9ea5a6a8aeafb4b6b7bcbfc5e7ef"),
    24: bytes.fromhex("098e9091949fabced7e1eced"),
    25: bytes.fromhex("c7cfeaeb"),
    26: bytes.fromhex("c0c1c8c9cacdd2d5dadbeef0f2f3ff"),
    27: bytes.fromhex("cbccd3d4d6dddedff1f4f5f6f7f8fafbfcfdfe"),
    28: bytes.fromhex("020304050607080b0c0e0f1011121314151718191a1b1c1d1e1f7fdcf9"),
    30: bytes.fromhex("0a0d16"),
}


def _code_table() -> dict[tuple[int, int], int]:
    table: dict[tuple[int, int], int] = {}
    code = bits = 0
    for length, octets in _CODED.items():
        code <<= length - bits
        bits = length
        for octet in octets:
            table[bits, code] = octet
            code += 1
    return table


_OCTETS = _code_table()
"""(bits, code) -> octet."""
_LONGEST = max(_CODED)


def _decoded(data: bytes) -> bytes:
    """Huffman code (section 5.2) -> octets."""
    out = bytearray()
    code = bits = 0
    for octet in data:
        for at in range(7, -1, -1):
            code = code << 1 | octet >> at & 1
            bits += 1
            found = _OCTETS.get((bits, code))
            if found is not None:
                out.append(found)
                code = bits = 0
            elif bits > _LONGEST:
                raise BadBlock("a code of no octet that a field has")
    # "padding strictly longer than 7 bits MUST be treated as a decoding error", as must one that is not all ones
    if bits > 7 or code != (1 << bits) - 1:
        raise BadBlock("a string with a wrong end")
    return bytes(out)
