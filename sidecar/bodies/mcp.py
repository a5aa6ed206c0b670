"""Messages of the Model Context Protocol: the bytes of a request's body -> what its sender asks for.

JSON-RPC 2.0 over Streamable HTTP, of the revisions 2025-06-18 to 2026-07-28. A message has one reading here: what
servers could read in two ways is refused.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sidecar.bodies.json_rpc import (
    HEADER_MISMATCH,
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    PARSE_ERROR,
    JsonRpcReply,
    MessageId,
)
from sidecar.bodies.uri import is_normal
from sidecar.gate.ask import Ask, Operation
from sidecar.gate.body import require_json
from sidecar.gate.codes import Code
from sidecar.gate.references import Template, parse_template
from sidecar.gate.request import Request
from sidecar.gate.values import CONTROLS, check_string, type_of
from sidecar.gate.verdict import Refused
from sidecar.release.items import ItemsRule
from sidecar.release.messages import MessagesRule
from sidecar.wire import strict_json
from sidecar.wire.grammar import Header
from sidecar.wire.spelling import folded
from sidecar.wire.strict_json import EXACT_INTEGER

TOOL, RESOURCE, PROMPT, TASK, SERVER = "mcp_tool", "mcp_resource", "mcp_prompt", "mcp_task", "mcp_server"
KINDS = (TOOL, RESOURCE, PROMPT, TASK, SERVER)
"""Resource kinds that messages ask about."""
CONNECT, LIST, LISTEN = "connect", "list", "listen"
"""Actions on the server as a whole; `LIST` is that on each item of a list, too."""
ESSENTIAL = frozenset(((SERVER, CONNECT), (SERVER, LIST), (TOOL, LIST), (TOOL, "call")))
"""Kinds and actions without which no tool can be used."""
MAX_ID = 256
"""Characters of a message's id that is a text."""
MAX_SUBSCRIPTIONS = 50
"""Resources that one message may subscribe to."""


class Message(NamedTuple):
    """One JSON-RPC message: a request has an id and a method, a notification a method alone, a response an id alone."""

    id: MessageId
    method: str
    params: Mapping[str, Any]


class Wanted(NamedTuple):
    """Resource that a message asks for: its kind, its name within the server ("" for the server itself), the action,
    and the arguments that go with it."""

    kind: str
    name: str
    action: str
    arguments: Mapping[str, Any]


NOTHING: Mapping[str, Any] = {}
_REQUEST = frozenset(("jsonrpc", "id", "method", "params"))
_ANSWERS = (frozenset(("jsonrpc", "id", "result")), frozenset(("jsonrpc", "id", "error")))
_METHOD = re.compile(r"[A-Za-z0-9_$./-]{1,128}")


def read_message(data: bytes) -> Message:
    """Read a body. Raises Refused."""
    try:
        value = strict_json.loads(data, distinct=True)
    except ValueError as error:
        raise _refused(Code.BODY_INVALID, str(error), None, PARSE_ERROR) from None
    if not isinstance(value, dict):
        told = "a batch" if isinstance(value, list) else type_of(value)
        raise _invalid(f"found {told}, expected one JSON-RPC message")
    if value.get("jsonrpc") != "2.0":
        raise _invalid("jsonrpc: expected '2.0'")
    message_id = _id_of(value) if "id" in value else None
    if "method" not in value:
        return _answer(value, message_id)
    if not value.keys() <= _REQUEST:
        raise _invalid("found a member that a request has not, expected jsonrpc, id, method and params", message_id)
    method = value["method"]
    if not isinstance(method, str) or not _METHOD.fullmatch(method):
        raise _invalid("method: expected a name such as tools/call", message_id)
    params = value.get("params", NOTHING)
    if not isinstance(params, dict | Mapping):
        raise _invalid(f"params: found {type_of(params)}, expected an object", message_id)
    is_notification = method.startswith("notifications/")
    if is_notification is ("id" in value):
        raise _invalid("id: expected it on a request, and not on a notification", message_id)
    return Message(message_id, method, params)


