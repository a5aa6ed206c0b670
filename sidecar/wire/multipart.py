"""Bodies of multipart/form-data (RFC 7578), read piece by piece and in one way only.

Browsers (HTML, "multipart/form-data encoding algorithm"), curl and the clients of most languages write nothing else
than what is read here. Parsers of servers take more, and not the same: what two of them may read differently is no
form.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from sidecar.wire.urlencoded import MAX_NAME, FormField

MAX_HEAD = 4096
"""Bytes of the header lines of one part."""
MAX_TEXT = 4096
"""Bytes of a field that are kept. Of a longer one the name alone is told, as of a file."""

# RFC 2046 section 5.1.1, without what some read otherwise where it is not quoted
_BOUNDARY = rb"[A-Za-z0-9+_.-]{1,70}"
_FORM_DATA = re.compile(
    rb"multipart/form-data(?P<before>%(charset)s)?;[ \t]*boundary=(?:(?P<token>%(boundary)s)|"
    rb"\"(?P<quoted>[A-Za-z0-9+_.=-]{1,70})\")(?P<after>%(charset)s)?"
    % {b"charset": rb"[ \t]*;[ \t]*charset=(?:utf-8|\"utf-8\")[ \t]*", b"boundary": _BOUNDARY},
    re.IGNORECASE,
)
_LINE = re.compile(rb"([A-Za-z-]+): ?([!-~\x80-\xff](?:[ -~\x80-\xff]*[!-~\x80-\xff])?)")
# "name" goes before "filename": some search for the first, wherever it stands. So neither has what looks like a
# parameter, nor an escape, which some decode
_DISPOSITION = re.compile(
    rb"form-data; ?name=(?:\"(?P<quoted>[^\"\\%;=]+)\"|(?P<token>[A-Za-z0-9._-]+))"
    rb"(?P<file>; ?filename=(?:\"[^\"\\;]*\"|[A-Za-z0-9._-]+)(?:; ?filename\*=utf-8''[A-Za-z0-9._~%!#$&+^`|-]*)?)?",
)
_TEXT = re.compile(
    rb"text/plain(?:[ ]?;[ ]?charset=(?:utf-8|\"utf-8\"|(?P<ascii>us-ascii|\"us-ascii\")))?", re.IGNORECASE
)
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_NESTED = re.compile(rb"(?:multipart|message)/", re.IGNORECASE)
_AS_IT_IS = frozenset((b"7bit", b"8bit", b"binary"))
_LENGTH = re.compile(rb"0|[1-9][0-9]{0,14}")
_HEADERS = frozenset((b"content-disposition", b"content-type", b"content-length", b"content-transfer-encoding"))


def boundary_of(content_type: bytes) -> bytes | None:
    """The boundary that a Content-Type of multipart/form-data names; None where it is another type, or could be read
    in two ways."""
    match = _FORM_DATA.fullmatch(content_type)
    if match is None or (match["before"] and match["after"]):
        return None
    found: bytes = match["token"] or match["quoted"]
    return found


class _Head(NamedTuple):
    name: str
    description: str
    """Kind of the part, if it is no field of a text."""
    is_ascii: bool
    length: int | None


class MultipartReader:
    """Reader of one body: `feed` it, and then take its parts from `end`. Both raise ValueError."""

    def __init__(self, boundary: bytes, most: int) -> None:
        self._mark = b"--" + boundary
        self._most = most
        self._buffer = bytearray()
        self._step: Callable[[], bool] = self._start
        self._parts: list[FormField] = []
        self._head = _Head("", "", False, None)
        self._text = bytearray()
        self._size = 0

    def feed(self, data: bytes) -> None:
        """Read the next bytes."""
        self._buffer += data
        while self._step():
            pass

    def end(self) -> list[FormField]:
        """The parts in order, when all bytes were fed."""
        if self._step != self._after or bytes(self._buffer) not in (b"", b"\r\n"):
            raise ValueError("a form that does not end with its boundary")
        return self._parts

    # --- what comes next; each returns whether there may be more to read now ---

    def _start(self) -> bool:
        if len(self._buffer) < len(self._mark):
            return False
        if not self._buffer.startswith(self._mark):
            raise ValueError("bytes before the first boundary")
        return self._to(self._delimiter, len(self._mark))

    def _delimiter(self) -> bool:
        if len(self._buffer) < 2:
            return False
        end = bytes(self._buffer[:2])
        if end not in (b"\r\n", b"--"):
            raise ValueError("a boundary that no line end follows")
        return self._to(self._headers if end == b"\r\n" else self._after, 2)

    def _headers(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n", 0, MAX_HEAD + 4)
        if end < 0:
            if len(self._buffer) >= MAX_HEAD + 4:
                raise ValueError(f"a part with more than {MAX_HEAD} bytes of headers")
            return False
        if len(self._parts) >= self._most:
            raise ValueError(f"more than {self._most} parts")
        head = bytes(self._buffer[:end])
        if self._mark in head:
            raise ValueError("a boundary within the headers of a part")
        self._head, self._size = _head_of(head), 0
        self._text.clear()
        return self._to(self._content, end + 4)

    def _content(self) -> bool:
        at = self._buffer.find(self._mark)
        if at < 0:
            # the line end before a boundary is the boundary's
            self._take(len(self._buffer) - len(self._mark) - 1)
            return False
        if self._buffer[max(at - 2, 0) : at] != b"\r\n":
            raise ValueError("a boundary within a part")
        self._take(at - 2)
        self._parts.append(self._part())
        return self._to(self._delimiter, 2 + len(self._mark))

    def _after(self) -> bool:
        if len(self._buffer) > 2:
            raise ValueError("bytes after the last boundary")
        return False

    def _to(self, step: Callable[[], bool], taken: int) -> bool:
        del self._buffer[:taken]
        self._step = step
        return True

    def _take(self, count: int) -> None:
        if count <= 0:
            return
        self._size += count
        room = MAX_TEXT + 1 - len(self._text)
        if room > 0 and not self._head.description:
            self._text += self._buffer[: min(count, room)]
        del self._buffer[:count]

    def _part(self) -> FormField:
        name, description, is_ascii, length = self._head
        if length is not None and length != self._size:
            raise ValueError("a part of another length than its Content-Length")
        if description or len(self._text) > MAX_TEXT:
            return FormField(name, None, description or f"more than {MAX_TEXT} bytes")
        if self._text.startswith(_BYTE_ORDER_MARK):
            # formData() of Node.js and ASP.NET Core take it away, most others do not
            return FormField(name, None, "a text that begins with a byte order mark")
        if is_ascii and not self._text.isascii():
            # Werkzeug puts U+FFFD in place of each byte, others read UTF-8
            return FormField(name, None, "a text that is not ASCII, as its Content-Type says")
        try:
            return FormField(name, self._text.decode("utf-8"))
        except UnicodeDecodeError:
            return FormField(name, None, "a text that is not UTF-8")


def _head_of(data: bytes) -> _Head:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        # of such a form Werkzeug finds no field at all
        raise ValueError("a part with headers that are not UTF-8") from None
    found: dict[bytes, bytes] = {}
    for line in data.split(b"\r\n"):
        match = _LINE.fullmatch(line)
        header = match[1].lower() if match is not None else b""
        if match is None or header not in _HEADERS:
            raise ValueError("a part with a header line that servers may read differently")
        if header in found:
            raise ValueError(f"a part with two {header.decode('ascii')}")
        found[header] = match[2]
    disposition = _DISPOSITION.fullmatch(found.get(b"content-disposition", b""))
    if disposition is None:
        raise ValueError("a part without one Content-Disposition that all servers read alike")
    if found.get(b"content-transfer-encoding", b"binary").lower() not in _AS_IT_IS:
        raise ValueError("a part in a transfer encoding")
    length = found.get(b"content-length")
    if length is not None and not _LENGTH.fullmatch(length):
        raise ValueError("a part with a Content-Length that is no number")
    kind = found.get(b"content-type")
    text = _TEXT.fullmatch(b"text/plain" if kind is None else kind)
    description = _description(kind, text is not None, disposition["file"])
    is_ascii = text is not None and text["ascii"] is not None
    return _Head(_name(disposition), description, is_ascii, None if length is None else int(length))


def _name(disposition: re.Match[bytes]) -> str:
    name = disposition["quoted"] or disposition["token"]
    if len(name) > MAX_NAME:
        raise ValueError(f"a name of more than {MAX_NAME} bytes")
    text: str = name.decode("utf-8")
    return text


def _description(kind: bytes | None, is_text: bool, file: bytes | None) -> str:
    """Return what a part is if it is no field of a text, "" for one that is. Raises ValueError."""
    if kind is not None and _NESTED.match(kind):
        raise ValueError("a part that has parts of its own")
    if file is not None:
        return "a file"
    # busboy takes a field of another type for a file
    return "" if is_text else "a field that is not text/plain in UTF-8"
