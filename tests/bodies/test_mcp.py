"""Messages of MCP: what each asks for, and that none is read in two ways."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.bodies.json_rpc import JsonRpcReply
from sidecar.bodies.mcp import Mcp, Message, Wanted, asks_of, messages_rule, read_message, require_agreement, wanted_of
from sidecar.gate.ask import Ask
from sidecar.gate.codes import Code
from sidecar.gate.request import Request
from sidecar.gate.verdict import Refused
from sidecar.wire.grammar import Header

NONE: dict[str, Any] = {}


def body(method: str = "tools/call", params: Any = None, **more: Any) -> bytes:
    value = {"jsonrpc": "2.0", "id": 1, "method": method, **({} if params is None else {"params": params}), **more}
    return json.dumps(value).encode()


def asked(method: str, params: Any = None) -> tuple[Wanted, ...]:
    return wanted_of(Message(1, method, params or {}))


def refusal(call: Any) -> tuple[Code, int, int, Any]:
    """-> (our code, the status, the code of JSON-RPC, the id)."""
    with pytest.raises(Refused) as refused:
        call()
    reply = refused.value.reply
    assert isinstance(reply, JsonRpcReply)
    told = json.loads(reply.body(refused.value.code, 400, "r", {}))
    return refused.value.code, reply.status(400), told["error"]["code"], told["id"]


# --- the message ---


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (body(params={"name": "a"}), Message(1, "tools/call", {"name": "a"})),
        (body("ping", id="x-1"), Message("x-1", "ping", {})),
        (body("ping", id=0), Message(0, "ping", {})),
        (b'{"jsonrpc": "2.0", "method": "notifications/initialized"}', Message(None, "notifications/initialized", {})),
        (b'{"jsonrpc": "2.0", "id": 3, "result": {"action": "accept"}}', Message(3, "", {})),
        (b'{"jsonrpc": "2.0", "id": 3, "error": {"code": -1, "message": "no"}}', Message(3, "", {})),
    ],
)
def test_a_message_is_read(data: bytes, message: Message) -> None:
    assert read_message(data) == message


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", -32700),
        (b"{", -32700),
        (b"\xff", -32700),
        (b"\xef\xbb\xbf" + body(), -32700),
        (b'{"jsonrpc": "2.0", "id": NaN, "method": "ping"}', -32700),
        (b'{"jsonrpc": "2.0", "id": 1, "id": 2, "method": "ping"}', -32700),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "ping", "Method": "tools/call"}', -32700),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "a", "NAME": "b"}}', -32700),
        (b"[" * 5000, -32700),
        (b"[" + body() + b"]", -32600),
        (b"[]", -32600),
        (b"null", -32600),
        (b'"ping"', -32600),
        (b'{"id": 1, "method": "ping"}', -32600),
        (b'{"jsonrpc": 2.0, "id": 1, "method": "ping"}', -32600),
        (b'{"jsonrpc": "2.0", "id": 1}', -32600),
        (b'{"jsonrpc": "2.0", "id": 1, "Method": "ping"}', -32600),
        (b'{"jsonrpc": "2.0", "id": 1, "result": {}, "error": {}}', -32600),
        (b'{"jsonrpc": "2.0", "id": 1, "result": []}', -32600),
        (b'{"jsonrpc": "2.0", "id": 1, "error": 7}', -32600),
        (b'{"jsonrpc": "2.0", "result": {}}', -32600),
    ],
)  # fmt: skip
def test_what_is_no_message_is_refused(data: bytes, error: int) -> None:
    assert refusal(lambda: read_message(data))[:3] == (Code.BODY_INVALID, 400, error)


@pytest.mark.parametrize("found", [None, True, 1.0, 1.5, 2**53, -(2**53), "x" * 257, "a\nb", [], {}])
def test_an_id_that_two_may_write_differently_is_refused(found: Any) -> None:
    assert refusal(lambda: read_message(body(id=found))) == (Code.BODY_INVALID, 400, -32600, None)


@pytest.mark.parametrize(
    "more",
    [
        {"method": 7}, {"method": ""}, {"method": "tools/call "}, {"method": "töols"}, {"method": "x" * 129},
        {"params": []}, {"params": 0}, {"params": "a"}, {"result": {}}, {"extra": 1},
        {"method": "notifications/initialized"},
    ],
)  # fmt: skip
def test_a_request_that_is_not_of_the_form_is_refused_with_its_id(more: dict[str, Any]) -> None:
    assert refusal(lambda: read_message(body(**{"method": "ping", **more}))) == (Code.BODY_INVALID, 400, -32600, 1)


def test_a_request_without_an_id_is_refused() -> None:
    assert refusal(lambda: read_message(b'{"jsonrpc": "2.0", "method": "tools/call"}'))[2] == -32600


@given(st.binary(max_size=60) | st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=9), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["jsonrpc", "id", "method", "params", "name", "uri"]), inner, max_size=5)).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_whatever_comes_is_a_message_or_a_refusal(data: bytes) -> None:
    reply = None
    try:
        wanted_of(read_message(data))
    except Refused as refused:
        reply = refused.reply
    assert reply is None or isinstance(reply, JsonRpcReply)


# --- what it asks for ---


@pytest.mark.parametrize(
    ("method", "params", "wanted"),
    [
        ("tools/call", {"name": "a", "arguments": {"n": 1}}, Wanted("mcp_tool", "a", "call", {"n": 1})),
        ("tools/call", {"name": "a", "arguments": None}, Wanted("mcp_tool", "a", "call", NONE)),
        ("tools/call", {"name": "a", "_meta": {}, "inputResponses": {}}, Wanted("mcp_tool", "a", "call", NONE)),
        ("resources/read", {"uri": "file:///a"}, Wanted("mcp_resource", "file:///a", "read", NONE)),
        ("resources/subscribe", {"uri": "crm://a"}, Wanted("mcp_resource", "crm://a", "subscribe", NONE)),
        ("resources/unsubscribe", {"uri": "crm://a"}, Wanted("mcp_resource", "crm://a", "subscribe", NONE)),
        ("prompts/get", {"name": "p", "arguments": {"t": "x"}}, Wanted("mcp_prompt", "p", "get", {"t": "x"})),
        ("tasks/get", {"taskId": "t"}, Wanted("mcp_task", "t", "get", NONE)),
        ("tasks/result", {"taskId": "t"}, Wanted("mcp_task", "t", "get", NONE)),
        ("tasks/update", {"taskId": "t"}, Wanted("mcp_task", "t", "update", NONE)),
        ("tasks/cancel", {"taskId": "t"}, Wanted("mcp_task", "t", "cancel", NONE)),
        *((f"{kind}/list", {"cursor": "c"}, Wanted("mcp_server", "", "list", NONE)) for kind in ("tools", "resources", "resources/templates", "prompts", "tasks")),
        *((method, {}, Wanted("mcp_server", "", "connect", NONE)) for method in ("initialize", "server/discover", "ping", "", "notifications/initialized", "notifications/cancelled", "notifications/roots/list_changed")),
        ("logging/setLevel", {"level": "info"}, Wanted("mcp_server", "", "set_level", NONE)),
        ("completion/complete", {"ref": {"type": "ref/prompt", "name": "p"}, "argument": {"name": "t", "value": "x"}}, Wanted("mcp_prompt", "p", "complete", NONE)),
        ("completion/complete", {"ref": {"type": "ref/resource", "uri": "crm://{id}"}, "argument": {}}, Wanted("mcp_resource", "crm://{id}", "complete", NONE)),
        ("subscriptions/listen", {"notifications": {"toolsListChanged": True}}, Wanted("mcp_server", "", "listen", NONE)),
    ],
)  # fmt: skip
def test_each_method_asks_for_one_resource(method: str, params: dict[str, Any], wanted: Wanted) -> None:
    assert asked(method, params) == (wanted,)


def test_a_stream_of_notifications_asks_for_each_resource_that_it_tells_of() -> None:
    found = asked(
        "subscriptions/listen", {"notifications": {"resourceSubscriptions": ["crm://a", "crm://b", "crm://a"]}}
    )
    assert found == (
        Wanted("mcp_server", "", "listen", NONE),
        Wanted("mcp_resource", "crm://a", "subscribe", NONE),
        Wanted("mcp_resource", "crm://b", "subscribe", NONE),
    )


@pytest.mark.parametrize(
    "method", ["tools/delete", "Tools/call", "tools/call/", "resources/write", "roots/list", "sampling/createMessage", "rpc.discover", "notifications/secret", "$/cancelRequest"]
)  # fmt: skip
def test_what_is_not_known_is_refused(method: str) -> None:
    assert refusal(lambda: asked(method)) == (Code.OPERATION_UNMAPPED, 200, -32601, 1)
    modern = {"_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}}
    assert refusal(lambda: asked(method, modern))[:3] == (Code.OPERATION_UNMAPPED, 404, -32601)


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("tools/call", {}),
        ("tools/call", {"name": ""}),
        ("tools/call", {"name": 7}),
        ("tools/call", {"name": "a\x00b"}),
        ("tools/call", {"name": "x" * 1025}),
        # a server that strips names finds another tool by them
        ("tools/call", {"name": " a"}),
        ("prompts/get", {"name": "a\u00a0"}),
        ("tasks/get", {"taskId": "\ufeffa"}),
        ("completion/complete", {"ref": {"type": "ref/prompt", "name": "a "}, "argument": {}}),
        ("tools/call", {"Name": "a"}),
        ("tools/call", {"name": "a", "Arguments": {"n": 1}}),
        ("tools/call", {"name": "a", "argument\u017f": {}}),
        ("tools/call", {"name": "a", "arguments": []}),
        ("tools/call", {"name": "a", "arguments": "{}"}),
        ("prompts/get", {"name": "a", "arguments": 1}),
        ("tasks/get", {"taskid": "a"}),
        ("resources/read", {"URI": "crm://a"}),
        ("completion/complete", {"ref": "ref/prompt", "argument": {}}),
        ("completion/complete", {"ref": {"type": "ref/tool", "name": "a"}, "argument": {}}),
        ("completion/complete", {"ref": {"type": "ref/prompt", "Name": "a"}, "argument": {}}),
        ("completion/complete", {"ref": {"type": "ref/prompt", "name": "a"}}),
        ("subscriptions/listen", {}),
        ("subscriptions/listen", {"notifications": {"resourcesubscriptions": ["crm://a"]}}),
        ("subscriptions/listen", {"notifications": {"resourceSubscriptions": "crm://a"}}),
        ("subscriptions/listen", {"notifications": {"resourceSubscriptions": [7]}}),
        ("subscriptions/listen", {"notifications": {"resourceSubscriptions": ["crm://a"] * 50}}),
    ],
)
def test_parameters_that_are_not_read_in_one_way_are_refused(method: str, params: dict[str, Any]) -> None:
    # the client's session goes on: a status of an error would end it
    assert refusal(lambda: asked(method, params)) == (Code.BODY_INVALID, 200, -32602, 1)


def test_a_uri_that_a_server_may_read_as_another_is_refused() -> None:
    for method in ("resources/read", "resources/subscribe"):
        assert asked(method, {"uri": "file:///a"})[0].name == "file:///a"
        assert refusal(lambda method=method: asked(method, {"uri": "file:///b/../a"}))[0] is Code.BODY_INVALID


# --- its headers ---

CALL = Message(
    1, "tools/call", {"name": "get", "arguments": {"region": "eu", "n": 42, "on": True, "deep": {"x": ["y"], "z": "w"}}}
)
MODERN = Message(1, "tools/call", {"name": "get", "_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}})
READ = Message(1, "resources/read", {"uri": "crm://a"})


def encoded(text: str) -> bytes:
    return b"=?base64?" + base64.b64encode(text.encode()) + b"?="


@pytest.mark.parametrize(
    ("message", "headers"),
    [
        (CALL, []),
        (CALL, [(b"mcp-method", b"tools/call"), (b"mcp-name", b"get"), (b"mcp-session-id", b"s"), (b"x", b"1"), (b"x", b"2")]),
        (CALL, [(b"mcp-name", encoded("get"))]),
        (CALL, [(b"mcp-protocol-version", b"2025-11-25")]),
        (MODERN, [(b"mcp-protocol-version", b"2026-07-28")]),
        (READ, [(b"mcp-name", b"crm://a")]),
        (Message(1, "tasks/get", {"taskId": "t"}), [(b"mcp-name", b"t")]),
        (Message(1, "tools/call", {"name": "=?base64?Zw==?="}), [(b"mcp-name", encoded("=?base64?Zw==?="))]),
        (Message(1, "tools/call", {"name": "größe"}), [(b"mcp-name", encoded("größe"))]),
        *((CALL, [(b"mcp-param-any", value)]) for value in (b"eu", b"42", b"42.0", b"true", b"w", encoded("eu"))),
    ],
)  # fmt: skip
def test_headers_that_agree_with_the_body_are_taken(message: Message, headers: list[Header]) -> None:
    require_agreement(message, headers)


@pytest.mark.parametrize(
    ("message", "headers"),
    [
        (CALL, [(b"mcp-method", b"tools/list")]),
        (CALL, [(b"mcp-method", b"Tools/call")]),
        (CALL, [(b"mcp-name", b"delete")]),
        (CALL, [(b"mcp-name", b"GET")]),
        (CALL, [(b"mcp-name", b"get"), (b"mcp-name", b"get")]),
        (CALL, [(b"mcp-name", b"=?base64?Z2V0=?=")]),
        (CALL, [(b"mcp-name", b"=?base64?*?=")]),
        (CALL, [(b"mcp-name", b"=?base64?/w==?=")]),
        (CALL, [(b"mcp-name", b"g\xe9t")]),
        (CALL, [(b"mcp-session-id", b"a"), (b"mcp-session-id", b"b")]),
        (CALL, [(b"last-event-id", b"a"), (b"last-event-id", b"b")]),
        (MODERN, [(b"mcp-protocol-version", b"2025-11-25")]),
        (READ, [(b"mcp-name", b"crm://b")]),
        # what another parameter says is not what the method is about
        (Message(1, "resources/read", {"uri": "crm://secret", "name": "open"}), [(b"mcp-name", b"open")]),
        (Message(1, "completion/complete", {"ref": {"type": "ref/prompt", "name": "a"}, "name": "b"}), [(b"mcp-name", b"b")]),
        (Message(1, "tools/list", {}), [(b"mcp-name", b"\xff")]),
        (READ, [(b"mcp-param-region", b"eu")]),
        (Message(1, "ping", {}), [(b"mcp-name", b"get")]),
        (Message(3, "", {}), [(b"mcp-method", b"tools/call")]),
        *((CALL, [(b"mcp-param-any", value)]) for value in (b"us", b"42.5", b"4", b"True", b"1", b"", b"y", encoded("us"), b"=?base64?*?=", b"\xff")),
    ],
)  # fmt: skip
def test_headers_that_say_something_else_are_refused(message: Message, headers: list[Header]) -> None:
    assert refusal(lambda: require_agreement(message, headers)) == (Code.HEADER_AMBIGUOUS, 400, -32020, message.id)


def test_many_headers_of_many_arguments_cost_little() -> None:
    message = Message(1, "tools/call", {"name": "a", "arguments": {"a": "x", **{f"b{n}": 1 for n in range(90_000)}}})
    since = time.process_time()
    require_agreement(message, [(b"mcp-param-%d" % n, b"x") for n in range(90)])
    # 3 s, where each header had all arguments walked through
    assert time.process_time() - since < 0.5


# --- what is asked about it ---

OWN = Ask("delete", "contact")


def request(kind: bytes = b"application/json", *headers: Header) -> Request:
    return Request("POST", b"/mcp", "/mcp", ("mcp",), b"", list(headers), {b"content-type": kind}, "a", "", "r", frozenset(), True, False)  # fmt: skip


def test_a_call_asks_about_its_tool_and_what_the_tool_is_about() -> None:
    rule = Mcp(asks_of("crm"), {"delete": OWN})
    first, second = rule.read(request(), body(params={"name": "delete", "arguments": {"id": "7"}}))
    assert (first.ask.kind, first.ask.action, first.args) == (
        "mcp_tool",
        "call",
        {"name": "delete", "arguments": {"id": "7"}},
    )
    assert (second.ask, second.args, first.reply) == (OWN, {"id": "7"}, JsonRpcReply(1, 200))
    # a prompt of the same name is another thing
    (only,) = rule.read(request(), body("prompts/get", {"name": "delete"}))
    assert only.ask.kind == "mcp_prompt"


def test_the_policy_is_told_of_named_arguments_alone_and_of_none_in_another_spelling() -> None:
    rule = Mcp(asks_of("crm"), policy_arguments=frozenset(["amount"]))
    (only,) = rule.read(request(), body(params={"name": "pay", "arguments": {"amount": 7, "note": "x" * 100_000}}))
    assert only.args["arguments"] == {"amount": 7}
    for other in ("Amount", "AMOUNT", "amo\u200bunt"):
        message = body(params={"name": "pay", "arguments": {other: 7}})
        assert refusal(lambda message=message: rule.read(request(), message))[0] is Code.BODY_INVALID


def test_a_refusal_of_what_is_no_request_has_the_status_of_its_code() -> None:
    rule = Mcp(asks_of("crm"))
    for data in (
        b'{"jsonrpc": "2.0", "method": "notifications/initialized"}',
        b'{"jsonrpc": "2.0", "id": 3, "result": {}}',
    ):
        (only,) = rule.read(request(), data)
        assert isinstance(only.reply, JsonRpcReply)
        assert only.reply.status(403) == 403


def test_a_body_of_another_type_is_not_read() -> None:
    for kind in (b"text/plain", b"application/json; charset=utf-16", b""):
        with pytest.raises(Refused) as refused:
            Mcp(asks_of("crm")).read(request(kind), body("ping"))
        assert refused.value.code is Code.BODY_TYPE_UNSUPPORTED


def test_the_items_of_a_list_have_the_ids_of_what_is_called() -> None:
    rule = messages_rule("crm", 10, 1000)
    told: dict[str, Any] = {
        "tools": ({"name": "a"}, ("crm/a", {})),
        "resources": ({"uri": "crm://a", "name": "x"}, ("crm/crm://a", {})),
        "resourceTemplates": ({"uriTemplate": "crm://{id}"}, ("crm/crm://{id}", {})),
        "prompts": ({"name": "p"}, ("crm/p", {})),
        "tasks": ({"taskId": "t"}, ("crm/t", {})),
    }
    assert set(rule.lists) == set(told)
    for name, (item, expected) in told.items():
        assert rule.lists[name].item(item) == expected
        for broken in ({}, {"name": 7, "uri": "", "uriTemplate": None, "taskId": []}, "a", None):
            with pytest.raises(Refused):
                rule.lists[name].item(broken)