def _answer(value: Mapping[str, Any], message_id: MessageId) -> Message:
    """Read the answer of a client to a request of the server, as servers sent them until 2025-11-25."""
    if value.keys() not in _ANSWERS or not all(
        isinstance(value[name], dict) for name in value.keys() & {"result", "error"}
    ):
        raise _invalid("found no method, and no answer either", message_id)
    return Message(message_id, "", NOTHING)


def _id_of(value: Mapping[str, Any]) -> MessageId:
    found = value["id"]
    if type(found) is int and -EXACT_INTEGER < found < EXACT_INTEGER:
        return found
    if isinstance(found, str) and len(found) <= MAX_ID and not CONTROLS.search(found):
        return found
    raise _invalid(f"id: found {type_of(found)}, expected a whole number below 2^53, or a text of at most {MAX_ID}")


def _invalid(detail: str, message_id: MessageId = None) -> Refused:
    return _refused(Code.BODY_INVALID, detail, message_id, INVALID_REQUEST)


def _refused(code: Code, detail: str, message_id: MessageId, error: int, status: int = 400) -> Refused:
    return Refused(code, detail, reply=JsonRpcReply(message_id, status, error))


# --- what a message asks for ---


class _Method(NamedTuple):
    kind: str
    action: str
    name: str = ""
    """Parameter that names the resource."""


_METHODS = {
    "tools/call": _Method(TOOL, "call", "name"),
    "resources/read": _Method(RESOURCE, "read", "uri"),
    "resources/subscribe": _Method(RESOURCE, "subscribe", "uri"),
    "resources/unsubscribe": _Method(RESOURCE, "subscribe", "uri"),
    "prompts/get": _Method(PROMPT, "get", "name"),
    "tasks/get": _Method(TASK, "get", "taskId"),
    "tasks/result": _Method(TASK, "get", "taskId"),
    "tasks/update": _Method(TASK, "update", "taskId"),
    "tasks/cancel": _Method(TASK, "cancel", "taskId"),
    **dict.fromkeys(
        ("tools/list", "resources/list", "resources/templates/list", "prompts/list", "tasks/list"),
        _Method(SERVER, LIST),
    ),
    **dict.fromkeys(("initialize", "server/discover", "ping", ""), _Method(SERVER, CONNECT)),
    "logging/setLevel": _Method(SERVER, "set_level"),
}
"""Requests of clients in the revisions 2025-06-18 to 2026-07-28, but for two whose resource is told otherwise; "" is a
client's answer to a request of the server."""
COMPLETE, SUBSCRIBE = "completion/complete", "subscriptions/listen"
NOTIFICATIONS = frozenset(
    (
        "notifications/initialized",
        "notifications/cancelled",
        "notifications/progress",
        "notifications/roots/list_changed",
    )
)
"""Notifications of clients."""
_NAMES = ("name", "uri", "taskId", "arguments", "ref", "argument", "notifications", "_meta")
"""Parameters that are read here: one in another spelling is refused, since a server may take it for the same."""
_FOLDED = {folded(name): name for name in _NAMES}


def wanted_of(message: Message) -> tuple[Wanted, ...]:
    """List what a message asks for: one resource, or several of which all must be allowed. Raises Refused."""
    _require_spelling(message, message.params, _FOLDED)
    known = _METHODS.get(message.method)
    if known is not None:
        name = _named(message, known) if known.name else ""
        arguments = _arguments(message, message.params.get("arguments")) if known.kind in (TOOL, PROMPT) else NOTHING
        return (Wanted(known.kind, name, known.action, arguments),)
    if message.method == COMPLETE:
        return (_completed(message),)
    if message.method == SUBSCRIBE:
        return _subscribed(message)
    if message.method in NOTIFICATIONS:
        return (Wanted(SERVER, "", CONNECT, NOTHING),)
    # a client of older revisions takes 404 for the end of its session
    status = 404 if _VERSION_OF_BODY in _meta_of(message) else 200
    told = f"method: found {message.method!r}, expected a method that a client sends"
    raise _refused(Code.OPERATION_UNMAPPED, told, message.id, METHOD_NOT_FOUND, status)


