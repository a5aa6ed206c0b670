"""Lists of the app with one JSON value in each line (NDJSON), decided as they come."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from sidecar.gate.codes import Code
from sidecar.gate.obligation import AnswerItems, HeldAnswer, Judge, ReduceLines
from sidecar.gate.verdict import Refused
from sidecar.release.content import is_failed, require_readable
from sidecar.release.items import ItemsRule, judged
from sidecar.wire.json_slices import JSON_SPACES, JsonText, spliced

LINES = ("\n",)
"""As a place of `items`: the answer has one JSON value in each line."""
MAX_LINE = 1024 * 1024
"""Bytes of one line."""
WAIT = 0.02
"""Seconds that a line waits for others to be judged with it."""
_JSON = b"application/json"
_KINDS = frozenset((
    b"application/x-ndjson", b"application/ndjson", b"application/jsonl", b"application/x-jsonlines", _JSON,
))  # fmt: skip
"""Content types of such answers: none is registered."""


@dataclass(frozen=True, slots=True)
class LinesRule:
    """`items` of a route whose place is `lines`: `items` says what each line is to the policy."""

    items: ItemsRule
    asks: ClassVar[tuple[str, ...]] = ()
    nothing: ClassVar[None] = None
    wait: ClassVar[float] = WAIT

    @property
    def lookups(self) -> tuple[str, ...]:
        """Names of the lookups that are asked about each line."""
        return self.items.lookups

    def searched(self, query: bytes) -> Sequence[tuple[str, str]]:
        """List the hidden fields that a query searches or sorts by, each by the kind and the action that show it."""
        return self.items.searched(query)

    def demand(self, judge: Judge, granted: frozenset[str], pushed: str) -> ReduceLines:
        """Demand that only allowed lines be released."""
        return ReduceLines(self, judge)

    def units(self) -> Windows:
        """Return what splits an answer into lines."""
        return Windows()

    def begin(self, held: HeldAnswer) -> tuple[HeldAnswer, bool]:
        """Return the head of an answer, and whether it has lines: an error and a redirect may have none. Raises
        Refused(ITEMS_UNREADABLE)."""
        # an error in JSON is one value, most often of several lines
        kinds = _KINDS - {_JSON} if is_failed(held) else _KINDS
        has_lines = require_readable(held, kinds.__contains__)
        return held._replace(headers=self.items.headers(held.headers)), has_lines

    async def window(self, lines: Sequence[bytes], judge: Judge) -> bytes:
        """Return the lines that are allowed, as they came but for hidden fields; an empty one stays. Raises Refused."""
        texts = [JsonText(line) for line in lines if line.strip(JSON_SPACES)]
        told = [self._item(text) for text in texts]
        rule = self.items
        asked = AnswerItems(rule.kind, rule.actions, [one[0] for one in told], [one[1] for one in told], rule.lookups)
        allowed = iter(zip(texts, await judged(judge, asked) if told else [], strict=True))
        return b"".join([self._line(*next(allowed)) if line.strip(JSON_SPACES) else line for line in lines])

    def _item(self, text: JsonText) -> tuple[str, dict[str, Any]]:
        try:
            return self.items.item(text.value(text.whole()))
        except ValueError as error:
            raise Refused(Code.ITEMS_UNREADABLE, f"a line: {error}") from None
        except Refused as refused:
            raise Refused(refused.code, f"a line: {refused.detail}") from None

    def _line(self, text: JsonText, allowed: frozenset[str]) -> bytes:
        if self.items.action not in allowed:
            return b""
        return spliced(text.data, self.items.hidden("line", text, text.whole(), allowed))


class Windows:
    """Pieces of an answer -> lines of it, some at a time, each of at most so many bytes. `what` is the word for one."""

    def __init__(self, most: int = MAX_LINE, what: str = "a line") -> None:
        self._most = most
        self._what = what
        self._rest = bytearray()
        self._whole = 0
        self.lines: deque[bytes] = deque()

    @property
    def size(self) -> int:
        """Bytes that wait: those of whole lines, and the beginning of one."""
        return self._whole + len(self._rest)

    def add(self, piece: bytes) -> None:
        """Take what came. Raises Refused(ITEMS_UNREADABLE) for a line that is too long."""
        first, *others = piece.split(b"\n")
        # in place: a long line may come in many small pieces
        self._rest += first
        found: list[bytes] = []
        if others:
            found = [line + b"\n" for line in (bytes(self._rest), *others[:-1])]
            self._rest = bytearray(others[-1])
        self._keep(found)

    def _keep(self, found: list[bytes]) -> None:
        """Let what is whole wait. Raises Refused(ITEMS_UNREADABLE) where some of it, or the rest, is too long."""
        self.lines += found
        self._whole += sum(map(len, found))
        if len(self._rest) > self._most or any(len(line) > self._most for line in found):
            raise Refused(Code.ITEMS_UNREADABLE, f"{self._what} of more than {self._most} bytes")

    def end(self) -> None:
        """Take what stands after the last line's end as a line."""
        if self._rest:
            self.lines.append(bytes(self._rest))
            self._whole += len(self._rest)
            self._rest.clear()

    def take(self, most: int) -> list[bytes]:
        """Return the first lines that wait."""
        next_line = self.lines.popleft
        taken = [next_line() for _ in range(min(most, len(self.lines)))]
        self._whole -= sum(map(len, taken))
        return taken
