"""Traces of a real run, as an OTLP receiver gets them; and what the app, the hook and Cerbos are told of them."""

from __future__ import annotations

import http.server
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from envoy.service.auth.v3.external_auth_pb2 import CheckResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from sidecar.gate.verdict import Facts
from sidecar.record.tracing import Tracer
from tests.conftest import Stack, policies
from tests.doors.test_ext_authz import question
from tests.stack import ROOT, Sidecar, free_port, running_sidecar, wait_for

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{CALLER}-01"


class Receiver:
    """A collector: POST /v1/traces with protobuf (OTLP 1.0, "OTLP/HTTP"). `spans` are (service, span)."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Any]] = []
        self.asked: list[dict[str, str]] = []
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == "/v1/traces"
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.asked.append({name.lower(): value for name, value in self.headers.items()})
                for group in ExportTraceServiceRequest.FromString(body).resource_spans:
                    (service,) = [a.value.string_value for a in group.resource.attributes if a.key == "service.name"]
                    receiver.spans += [(service, span) for scope in group.scope_spans for span in scope.spans]
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def of(self, trace_id: str, service: str = "edge") -> dict[str, Any]:
        """Name -> span of one trace."""
        return {s.name: s for owner, s in list(self.spans) if s.trace_id.hex() == trace_id and owner == service}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def traced(stack: Stack, receiver: Receiver, tmp_path: Path) -> Iterator[Sidecar]:
    environ = {
        **stack.environ, "SIDECAR_TRACES": "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{receiver.port}",
        "OTEL_SERVICE_NAME": "edge", "OTEL_BSP_SCHEDULE_DELAY": "100", "OTEL_EXPORTER_OTLP_HEADERS": "api-key=k1",
    }  # fmt: skip
    upstream = f"http://127.0.0.1:{stack.upstream.port}"
    with running_sidecar(tmp_path, stack.routes, policies(), upstream, environ) as sidecar:
        yield sidecar


def attributes(span: Any) -> dict[str, Any]:
    return {a.key: a.value.int_value or a.value.string_value for a in span.attributes}


def test_a_request_is_a_span_with_a_child_for_each_stage_and_everybody_is_told(
    stack: Stack, traced: Sidecar, receiver: Receiver
) -> None:
    token = stack.tokens["alice"]
    sent = {"traceparent": PARENT, "tracestate": "vendor=1", "baggage": "k=BAGGAGE", "cookie": "c=COOKIE"}
    got = traced.get("/contacts/1?q=QUERY", token, **sent)
    assert got.status == 200
    wait_for(lambda: len(receiver.of(TRACE)) == 7, what="the spans of the request")
    spans = receiver.of(TRACE)
    root = spans.pop("GET /contacts/{id}")
    assert set(spans) == {"request", "routing", "identity", "lookup", "decision", "upstream"}
    assert (root.parent_span_id.hex(), root.kind, root.trace_state) == (CALLER, root.SPAN_KIND_SERVER, "vendor=1")
    assert {span.parent_span_id for span in spans.values()} == {root.span_id}
    assert len({span.span_id for span in [root, *spans.values()]}) == 7
    calls = {name for name, span in spans.items() if span.kind == span.SPAN_KIND_CLIENT}
    assert calls == {"lookup", "decision", "upstream"}
    at = root.start_time_unix_nano
    for stage in ("request", "routing", "identity", "lookup", "decision", "upstream"):
        span = spans[stage]
        assert at <= span.start_time_unix_nano + 1000, stage
        assert span.start_time_unix_nano <= span.end_time_unix_nano <= root.end_time_unix_nano + 1000, stage
        at = span.end_time_unix_nano
    line = traced.decisions()[-1]
    assert line["trace_id"] == TRACE
    assert attributes(root) == {
        "http.request.method": "GET", "http.response.status_code": 200, "http.route": "/contacts/{id}",
        "url.path": "/contacts/1", "sidecar.request_id": line["request_id"], "sidecar.outcome": "allow",
        "sidecar.code": "allowed", "sidecar.resource.kind": "contact", "sidecar.action": "read",
    }  # fmt: skip
    told = str(receiver.spans)
    for secret in (token, token.rpartition(".")[2], "QUERY", "COOKIE", "BAGGAGE", "alice"):
        assert secret not in told, secret
    assert receiver.asked[-1]["api-key"] == "k1"

    # the app, by the span of its stage and in place of what the client said
    (seen,) = stack.upstream.seen
    assert seen.values("traceparent") == [f"00-{TRACE}-{spans['upstream'].span_id.hex()}-01"]
    assert (seen.values("tracestate"), seen.values("baggage")) == (["vendor=1"], ["k=BAGGAGE"])
    # the hook, which gets nothing else of the client
    (_, headers) = stack.hook.asked[-1]
    assert headers["traceparent"] == f"00-{TRACE}-{spans['lookup'].span_id.hex()}-01"
    assert (headers["tracestate"], headers.get("baggage")) == ("vendor=1", None)
    # Cerbos, which tells of its own spans under ours
    ours = spans["decision"].span_id
    wait_for(
        lambda: ours in {span.parent_span_id for span in receiver.of(TRACE, "cerbos").values()},
        what="the spans of Cerbos, the one under ours last",
    )


def test_what_another_proxy_asks_is_a_span_too_and_the_app_was_not_asked_by_us(
    stack: Stack, receiver: Receiver, tmp_path: Path
) -> None:
    port = free_port()
    environ = {
        **stack.environ, "SIDECAR_TRACES": "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{receiver.port}",
        "OTEL_SERVICE_NAME": "edge", "OTEL_BSP_SCHEDULE_DELAY": "100", "SIDECAR_FORWARD_AUTH": "nginx",
        "SIDECAR_TRUSTED_PROXIES": "127.0.0.1/32", "SIDECAR_EXT_AUTHZ_LISTEN": f"127.0.0.1:{port}",
    }  # fmt: skip
    upstream, token = f"http://127.0.0.1:{stack.upstream.port}", stack.tokens["alice"]
    said = {
        "X-Original-Method": "GET", "X-Original-URI": "/contacts/1", "X-Forwarded-For": "192.0.2.7",
        "X-Forwarded-Proto": "https", "traceparent": PARENT,
    }  # fmt: skip
    other = TRACE[::-1]
    bearer = (b"authorization", f"Bearer {token}".encode())
    asked = question(
        bearer, (b"traceparent", PARENT.replace(TRACE, other).encode()), path="/contacts/1", host="127.0.0.1"
    )
    with running_sidecar(tmp_path, stack.routes, policies(), upstream, environ) as sidecar:
        assert sidecar.get("/_sidecar/authorize", token, **said).status == 200
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            answer = channel.unary_unary("/envoy.service.auth.v3.Authorization/Check")(asked, timeout=30)
        assert CheckResponse.FromString(answer).HasField("ok_response")
        for trace in (TRACE, other):
            wait_for(lambda trace=trace: len(receiver.of(trace)) == 6, what="the spans of a question")  # type: ignore[misc]
            spans = receiver.of(trace)
            assert set(spans) == {"GET /contacts/{id}", "request", "routing", "identity", "lookup", "decision"}
            assert spans["GET /contacts/{id}"].parent_span_id.hex() == CALLER
        assert {line["trace_id"] for line in sidecar.decisions()} == {TRACE, other}
        assert sidecar.metric("sidecar_stage_seconds_count", stage="decision") == 2
        assert sidecar.metric("sidecar_stage_seconds_count", stage="upstream") == 0
    assert stack.upstream.received == b""


def test_without_a_context_or_with_a_broken_one_a_new_trace_begins(
    stack: Stack, traced: Sidecar, receiver: Receiver
) -> None:
    seen = set()
    for sent in ({}, {"traceparent": f"{PARENT}-x", "tracestate": "a=1"}, {"traceparent": "x"}):
        stack.upstream.reset()
        assert traced.get("/public", **sent).status == 200
        (parent,) = stack.upstream.seen[0].values("traceparent")
        assert stack.upstream.seen[0].values("tracestate") == []
        match = re.fullmatch(r"00-([0-9a-f]{32})-[0-9a-f]{16}-01", parent)
        assert match is not None
        seen.add(match[1])
        assert traced.decisions()[-1]["trace_id"] == match[1]
    assert len(seen) == 3
    assert TRACE not in seen
    # a refusal is told too, with its reason, and a fault is an error of the stage that it came from
    assert traced.get("/me", traceparent=PARENT).status == 401
    stack.hook.pages.clear()
    stack.hook.json("/contacts/1", {}, 500)
    assert traced.get("/contacts/1", stack.tokens["alice"], traceparent=PARENT.replace("0af7", "1af7")).status == 503
    wait_for(lambda: len(receiver.of(TRACE)) == 4 and len(receiver.of(TRACE.replace("0af7", "1af7"))) == 5)
    refused = receiver.of(TRACE)
    assert set(refused) == {"GET /me", "request", "routing", "identity"}
    assert attributes(refused["GET /me"])["sidecar.code"] == "token_missing"
    assert {span.status.code for span in refused.values()} == {0}
    failed = receiver.of(TRACE.replace("0af7", "1af7"))
    assert {name for name, span in failed.items() if span.status.code == 2} == {"GET /contacts/{id}", "lookup"}


def test_off_nobody_is_told_and_a_clients_context_goes_through_as_any_header(stack: Stack) -> None:
    assert stack.sidecar.get("/contacts/1", stack.tokens["alice"], traceparent="client's").status == 200
    assert stack.upstream.seen[0].values("traceparent") == ["client's"]
    assert "traceparent" not in stack.hook.asked[-1][1]
    assert "trace_id" not in stack.sidecar.decisions()[-1]


@pytest.mark.parametrize(
    ("sampler", "sampled", "unsampled"),
    [
        (None, True, False),  # by default the caller's word counts
        ("always_off", False, False),
        ("always_on", True, True),
        ("parentbased_always_off", True, False),
    ],
)
def test_the_standards_variables_choose_what_is_sampled(
    sampler: str | None, sampled: bool, unsampled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OTEL_TRACES_SAMPLER", raising=False)
    if sampler is not None:
        monkeypatch.setenv("OTEL_TRACES_SAMPLER", sampler)
    tracer = Tracer()
    try:
        assert tracer.begin([(b"traceparent", PARENT.encode())]).sampled is sampled
        trace = tracer.begin([(b"traceparent", PARENT[:-1].encode() + b"0")])
        assert (trace.trace_id, trace.sampled) == (TRACE, unsampled)
        assert trace.headers(trace.upstream)[0][1].endswith(b"-01" if unsampled else b"-00")
    finally:
        tracer.close()


def test_the_guides_example_is_what_the_library_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/guides/operate.md"""
    guide = (ROOT / "docs" / "guides" / "operate.md").read_text()
    variables = dict(
        re.findall(r"\b(OTEL_\w+|SIDECAR_TRACES)=(\S+)", guide.partition("export ")[2].partition("```")[0])
    )
    assert variables.pop("SIDECAR_TRACES") == "otlp"
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    tracer = Tracer()
    try:
        provider = tracer._provider
        assert "TraceIdRatioBased{0.05}" in provider.sampler.get_description()
        assert provider.resource.attributes["service.name"] == variables["OTEL_SERVICE_NAME"]
        assert tracer._exporter._endpoint == f"{variables['OTEL_EXPORTER_OTLP_ENDPOINT']}/v1/traces"
    finally:
        tracer.close()


def test_a_method_that_nobody_knows_names_no_span(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{receiver.port}")
    tracer = Tracer()
    facts = Facts("r", "EVIL", "/x", stages={"request": 0.001}, trace=tracer.begin([]))
    tracer.end(facts, "refuse", "route_unmapped", 403, 0.002, 1.7e9, False)
    tracer.end(Facts("r", "GET", "/"), "allow", "public", 200, 0.0, 1.7e9, True)
    tracer.close()
    # a method of the client's own making names no span
    assert {span.name for _, span in receiver.spans} == {"HTTP", "request"}
    assert attributes(receiver.spans[0][1])["http.request.method"] == "_OTHER"