def _require_spelling(message: Message, found: Mapping[str, Any], names: Mapping[str, str]) -> None:
    for name in found:
        if names.get(folded(name), name) != name:
            raise _unfit(message, f"found {name[:64]!r}, another spelling of {names[folded(name)]!r}")


def _named(message: Message, known: _Method) -> str:
    return _name_in(message, known.name, message.params.get(known.name))


def _name_in(message: Message, place: str, found: Any) -> str:
    """Read what names a resource: a URI, or a name without blanks around it, which a server may leave out."""
    text = _text(message, place, found)
    if text != text.strip().strip("\ufeff"):
        raise _unfit(message, f"{place}: found blanks around it, expected none")
    return _uri(message, text) if place == "uri" else text


def _uri(message: Message, text: str) -> str:
    if not is_normal(text):
        raise _unfit(
            message,
            "uri: expected one in its normal form: `://` behind http, https, ws, wss, ftp and file, no dot segments, "
            "empty segments, capitals or default port in the host, and no needless escapes",
        )
    return text


def _text(message: Message, place: str, found: Any) -> str:
    if not isinstance(found, str):
        raise _unfit(message, f"{place}: found {type_of(found)}, expected a text")
    try:
        check_string(place, found, Code.BODY_INVALID)
    except Refused as refused:
        raise _unfit(message, refused.detail) from None
    return found


def _arguments(message: Message, found: Any) -> Mapping[str, Any]:
    if found is None:
        return NOTHING
    if not isinstance(found, dict):
        raise _unfit(message, f"arguments: found {type_of(found)}, expected an object")
    return found


def _completed(message: Message) -> Wanted:
    """Read what is completed: an argument of a prompt, or of a resource template, whose id is the template's text."""
    ref, argument = message.params.get("ref"), message.params.get("argument")
    if not isinstance(ref, dict) or not isinstance(argument, dict):
        raise _unfit(message, "ref, argument: expected two objects")
    _require_spelling(message, ref, _FOLDED | {"type": "type"})
    kind = {"ref/prompt": PROMPT, "ref/resource": RESOURCE}.get(_text(message, "ref.type", ref.get("type")))
    if kind is None:
        raise _unfit(message, "ref.type: expected ref/prompt or ref/resource")
    name = "name" if kind == PROMPT else "uri"
    # of a resource it is a template, which is no URI
    return Wanted(kind, _name_in(message, f"ref.{name}", ref.get(name)), "complete", NOTHING)


def _subscribed(message: Message) -> tuple[Wanted, ...]:
    """Read what a stream of notifications is asked to tell of: each resource is asked about beside the stream."""
    wished = message.params.get("notifications")
    if not isinstance(wished, dict):
        raise _unfit(message, f"notifications: found {type_of(wished)}, expected an object")
    _require_spelling(message, wished, {"resourcesubscriptions": "resourceSubscriptions"})
    uris = wished.get("resourceSubscriptions", [])
    if not isinstance(uris, list) or len(uris) >= MAX_SUBSCRIPTIONS:
        raise _unfit(message, f"resourceSubscriptions: expected a list of fewer than {MAX_SUBSCRIPTIONS}")
    texts = [_uri(message, _text(message, "resourceSubscriptions", uri)) for uri in uris]
    return (
        Wanted(SERVER, "", LISTEN, NOTHING),
        *(Wanted(RESOURCE, uri, "subscribe", NOTHING) for uri in dict.fromkeys(texts)),
    )


def _unfit(message: Message, detail: str) -> Refused:
    return _refused(Code.BODY_INVALID, detail, message.id, INVALID_PARAMS, 200)


# --- what its headers say of it ---

