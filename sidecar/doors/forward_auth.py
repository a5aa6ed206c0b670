"""PEP for other proxies, by HTTP: a proxy asks about the request that it holds, and follows the answer."""

from __future__ import annotations

from collections.abc import Iterable

from sidecar.doors import answer
from sidecar.doors.dialects import AUTHORIZE, ProxyDialect, read_question
from sidecar.doors.door import Door, Receive, Visit, refuse
from sidecar.doors.handover import SETTABLE, handover
from sidecar.doors.refusal import Send, send_whole
from sidecar.gate.codes import Code
from sidecar.gate.obligation import KeepPrivate
from sidecar.gate.own import APP_CONTROL, APP_VARY, NUMBERED_COOKIE, PROBLEM, SET_BY_SIDECAR, TARGET
from sidecar.gate.peers import is_trusted
from sidecar.gate.request import Raw
from sidecar.gate.verdict import Forward, Preflight, Refuse, Refused
from sidecar.wire.caching import CONTROL, VARY, control_beside
from sidecar.wire.grammar import FOLDED, Header
from sidecar.wire.http1_request import Head

ALLOWED = 200
"""The status that every proxy takes for an allow; Envoy takes no other."""


class ForwardAuth:
    """Answers AUTHORIZE for the proxies among the trusted ones, in one dialect. It holds nothing of the app's answer,
    whose head the proxy that asks marks."""

    def __init__(self, door: Door, dialect: ProxyDialect) -> None:
        self._door = door
        self._dialect = dialect

    def has(self, target: bytes) -> bool:
        """Return whether a target, as it came, is a question of a proxy."""
        if not self._dialect.target:
            return target.startswith(AUTHORIZE + b"/")
        return target.partition(b"?")[0] == AUTHORIZE

    async def __call__(self, head: Head, peer: str, scheme: str, receive: Receive, send: Send) -> None:
        """Answer one request that is already parsed, whose target `has` a question."""
        asked = self._door.enter(head, peer, scheme, delegated=True)
        visit, verdict = await self._judged(asked)
        if isinstance(verdict, Forward):
            made = self._allowed(verdict, visit.raw)
            self._door.record(visit, verdict, ALLOWED)
        else:
            made = self._refused(verdict, visit)
        await send_whole(made, send)

    async def _judged(self, asked: Visit) -> tuple[Visit, Forward | Refuse]:
        try:
            raw = self._read(asked.raw)
        except Refused as refused:
            return asked, refuse(asked.raw, refused)
        return asked._replace(raw=raw), await self._decide(raw)

    def _read(self, question: Raw) -> Raw:
        if not is_trusted(question.peer, self._door.gate.rules.reading.trusted):
            raise Refused(Code.PROXY_NOT_TRUSTED, f"asked by {question.peer or 'a unix socket'}")
        return read_question(question, self._dialect)

    async def _decide(self, raw: Raw) -> Forward | Refuse:
        verdict = await self._door.decide(raw, None)
        if isinstance(verdict, Preflight):
            # every proxy takes a 2xx for leave to forward
            return Refuse(Code.PROXY_UNABLE, verdict.facts, "a preflight, which a proxy would forward")
        return self._within_reach(verdict, raw) if isinstance(verdict, Forward) else verdict

    def _within_reach(self, permit: Forward, raw: Raw) -> Forward | Refuse:
        """The permit, or why this proxy cannot send what it says."""
        dialect = self._dialect
        if dialect.exact and permit.target != raw.target:
            if permit.target.partition(b"?")[2] != raw.target.partition(b"?")[2]:
                return Refuse(
                    Code.PROXY_UNABLE, permit.facts, "a query that `set_query` changes, and the proxy does not"
                )
            return Refuse(Code.TARGET_AMBIGUOUS, permit.facts, "escapes of plain characters, which the proxy sends on")
        left = self._left(permit, raw)
        if b"authorization" in left:
            return Refuse(
                Code.PROXY_UNABLE, permit.facts, "an Authorization that `to_app` drops, and the proxy does not"
            )
        if left:
            return Refuse(
                Code.HEADER_AMBIGUOUS, permit.facts,
                f"{left[0].decode('latin-1')[:64]}, which the proxy would send on: expected it taken away there",
            )  # fmt: skip
        return permit

    def _left(self, permit: Forward, raw: Raw) -> list[bytes]:
        """Headers of the client that the proxy would send on though they must go, as far as it is known. Of one that
        `to_app` names it is not known that the proxy puts ours in its place."""
        todo, dialect = handover(permit, raw), self._dialect
        given = {name for name, _ in todo.set}
        left = [
            name for name in todo.remove if dialect.removable is not None or (dialect.deaf and _stays(name, permit))
        ]
        if permit.reserved:
            left += [name for name, _ in raw.headers if name in permit.reserved and name in given]
        return [name for name in left if dialect.removable is None or name not in dialect.removable]

    def _allowed(self, permit: Forward, raw: Raw) -> answer.Answer:
        todo = handover(permit, raw)
        headers = [
            (b"content-length", b"0"),
            *self._caching(todo.privacy),
            (TARGET, todo.target),
            (self._dialect.removal, b",".join(todo.remove)),
            *todo.set,
            *todo.reply,
        ]
        if self._dialect.complete:
            told = {name for name, _ in todo.set}
            headers += [(name, b"") for name in (*SETTABLE, *sorted(permit.reserved)) if name not in told]
        headers += self._numbered(todo.reply)
        return answer.Answer(ALLOWED, headers, b"")

    def _caching(self, privacy: KeepPrivate | None) -> list[Header]:
        """The headers for caches: of this answer, which none may keep, and of the app's by names of their own."""
        if self._dialect.adds:
            # they are those of the app's answer, and this one is kept by nobody
            return [] if privacy is None else [(CONTROL, control_beside(privacy.no_store)), (VARY, privacy.vary)]
        if privacy is None:
            told = [(name, b"") for name in (APP_CONTROL, APP_VARY)] if self._dialect.complete else []
        else:
            told = [(APP_CONTROL, control_beside(privacy.no_store)), (APP_VARY, privacy.vary)]
        return [*answer.PRIVATE, *told]

    def _refused(self, verdict: Refuse, visit: Visit) -> answer.Answer:
        made = self._door.answer(visit, verdict)
        if self._dialect.flat:
            problem = answer.of(
                verdict.client_code, verdict.facts.request_id, methods=verdict.methods, more=verdict.more
            )
            made.headers.append((PROBLEM, problem.body))
        return made._replace(headers=[*made.headers, *self._numbered(made.headers)])

    def _numbered(self, headers: Iterable[Header]) -> list[Header]:
        """Each Set-Cookie under a name of its own, for a proxy that reads one line of a name."""
        cookies = [value for name, value in headers if name == b"set-cookie"] if self._dialect.flat else []
        return [(NUMBERED_COOKIE % number, value) for number, value in enumerate(cookies, 1)]


def _stays(name: bytes, permit: Forward) -> bool:
    """Return whether a header that must go would stay, since a proxy's file does not take it away by itself: one of
    `to_app`, or another spelling of one that only the sidecar sets. Many apps read both spellings as the same."""
    meant = name.translate(FOLDED)
    return name == b"authorization" or meant in permit.reserved or (meant != name and meant in SET_BY_SIDECAR)
