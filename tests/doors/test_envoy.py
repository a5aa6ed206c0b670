"""`doors/envoy.py`: what Envoy says of a request, by either of its protocols."""

from __future__ import annotations

import pytest

from sidecar.doors.envoy import address, facts_of, grpc_status, plain_headers, removed_hops, request_of
from sidecar.gate.codes import Code
from sidecar.gate.verdict import Facts, Refuse, Refused
from sidecar.wire.grammar import Header
from sidecar.wire.grpc import Status

HOST = (b"host", b"app.test")


@pytest.mark.parametrize(
    ("headers", "has_body", "chunked"),
    [([], True, True), ([], False, False), ([(b"content-length", b"3")], True, False)],
)
def test_a_body_that_no_header_tells_of_is_one(headers: list[Header], has_body: bool, chunked: bool) -> None:
    raw = request_of("POST", b"/a", [HOST, *headers], "10.0.0.9", "r1", has_body=has_body).raw
    assert ((b"transfer-encoding", b"chunked") in raw.headers) is chunked


@pytest.mark.parametrize(("upgrade", "holds"), [(b"websocket", False), (b"h2c", True)])
def test_the_answer_of_a_websocket_is_not_held(upgrade: bytes, holds: bool) -> None:
    made = request_of("GET", b"/a", [HOST, (b"upgrade", upgrade)], "", "r1", has_body=True, holds_answer=True)
    assert made.raw.holds_answer is holds
    # Envoy takes what follows the handshake for a body
    assert (b"transfer-encoding" in dict(made.raw.headers)) is holds


def test_the_scheme_and_the_client_are_what_envoy_says() -> None:
    headers = [HOST, (b"x-forwarded-proto", b"https"), (b"x-forwarded-for", b"6.6.6.6, 10.0.0.9")]
    raw = request_of("GET", b"/a", headers, "10.0.0.9", "r1", has_body=False).raw
    assert (raw.scheme, raw.peer, raw.headers[-1]) == ("https", "10.0.0.9", (b"x-forwarded-for", b"6.6.6.6"))
    assert [address(text) for text in ("10.0.0.9", "::1", "pipe", "")] == ["10.0.0.9", "::1", "", ""]


@pytest.mark.parametrize(
    ("header", "exact", "code"),
    [
        ((b":path", b"/b"), True, Code.REQUEST_INVALID),
        ((b"authorization", b"Bearer a,Bearer b"), True, Code.HEADER_AMBIGUOUS),
        ((b"cookie", b"a=1,__Host-session=x"), False, Code.HEADER_AMBIGUOUS),
        ((b"cookie", b"a=1,__Host-session=x"), True, None),
    ],
)
def test_headers_that_say_two_things_are_refused(header: Header, exact: bool, code: Code | None) -> None:
    if code is None:
        assert plain_headers([header], exact, b"GET", b"/a", b"app.test") == [HOST, header]
        return
    with pytest.raises(Refused) as refused:
        plain_headers([header], exact, b"GET", b"/a", b"app.test")
    assert refused.value.code is code


def test_te_is_for_calls_alone() -> None:
    call = request_of(
        "POST", b"/a", [HOST, (b"te", b"trailers"), (b"content-type", b"application/grpc")], "", "r", has_body=True
    )
    assert call.grpc
    assert removed_hops(call.raw, call.grpc) == ()
    assert removed_hops(call.raw, False) == (b"te",)


def test_what_envoy_may_log_and_what_a_call_ends_with() -> None:
    refuse = Refuse(Code.DENIED_BY_POLICY, Facts("r1", "GET", "/a", principal="a-1", route="/a"))
    assert dict(facts_of(refuse)) == {
        b"principal": "a-1", b"route": "/a", b"code": "denied_by_policy", b"request_id": "r1",
    }  # fmt: skip
    assert [grpc_status(status) for status in (403, 502, 504, 599)] == [
        Status.PERMISSION_DENIED, Status.UNAVAILABLE, Status.DEADLINE_EXCEEDED, Status.UNKNOWN,
    ]  # fmt: skip