VERSION = b"mcp-protocol-version"
_METHOD_HEADER, _NAME_HEADER, _PARAM = b"mcp-method", b"mcp-name", b"mcp-param-"
_LAST_EVENT = b"last-event-id"
_ENCODED = re.compile(r"=\?base64\?(.*)\?=")
_VERSION_OF_BODY = "io.modelcontextprotocol/protocolVersion"
_DECIMAL = re.compile(r"(-?[0-9]{1,15})(?:\.0+)?")


def require_agreement(message: Message, headers: Iterable[Header]) -> None:
    """See that what the headers say of a message is true, where they say something: an app, or a proxy on the way,
    may go by either. Raises Refused."""
    said: dict[bytes, bytes] = {}
    for name, value in headers:
        if name[:4] != b"mcp-" and name != _LAST_EVENT:
            continue
        if name in said:
            raise _mismatch(message, f"{name.decode('latin-1')}: found it twice")
        said[name] = value
    arguments: _ArgumentValues | None = None
    for name, value in said.items():
        if name == VERSION:
            _require_version(message, value)
        elif name == _METHOD_HEADER and value != message.method.encode("ascii"):
            raise _mismatch(message, "Mcp-Method: found another method than that of the body")
        elif name == _NAME_HEADER and not _is_name(_decoded(value), message):
            raise _mismatch(message, "Mcp-Name: found another name than that of the body")
        elif name.startswith(_PARAM):
            arguments = arguments or _argument_values(message.params.get("arguments"))
            if not arguments.has(_decoded(value)):
                raise _mismatch(message, f"{name.decode('latin-1')}: found a value that no argument has")


def _is_name(text: str | None, message: Message) -> bool:
    """Return whether a message is about what a header names: the app finds it by the parameter of its method,
    whatever others say."""
    known = _METHODS.get(message.method)
    return text is not None and known is not None and known.name != "" and message.params.get(known.name) == text


def _require_version(message: Message, value: bytes) -> None:
    said = value.decode("latin-1")
    if _meta_of(message).get(_VERSION_OF_BODY, said) != said:
        raise _mismatch(message, "MCP-Protocol-Version: found another version than that of the body")


def _meta_of(message: Message) -> Mapping[str, Any]:
    meta = message.params.get("_meta")
    return meta if isinstance(meta, dict) else NOTHING


def _decoded(value: bytes) -> str | None:
    """The text that a header's value stands for, None where it stands for none."""
    text = value.decode("latin-1")
    encoded = _ENCODED.fullmatch(text) if text.startswith("=?") else None
    if encoded is None:
        return text if text.isascii() else None
    try:
        data = base64.b64decode(encoded[1], validate=True)
        return data.decode("utf-8") if base64.b64encode(data).decode("ascii") == encoded[1] else None
    except (binascii.Error, UnicodeDecodeError):
        return None


class _ArgumentValues(NamedTuple):
    """Values of a message's arguments, of which a header may repeat one: which of them it is for, the tool's schema
    knows alone. They are collected once, however many headers there are."""

    texts: frozenset[str]
    numbers: frozenset[int | float]

    def has(self, text: str | None) -> bool:
        """Return whether an argument has the value that a header gives, None being no value."""
        if text is None or text in self.texts:
            return text is not None
        decimal = _DECIMAL.fullmatch(text)
        return decimal is not None and int(decimal[1]) in self.numbers


def _argument_values(arguments: Any) -> _ArgumentValues:
    scalars: list[Any] = []
    rest = [arguments]
    while rest:
        value = rest.pop()
        if isinstance(value, dict):
            rest += value.values()
        elif isinstance(value, bool):
            scalars.append("true" if value else "false")
        elif isinstance(value, str | int | float):
            scalars.append(value)
    texts = frozenset(value for value in scalars if isinstance(value, str))
    return _ArgumentValues(texts, frozenset(value for value in scalars if not isinstance(value, str)))


def _mismatch(message: Message, detail: str) -> Refused:
    return _refused(Code.HEADER_AMBIGUOUS, detail, message.id, HEADER_MISMATCH)


