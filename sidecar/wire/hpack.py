"""Header blocks of HTTP/2 (RFC 7541): fields of a connection's tables by number, others by name and value."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from sidecar.bounded import Bounded
from sidecar.wire import huffman
from sidecar.wire.http2 import CompressionError

Field = tuple[bytes, bytes]

DEFAULT_TABLE = 4096
"""Bytes of a table, where no setting says another size (RFC 9113 section 6.5.2)."""
NO_TABLE = b"\x20"
"""Says that the encoder uses no table (section 6.3); must come first where the peer allows less than the default."""
MAX_FIELDS = 128
"""Fields of a block that is read."""
_OVERHEAD = 32  # of an entry (section 4.1)
_MAX_INDEXED = 60  # so that one octet names each

# appendix A
_STATIC: tuple[Field, ...] = (
    (b":authority", b""), (b":method", b"GET"), (b":method", b"POST"), (b":path", b"/"), (b":path", b"/index.html"),
    (b":scheme", b"http"), (b":scheme", b"https"), (b":status", b"200"), (b":status", b"204"), (b":status", b"206"),
    (b":status", b"304"), (b":status", b"400"), (b":status", b"404"), (b":status", b"500"), (b"accept-charset", b""),
    (b"accept-encoding", b"gzip, deflate"),
    *((name, b"") for name in (
        b"accept-language accept-ranges accept access-control-allow-origin age allow authorization cache-control "
        b"content-disposition content-encoding content-language content-length content-location content-range "
        b"content-type cookie date etag expect expires from host if-match if-modified-since if-none-match if-range "
        b"if-unmodified-since last-modified link location max-forwards proxy-authenticate proxy-authorization range "
        b"referer refresh retry-after server set-cookie strict-transport-security transfer-encoding user-agent vary "
        b"via www-authenticate"
    ).split()),
)  # fmt: skip


_WHOLE = {
    field: bytes((0x80 | _STATIC.index(field) + 1,))
    for field in ((b":method", b"POST"), (b":scheme", b"http"), (b":scheme", b"https"))
}
"""Fields that the static table has, of those that we write."""
_NAMES = {
    name: next(number for number, field in enumerate(_STATIC, 1) if field[0] == name)
    for name in (b":authority", b":path", b"content-type", b"user-agent")
}


# --- writing ---


def literal(name: bytes, value: bytes) -> bytes:
    """A field that names no entry of a table, and changes none (section 6.2.2)."""
    return b"\0" + _string(name) + _string(value)


def without_indexing(fields: Sequence[Field]) -> bytes:
    """A block that changes no table, and needs none but the static one."""
    return b"".join(_WHOLE.get(field) or _literal(0x00, 4, field) for field in fields)


def with_indexing(fields: Sequence[Field]) -> tuple[bytes, bytes]:
    """Two blocks with the same meaning: the first to be sent on a connection, which fills the peer's table, and the one
    for all others. Between them no other block may fill the table."""
    new = [field for field in fields if field not in _WHOLE]
    if len(new) > _MAX_INDEXED:
        raise ValueError(f"{len(new)} fields, expected at most {_MAX_INDEXED}")
    first = b"".join(_WHOLE.get(field) or _literal(0x40, 6, field) for field in fields)
    # the newest entry has the lowest number (section 2.3.3)
    numbers = {field: len(_STATIC) + len(new) - at for at, field in enumerate(new)}
    later = b"".join(_WHOLE.get(field) or bytes((0x80 | numbers[field],)) for field in fields)
    return first, later


def _literal(pattern: int, bits: int, field: Field) -> bytes:
    name, value = field
    number = _NAMES.get(name, 0)
    return _integer(pattern, bits, number) + (b"" if number else _string(name)) + _string(value)


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


# --- reading ---


class BlockReader:
    """Reads the blocks of one connection, each once and in order.

    `table_size` in bytes is what we allow the peer of a table; without one each block stands for itself. `remembers` is
    how many bytes of blocks are known again: a peer's are much alike.
    """

    def __init__(self, table_size: int, remembers: int) -> None:
        self._table: deque[Field] = deque()  # the newest first
        self._size = 0
        self._allowed = self._most = table_size
        # what a block means stands until the table changes
        self._known: Bounded[bytes, tuple[Field, ...]] = Bounded(remembers)

    def read(self, block: bytes) -> tuple[Field, ...]:
        """The fields of a block, in order. Raises CompressionError: the connection cannot go on."""
        found = self._known.get(block)
        return found if found is not None else self._read(block)

    def _read(self, block: bytes) -> tuple[Field, ...]:
        fields: list[Field] = []
        at, changes = 0, False
        while at < len(block):
            first = block[at]
            if first & 0xE0 == 0x20:
                # "MUST occur at the beginning of the first header block following the change" (section 4.2)
                if fields:
                    raise CompressionError("a table's size after a field")
                at = self._resize(block, at)
                changes = True
                continue
            field, at = self._field(block, at)
            if first & 0xC0 == 0x40:
                self._add(field)
                changes = True
            fields.append(field)
            if len(fields) > MAX_FIELDS:
                raise CompressionError(f"more than {MAX_FIELDS} fields")
        made = tuple(fields)
        if changes and self._allowed:
            self._known.clear()
        else:
            self._known.put(block, made)
        return made

    def _field(self, block: bytes, at: int) -> tuple[Field, int]:
        first = block[at]
        if first & 0x80:
            number, at = _read_integer(block, at, 7)
            return self._entry(number), at
        number, at = _read_integer(block, at, 6 if first & 0x40 else 4)
        if number:
            name = self._entry(number)[0]
        else:
            name, at = _read_string(block, at)
        value, at = _read_string(block, at)
        return (name, value), at

    def _entry(self, number: int) -> Field:
        if 0 < number <= len(_STATIC):
            return _STATIC[number - 1]
        if len(_STATIC) < number <= len(_STATIC) + len(self._table):
            return self._table[number - len(_STATIC) - 1]
        raise CompressionError(f"the entry {number} of a table without it")

    def _resize(self, block: bytes, at: int) -> int:
        size, at = _read_integer(block, at, 5)
        if size > self._allowed:
            raise CompressionError("a table of a size that we did not allow")
        self._most = size
        self._evict(0)
        return at

    def _add(self, field: Field) -> None:
        size = len(field[0]) + len(field[1]) + _OVERHEAD
        self._evict(size)
        # one that is larger than the whole table leaves it empty, and that is no fault (section 4.4)
        if size <= self._most:
            self._table.appendleft(field)
            self._size += size

    def _evict(self, wanted: int) -> None:
        while self._table and self._size + wanted > self._most:
            name, value = self._table.pop()
            self._size -= len(name) + len(value) + _OVERHEAD


def _read_integer(block: bytes, at: int, bits: int) -> tuple[int, int]:
    """A number whose first `bits` bits end the octet at `at` (section 5.1) -> (it, where it ends)."""
    most = (1 << bits) - 1
    value = block[at] & most
    at += 1
    if value < most:
        return value, at
    for shift in (0, 7, 14):
        if at >= len(block):
            raise CompressionError("a number that is cut off")
        octet = block[at]
        at += 1
        value += (octet & 0x7F) << shift
        if octet < 0x80:
            return value, at
    raise CompressionError("a number beyond any length")


def _read_string(block: bytes, at: int) -> tuple[bytes, int]:
    """A string (section 5.2) -> (octets, where it ends)."""
    if at >= len(block):
        raise CompressionError("a string that is cut off")
    coded = bool(block[at] & 0x80)
    length, at = _read_integer(block, at, 7)
    data = block[at : at + length]
    if len(data) != length:
        raise CompressionError("a string that is cut off")
    return (huffman.decode(data) if coded else data), at + length
