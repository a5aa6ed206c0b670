"""Header blocks of HTTP/2 as a server reads them (RFC 7541): with the client's table, in the default size."""

from __future__ import annotations

from collections import deque

from sidecar.bounded import Bounded
from sidecar.wire.hpack import STATIC_ENTRIES, BadBlock, Field, read_integer, read_string

TABLE_SIZE = 4096
"""Bytes of a client's table: what RFC 9113 section 6.5.2 gives where nothing is said."""
_OVERHEAD = 32  # of an entry (RFC 7541 section 4.1)
_KNOWN = 32 * 1024
"""Bytes of the blocks that a connection remembers: those of about 15 calls that differ."""
MAX_FIELDS = 128

# RFC 7541 appendix A
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


class BlockReader:
    """Reads the blocks of one connection, each once and in order."""

    def __init__(self) -> None:
        self._table: deque[Field] = deque()  # the newest first
        self._size = 0
        self._most = TABLE_SIZE
        # a client's calls are much alike: what a block means stands until the table changes
        self._known: Bounded[bytes, tuple[Field, ...]] = Bounded(_KNOWN)

    def read(self, block: bytes) -> tuple[Field, ...]:
        """The fields of a block, in order. Raises BadBlock: the connection cannot go on."""
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
                    raise BadBlock("a table's size after a field")
                at = self._resize(block, at)
                changes = True
                continue
            field, at = self._field(block, at)
            if first & 0xC0 == 0x40:
                self._add(field)
                changes = True
            fields.append(field)
            if len(fields) > MAX_FIELDS:
                raise BadBlock(f"more than {MAX_FIELDS} fields")
        made = tuple(fields)
        if changes:
            self._known.clear()
        else:
            self._known.put(block, made)
        return made

    def _field(self, block: bytes, at: int) -> tuple[Field, int]:
        first = block[at]
        if first & 0x80:
            number, at = read_integer(block, at, 7)
            return self._entry(number), at
        number, at = read_integer(block, at, 6 if first & 0x40 else 4)
        if number:
            name = self._entry(number)[0]
        else:
            name, at = read_string(block, at)
        value, at = read_string(block, at)
        return (name, value), at

    def _entry(self, number: int) -> Field:
        if 0 < number <= STATIC_ENTRIES:
            return _STATIC[number - 1]
        if STATIC_ENTRIES < number <= STATIC_ENTRIES + len(self._table):
            return self._table[number - STATIC_ENTRIES - 1]
        raise BadBlock(f"the entry {number} of a table without it")

    def _resize(self, block: bytes, at: int) -> int:
        size, at = read_integer(block, at, 5)
        if size > TABLE_SIZE:
            raise BadBlock("a table of a size that we did not allow")
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