# --- what is asked about it ---


@dataclass(frozen=True, slots=True)
class Mcp:
    """Rule of a route behind which an MCP server is. `known` has a question for each kind and action, and `tools` those
    that calls of some tools ask besides, by the tool's name.

    `policy_arguments` are the names of arguments that the policy gets, None for all. Another spelling of one is
    refused.
    """

    known: Mapping[str, Ask]
    tools: Mapping[str, Ask] = field(default_factory=dict)
    policy_arguments: frozenset[str] | None = None

    @property
    def asks(self) -> Mapping[str, Ask]:
        """Questions that may be asked, for those who study the rules."""
        return {**self.known, **{f"{TOOL} {name}": ask for name, ask in self.tools.items()}}

    def read(self, request: Request, body: bytes) -> list[Operation]:
        """Read what one message asks for. Raises Refused: BODY_TYPE_UNSUPPORTED, BODY_INVALID, HEADER_AMBIGUOUS,
        OPERATION_UNMAPPED."""
        require_json(request)
        message = read_message(body)
        require_agreement(message, request.headers)
        reply = JsonRpcReply(message.id, 200 if message.id is not None and message.method else 0)
        operations = []
        for wanted in wanted_of(message):
            name = f"{wanted.kind}/{wanted.name}"
            args = {"name": wanted.name, "arguments": self._policy_arguments(message, wanted.arguments)}
            operations.append(Operation(self.known[_key(wanted.kind, wanted.action)], args, name, reply))
            own = self.tools.get(wanted.name) if wanted.kind == TOOL else None
            if own is not None:
                operations.append(Operation(own, wanted.arguments, f"{own.kind} of {name}", reply))
        return operations

    def _policy_arguments(self, message: Message, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        if self.policy_arguments is None:
            return arguments
        _require_spelling(message, arguments, {folded(name): name for name in self.policy_arguments})
        return {name: value for name, value in arguments.items() if name in self.policy_arguments}


def _key(kind: str, action: str) -> str:
    return f"{kind} {action}"


def asks_of(server: str, scope: Template | None = None) -> dict[str, Ask]:
    """Return the questions about a server of this name, by kind and action."""
    known = [*_METHODS.values(), _Method(PROMPT, "complete"), _Method(RESOURCE, "complete"), _Method(SERVER, LISTEN)]
    return {_key(method.kind, method.action): ask_of(server, method.kind, method.action, scope) for method in known}


def ask_of(server: str, kind: str, action: str, scope: Template | None = None, **more: Any) -> Ask:
    """Return the question about what has a name within a server, or about the server itself. `more` are other fields of
    an Ask."""
    template = parse_template(server if kind == SERVER else server + "/{args.name}")
    has_arguments = (kind, action) in ((TOOL, "call"), (PROMPT, "get"))
    attributes = {"arguments": parse_template("{args.arguments:json}")} if has_arguments else {}
    return Ask(action, kind, template, attributes, scope=scope, **more)


_LISTS = {
    "tools": (TOOL, "name"),
    "resources": (RESOURCE, "uri"),
    "resourceTemplates": (RESOURCE, "uriTemplate"),
    "prompts": (PROMPT, "name"),
    "tasks": (TASK, "taskId"),
}
"""Members of results that are lists: the kind of the items, and the member that names each."""


def messages_rule(server: str, max_items: int, max_size: int) -> MessagesRule:
    """Return the rule for what the server answers: of each list the items go out whose action `list` is allowed."""
    return MessagesRule(
        {
            name: ItemsRule(
                ("result", name), _named_within(server, member), kind, LIST, {}, max_items=max_items, max_size=max_size
            )
            for name, (kind, member) in _LISTS.items()
        },
        max_size,
    )


def _named_within(server: str, member: str) -> Callable[[Any], str]:
    def search(item: Any) -> str:
        name = item.get(member) if isinstance(item, dict) else None
        return f"{server}/{name}" if isinstance(name, str) and name else ""

    return search
