"""Members of a list somewhere in a JSON document, one after the other, without the whole document in memory."""

from __future__ import annotations

import codecs
import io
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

CHUNK = 256 * 1024
MAX_MEMBER = 64 * 1024**2
"""Characters of one member of the list, or of one value beside it."""
_BLANK = re.compile(r"[ \t\n\r]*")


class NotJson(ValueError):
    """The document is no JSON, or its member is too long."""


class _Text:
    """A text of which the part that was read is forgotten."""

    def __init__(self, stream: io.BufferedIOBase) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
        self._json = json.JSONDecoder()
        self._text = ""
        self._at = 0
        self._ended = False

    def _more(self) -> bool:
        """Read on; each time as much again as is there, so that a long value is not looked at too often."""
        if self._ended:
            return False
        left = len(self._text) - self._at
        if left > MAX_MEMBER:
            raise NotJson("too long")
        data = self._stream.read(max(CHUNK, left))
        self._ended = not data
        self._text = self._text[self._at :] + self._decoder.decode(data, final=not data)
        self._at = 0
        return True

    def peek(self) -> str:
        """The next character that is no blank, "" at the end."""
        while True:
            found = _BLANK.match(self._text, self._at)
            self._at = self._at if found is None else found.end()
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def take(self, character: str) -> bool:
        """Go on behind a character if it is the next."""
        if self.peek() != character:
            return False
        self._at += 1
        return True

    def value(self) -> Any:
        """Read the next value."""
        self.peek()
        while True:
            try:
                value, end = self._json.raw_decode(self._text, self._at)
            except RecursionError:
                raise NotJson("nested too deeply") from None
            except ValueError:
                if not self._more():
                    raise NotJson("no JSON") from None
                continue
            # a number may go on in what was not read yet
            if end == len(self._text) and self._more():
                continue
            self._at = end
            return value


def members(stream: io.BufferedIOBase, names: Sequence[str]) -> Iterator[Any]:
    """The members of the list to which these names lead, such as `log`, `entries`; nothing where there is no such list.

    Raises NotJson.
    """
    text = _Text(stream)
    for name in names:
        if not _descend(text, name):
            return
    if not text.take("["):
        return
    if text.take("]"):
        return
    while True:
        yield text.value()
        if text.take("]"):
            return
        if not text.take(","):
            raise NotJson("no JSON")


def _descend(text: _Text, name: str) -> bool:
    """Go to the value of a name in the object that comes next; other values are passed over."""
    if not text.take("{"):
        return False
    while not text.take("}"):
        key = text.value()
        if not isinstance(key, str) or not text.take(":"):
            raise NotJson("no JSON")
        if key == name:
            return True
        text.value()
        if not text.take(",") and text.peek() != "}":
            raise NotJson("no JSON")
    return False
