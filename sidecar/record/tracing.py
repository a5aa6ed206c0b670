"""OpenTelemetry traces: a span for each request and a child for each stage, told after the request from its facts.

The standard's variables say where to, as whom and how much: OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_SERVICE_NAME,
OTEL_TRACES_SAMPLER and their kin. Nothing of a request but what `_attributes` names is in a span.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Any

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags, TraceState, set_span_in_context
from opentelemetry.trace.status import Status, StatusCode
from requests import Session

from sidecar.gate.trace import Header, Remote, Trace, remote_of
from sidecar.gate.verdict import Facts
from sidecar.record.metrics import UPSTREAM

_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"))
_SCOPE = InstrumentationScope("authorization-sidecar")
_CALLS = ("lookup", "decision", UPSTREAM)
"""Stages that ask somebody."""


class Tracer:
    """Begins traces and tells of them. `close` must be called before the process ends; it may take seconds."""

    def __init__(self) -> None:
        self._provider = TracerProvider(shutdown_on_exit=False)
        # the collector that is named, and no proxy or password of the environment (R26)
        session = Session()
        session.trust_env = False
        self._exporter = OTLPSpanExporter(session=session)
        self._processor = BatchSpanProcessor(self._exporter)

    def begin(self, headers: Sequence[Header]) -> Trace:
        """The trace of a request: its caller's, or a new one."""
        remote = remote_of(headers)
        trace_id = remote.trace_id if remote is not None else secrets.token_hex(16)
        parent = None
        if remote is not None:
            parent = set_span_in_context(NonRecordingSpan(_context(trace_id, remote.span_id, remote.sampled, remote)))
        sampled = self._provider.sampler.should_sample(parent, int(trace_id, 16), "request", SpanKind.SERVER)
        ids = secrets.token_hex(32)
        return Trace(
            trace_id, ids[:16], ids[16:32], ids[32:48], ids[48:], sampled.decision is Decision.RECORD_AND_SAMPLE, remote
        )  # fmt: skip

    def end(
        self, facts: Facts, outcome: str, code: str, status: int, seconds: float, now: float, forwarded: bool
    ) -> None:
        """Tell of a request whose answer began at `now`, Unix seconds, after so many seconds."""
        trace = facts.trace
        if trace is None or not trace.sampled:
            return
        began = now - seconds
        method = facts.method if facts.method in _METHODS else "_OTHER"
        failed = status >= HTTPStatus.INTERNAL_SERVER_ERROR
        remote = trace.remote
        caller = _context(trace.trace_id, remote.span_id, remote.sampled, remote) if remote is not None else None
        attributes = _attributes(facts, method, outcome, code, status)
        name = f"{'HTTP' if method == '_OTHER' else method} {facts.route}".rstrip()
        own = _context(trace.trace_id, trace.span, True, remote)
        self._tell(name, own, caller, SpanKind.SERVER, attributes, failed, began, now)
        stages = list(_stages(facts, forwarded, began, now))
        for stage, since, until in stages:
            span = getattr(trace, stage) if stage in _CALLS else secrets.token_hex(8)
            kind = SpanKind.CLIENT if stage in _CALLS else SpanKind.INTERNAL
            last = failed and stage == stages[-1][0]
            self._tell(stage, _context(trace.trace_id, span, True, remote), own, kind, {}, last, since, until)

    def _tell(
        self, name: str, context: SpanContext, parent: SpanContext | None, kind: SpanKind, attributes: dict[str, Any],
        failed: bool, began: float, ended: float,
    ) -> None:  # fmt: skip
        self._processor.on_end(
            ReadableSpan(
                name, context, parent, self._provider.resource, attributes, kind=kind,
                status=Status(StatusCode.ERROR if failed else StatusCode.UNSET), start_time=int(began * 1e9),
                end_time=int(ended * 1e9), instrumentation_scope=_SCOPE,
            )
        )  # fmt: skip

    def close(self) -> None:
        """Send what is left."""
        self._processor.shutdown()  # type: ignore[no-untyped-call]


def _context(trace_id: str, span_id: str, sampled: bool, remote: Remote | None) -> SpanContext:
    state = TraceState.from_header([remote.state.decode("ascii")]) if remote is not None and remote.state else None
    flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
    return SpanContext(int(trace_id, 16), int(span_id, 16), False, flags, state)


def _stages(facts: Facts, forwarded: bool, began: float, now: float) -> Iterator[tuple[str, float, float]]:
    """Each stage with its beginning and end, in Unix seconds: they follow one another."""
    at = began
    for stage, seconds in facts.stages.items():
        yield stage, at, at + seconds
        at += seconds
    if forwarded:
        yield UPSTREAM, min(at, now), now


def _attributes(facts: Facts, method: str, outcome: str, code: str, status: int) -> dict[str, Any]:
    """Names of OpenTelemetry's semantic conventions for HTTP, and ours. Neither the principal nor the peer: who it was
    is in the decision log, by the request id."""
    return {
        "http.request.method": method,
        "http.response.status_code": status,
        "http.route": facts.route,
        "url.path": facts.path,
        "sidecar.request_id": facts.request_id,
        "sidecar.outcome": outcome,
        "sidecar.code": code,
        "sidecar.resource.kind": facts.kind,
        "sidecar.action": facts.action,
    }
