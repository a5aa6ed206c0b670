"""`sidecar explain`: composes a gate from the settings, and explains its verdict on one request."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlencode

from sidecar.config.setting_table import Settings
from sidecar.config.settings import Understood
from sidecar.gate.gate import Gate
from sidecar.gate.mcp_session import McpSessions
from sidecar.gate.request import Raw
from sidecar.gate.routing import WEBSOCKET, RouteTable
from sidecar.gate.verdict import Forward
from sidecar.record import logs
from sidecar.run.deciding import deciding, wall_clock
from sidecar.run.pdp import starting_cerbos
from sidecar.run.route_file import require_in_force
from sidecar.study import explain
from sidecar.study.recording import RecordingPDP
from sidecar.wire.grammar import Header


class ExplainRequest(NamedTuple):
    """Question to `sidecar explain`: a request as a person writes it. `claims` stand in place of a token. `answer` is
    one of the app, as JSON, which is judged then. `form` are fields, each as NAME=VALUE, in place of a body."""

    method: str
    target: str
    headers: list[str]
    body: str
    token: str
    claims: Mapping[str, Any] | None
    answer: bytes | None = None
    form: Sequence[str] = ()


async def explain_one(read: Understood, environ: Mapping[str, str], asked: ExplainRequest) -> tuple[bool, list[str]]:
    """Explain one request with the real hook and the real PDP. No file is left. Raises StartError, and ValueError for a
    bad header."""
    logs.configure("error")
    made = deciding(read, environ)
    require_in_force(read.settings, made.configured.routes)
    pdp = RecordingPDP(made.pdp)
    tokens = made.configured.tokens
    if asked.claims is not None:
        tokens = explain.GivenClaims(asked.claims, made.configured.routes.principal, tokens)
    rules = made.configured.rules(made.reading).by(tokens)
    unjudged = _no_sessions(asked, read.settings)
    gate = Gate(
        rules, made.hooks, pdp, now=wall_clock, timer=time.perf_counter, plans=made.plans(),
        sessions=None if unjudged else McpSessions(read.settings.session_secrets),
    )  # fmt: skip
    try:
        with starting_cerbos():
            if made.embedded is not None:
                await made.embedded.start()
        raw = _raw(asked, read.settings, made.configured.routes.table)
        verdict, lines = await explain.explain(gate, pdp, raw, _body(asked), asked.answer, read.settings.mode, unjudged)
    finally:
        await made.aclose()
    return isinstance(verdict, Forward), lines


def _no_sessions(asked: ExplainRequest, settings: Settings) -> str:
    """Return why nobody can tell here whose a session at an MCP server is, or ""."""
    if not settings.session_secrets:
        return "SIDECAR_SESSION_SECRET is not set here, expected that of the sidecar which gave the session"
    if asked.claims is not None and "iss" not in asked.claims:
        return "the claims have no `iss`, expected that of the user's tokens: a session is a user's of one issuer"
    return ""


def _body(asked: ExplainRequest) -> bytes:
    fields = [field.partition("=") for field in asked.form]
    unclear = next((name for name, equals, _ in fields if not equals), None)
    if unclear is not None:
        raise ValueError(f"found {unclear!r}, expected NAME=VALUE")
    return (urlencode([(name, text) for name, _, text in fields]) or asked.body).encode("utf-8")


_HEADER = re.compile(r"([A-Za-z0-9-]+):[ \t]*(.*)")


def _raw(asked: ExplainRequest, settings: Settings, table: RouteTable) -> Raw:
    headers: list[Header] = []
    for text in asked.headers:
        match = _HEADER.fullmatch(text)
        if match is None:
            raise ValueError(f"found {text!r}, expected 'NAME: VALUE'")
        headers.append((match[1].lower().encode("ascii"), match[2].strip().encode("utf-8")))
    if all(name != b"host" for name, _ in headers):
        host = explain.default_host(table, settings.hosts, asked.target.encode("utf-8"))
        headers.insert(0, (b"host", host.encode("ascii")))
    if asked.token:
        headers.append((b"authorization", b"Bearer " + asked.token.encode("ascii")))
    if body := _body(asked):
        kind = b"application/x-www-form-urlencoded" if asked.form else b"application/json"
        if all(name != b"content-type" for name, _ in headers):
            headers.append((b"content-type", kind))
        headers.append((b"content-length", str(len(body)).encode("ascii")))
    if asked.method == WEBSOCKET:
        # what `actions` names for a handshake, which is a GET
        return Raw("GET", asked.target.encode("latin-1"), headers, "", "http", "explain", websocket=True)
    return Raw(asked.method, asked.target.encode("latin-1"), headers, "", "http", "explain", holds_answer=True)
