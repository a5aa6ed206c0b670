"""A line of the decision log as data: one frozen record for each kind of line, written and read back here alone.

Fields are only ever added, none is renamed, and one that is added later is optional. So `read` keeps what it does not
know: a field in `extra`, a line of another `event` as `UnknownLine`. What it knows must be there unless it is optional,
once and of its type. Nothing secret is in a line: no query, no token and no cookie.
"""

from __future__ import annotations

import datetime
import functools
import json
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from json.encoder import encode_basestring_ascii as _quoted
from types import MappingProxyType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from sidecar.bounded import remembered
from sidecar.gate.mode import Mode
from sidecar.gate.values import type_of
from sidecar.wire import strict_json

MAX_ROLES = 32
"""Roles in a line; each has at most 256 characters, as any role."""
MAX_HOST = 259
"""Characters of a host in a line: the longest name of DNS, and a port."""
MAX_DETAIL = 256
"""Characters of a detail in a line."""
MAX_IDS = 32
"""Ids in a list of a line."""
MAX_ID = 128
"""Characters of such an id."""

Effect = Literal["allow", "refuse", "shadow_refuse"]
PolicyEffect = Literal["allow", "deny"]


class LineError(ValueError):
    """Not a line of the decision log; says what was found and what was expected."""


class FieldDoc(NamedTuple):
    """Meaning of a field, and when it is there, "" for always."""

    doc: str
    when: str = ""


EachLine = Mapping[str, Any]
"""Value of the field `each`."""
Extra = Mapping[str, Any]
"""Fields of a later version, by name."""
Attributes = Mapping[str, object]
"""Attributes as the PDP was told them, any JSON by name."""
Resources = tuple[Mapping[str, Any], ...]
"""Resources of a request about many, each with `id`, `allowed` and `attributes`."""
NOTHING: Extra = MappingProxyType({})

# fmt: off
Time = Annotated[str, FieldDoc("when the line was written, in UTC with milliseconds")]
RequestId = Annotated[str, FieldDoc("id of the request, as in the answer's `X-Request-Id` and in what the app gets")]
Peer = Annotated[str, FieldDoc("address of the client, as the proxies that `SIDECAR_TRUSTED_PROXIES` lists and the proxy that asks tell it; else of the connection's other end, and so in the line of a request that no gate judged; empty on a unix socket, and where the client was gone before")]
Client = Annotated[str, FieldDoc("address of the client, as the proxies that `SIDECAR_TRUSTED_PROXIES` lists tell it")]
CodeField = Annotated[str, FieldDoc("code of the refusal or fault, or the ground on which the request was let through")]
Status = Annotated[int, FieldDoc("status of the answer; 499 where the client left before it")]
Route = Annotated[str, FieldDoc("`path` of the route in `routes.yaml`, behind its `hosts` where it has any (`crm.example.com/contacts`); empty where none was reached")]
Who = Annotated[str, FieldDoc("id of the principal; empty where nobody was identified")]


class Decision(NamedTuple):
    """A request that the gate decided, at any door."""

    time: Time
    request_id: RequestId
    mode: Annotated[Mode, FieldDoc("mode in which the request was decided: that of its action or route, else of `SIDECAR_MODE`")]
    outcome: Annotated[Effect, FieldDoc("verdict. `shadow_refuse`: forwarded, and refused in the mode `enforce`. A fault after the permit leaves it `allow`")]
    code: CodeField
    status: Status
    method: Annotated[str, FieldDoc("method of the request; `WS` for the handshake of a WebSocket")]
    host: Annotated[str, FieldDoc(f"host that the request names, in lower case and with its port, at most {MAX_HOST} characters; empty where the request could not be read")]
    path: Annotated[str, FieldDoc("path that was decided and forwarded, without its query; of a request that could not be read, the first 512 bytes")]
    route: Route
    principal: Who
    roles: Annotated[tuple[str, ...], FieldDoc(f"roles of the principal in alphabetical order, at most {MAX_ROLES} of at most 256 characters")]
    kind: Annotated[str, FieldDoc("kind of the resource; empty where no policy is asked, or the request did not get so far")]
    id: Annotated[str, FieldDoc("id of the resource")]
    action: Annotated[str, FieldDoc("action on the resource; empty where the route has none")]
    peer: Peer
    ms: Annotated[Mapping[str, float], FieldDoc("milliseconds in each stage that was reached: `request`, `routing`, `identity`, `lookup`, `decision`")]
    total_ms: Annotated[float, FieldDoc("milliseconds until the answer began")]
    call_id: Annotated[str | None, FieldDoc("id of the call to the PDP, which several lines of one principal may share", "the PDP answered")] = None
    policy: Annotated[str | None, FieldDoc("policy that decided on the action, as Cerbos names it", "the PDP answered")] = None
    policies: Annotated[int | None, FieldDoc("generation of the policies that was in force when the line was written", "the PDP answered, and the sidecar reloads its policies")] = None
    cache: Annotated[str | None, FieldDoc("`hit` or `miss`", "decisions are remembered")] = None
    trace_id: Annotated[str | None, FieldDoc("id of the trace", "requests are traced")] = None
    roles_cut: Annotated[int | None, FieldDoc("number of roles that are not in `roles`", f"the principal has more than {MAX_ROLES} roles")] = None
    dep: Annotated[str | None, FieldDoc("dependency that failed: `jwks`, `pdp`, `lookup`, `upstream`, `sessions` or `idp`", "a dependency failed")] = None
    fault: Annotated[str | None, FieldDoc("kind of its fault, such as `timeout`", "a dependency failed")] = None
    told: Annotated[str | None, FieldDoc("code that the client was told", "it is another than `code`")] = None
    detail: Annotated[str | None, FieldDoc(f"more on a refusal, which no client is told, at most {MAX_DETAIL} characters", "there is more to say")] = None
    items: Annotated[Mapping[str, int | str] | None, FieldDoc("numbers of an answer that was reduced: `seen` and `kept` items, `masked`: those of which fields were hidden, `calls`: questions to the PDP about at most 50 items each, without those that a lookup does not have, `pushed`: how much of the policy the app was asked with, `exact`, `weakened` or `none`; with `refill` also `pages`: pages of the app that the answer is made of, and `ended`: the code of what ended it early, `deadline` or `changed` (other rules). In shadow the numbers of what enforcing would have left, or `unjudged`: why they are not known, `busy`, `too_large`, `slow`, `partial`, `encoded` or `stream`", "the route has `items` or `fields`, and the answer was reduced, or judged in shadow")] = None
    each: Annotated[EachLine | None, FieldDoc(f"`asked`: how many resources the request named, or root fields of GraphQL; `ids` and `denied`: those, and the ones that were not allowed, of each at most {MAX_IDS} of at most {MAX_ID} characters", "the route has `each`, or a body asks for several things")] = None
    upstream: Annotated[str | None, FieldDoc("name of the app in `upstreams` that the route leads to", "it is one of `upstreams`")] = None
    extra: Extra = NOTHING


class QuestionLine(NamedTuple):
    """A request with what the PDP was asked about it, in the question log.

    No claim is in it, and no attribute whose name `SIDECAR_QUESTION_LOG_ATTRIBUTES` does not list.
    """

    time: Time
    request_id: RequestId
    mode: Annotated[Mode, FieldDoc("mode in which the request was decided")]
    outcome: Annotated[Effect, FieldDoc("verdict, as in the decision log")]
    code: CodeField
    status: Status
    method: Annotated[str, FieldDoc("method of the request; `WS` for the handshake of a WebSocket")]
    host: Annotated[str, FieldDoc(f"host that the request names, in lower case and with its port, at most {MAX_HOST} characters; empty where the request could not be read")]
    path: Annotated[str, FieldDoc("path that was decided, without its query")]
    route: Route
    principal: Who
    roles: Annotated[tuple[str, ...], FieldDoc("roles of the principal in alphabetical order, all of them")]
    kind: Annotated[str, FieldDoc("kind of the resource; empty where no policy is asked, or the request did not get so far")]
    id: Annotated[str, FieldDoc("id of the resource")]
    action: Annotated[str, FieldDoc("action on the resource; empty where the route has none")]
    total_ms: Annotated[float, FieldDoc("milliseconds until the answer began")]
    weight: Annotated[int, FieldDoc("requests that this line stands for: itself, and those of its cell (route, method, kind, action, roles, owner, mode, verdict, `status` and `app_status`) since the cell's last line that have none")]
    asked: Annotated[bool, FieldDoc("whether the PDP was asked, or its remembered answer used: `attributes` and `principal_attributes` are whole but for what `redacted` lists")]
    app_status: Annotated[int | None, FieldDoc("status of the app's own answer", "the app answered")] = None
    app_ms: Annotated[float | None, FieldDoc("milliseconds of `total_ms` after the sidecar's own stages, in which the app was waited for; of a list that was judged, with the judging", "the app answered")] = None
    attributes: Annotated[Attributes | None, FieldDoc("attributes of the resource", "the PDP was asked about one resource")] = None
    principal_attributes: Annotated[Attributes | None, FieldDoc("attributes of the principal", "the PDP was asked")] = None
    scope: Annotated[str | None, FieldDoc("scope of the policy", "the route has one")] = None
    redacted: Annotated[tuple[str, ...] | None, FieldDoc("attributes that the PDP was told and that are left out here, such as `resource.phone` and `principal.level`", "some are")] = None
    owner: Annotated[tuple[str, ...] | None, FieldDoc("attributes of the resource whose value is the principal's id, redacted ones too", "there are any")] = None
    query: Annotated[tuple[str, ...] | None, FieldDoc("names of the query's parameters, each once", "the query has any")] = None
    policy: Annotated[str | None, FieldDoc("policy that decided on the action, as Cerbos names it", "the PDP answered")] = None
    revision: Annotated[str | None, FieldDoc("16 hexadecimal digits of the policies that were in force: SHA-256 of their files, cut", "the sidecar reads the policies itself")] = None
    resources: Annotated[Resources | None, FieldDoc("resources of the question, each an object of `id`, `allowed` and `attributes`, and of `kind`, `action` and `scope` where they are not those of the line", "the request is about several, and the PDP answered")] = None
    missing: Annotated[int | None, FieldDoc("number of resources that the request names and no lookup knows: nobody was asked about them, and they refuse the request", "the route has `each`, and there are any")] = None
    items: Annotated[Mapping[str, int | str] | None, FieldDoc("numbers of a list, as in the decision log; in shadow those that enforcing would have made", "the route has `items` or `fields`, and the answer was judged")] = None
    detail: Annotated[str | None, FieldDoc(f"more on a refusal, at most {MAX_DETAIL} characters", "there is more to say")] = None
    extra: Extra = NOTHING


class UnreadLine(NamedTuple):
    """A refusal of what could not be read as a request, or stood over a limit, so that no gate judged it."""

    time: Time
    request_id: RequestId
    mode: Annotated[Mode, FieldDoc("the setting `SIDECAR_MODE`; such a request is refused in each")]
    outcome: Annotated[Literal["refuse"], FieldDoc("the verdict")]
    code: CodeField
    status: Status
    peer: Peer
    extra: Extra = NOTHING


class BrokenOff(NamedTuple):
    """An answer that broke off after its head was sent: a second line of its request."""

    time: Time
    request_id: RequestId
    code: Annotated[str, FieldDoc("code of the fault")]
    route: Route
    detail: Annotated[str | None, FieldDoc(f"its reason, and more on it, at most {MAX_DETAIL} characters", "there is more to say")] = None
    extra: Extra = NOTHING


class SignedIn(NamedTuple):
    """A person signed in."""

    time: Time
    request_id: RequestId
    peer: Client
    principal: Annotated[str, FieldDoc("id of the principal")]
    extra: Extra = NOTHING


class SignInFailedLine(NamedTuple):
    """A sign-in failed, at the form or on the way back from the provider."""

    time: Time
    request_id: RequestId
    peer: Client
    reason: Annotated[str, FieldDoc("what went wrong: a code, or a word such as `wrong_password`")]
    detail: Annotated[str | None, FieldDoc(f"more on it, at most {MAX_DETAIL} characters", "there is more to say")] = None
    extra: Extra = NOTHING


class SignedOut(NamedTuple):
    """A person signed out."""

    time: Time
    request_id: RequestId
    peer: Client
    principal: Annotated[str, FieldDoc("id of the principal")]
    everywhere: Annotated[str | None, FieldDoc("`ended`, or the code of the fault for which the other sessions go on", "the person asked to be signed out everywhere")] = None
    detail: Annotated[str | None, FieldDoc(f"more on the fault, at most {MAX_DETAIL} characters", "there is more to say")] = None
    extra: Extra = NOTHING


class ConsoleAs(NamedTuple):
    """An admin asked as another principal, in the console."""

    time: Time
    request_id: RequestId
    principal: Annotated[str, FieldDoc("id of the admin")]
    asked_as: Annotated[str, FieldDoc("id of the other principal")]
    extra: Extra = NOTHING


class CandidateDiffers(NamedTuple):
    """A decision that the candidate policies (`SIDECAR_CANDIDATE_POLICIES`) would have made otherwise: a further line of
    its request, which is written after the answer has gone."""

    time: Time
    request_id: RequestId
    route: Route
    kind: Annotated[str, FieldDoc("kind of the resource")]
    id: Annotated[str, FieldDoc("id of the resource")]
    action: Annotated[str, FieldDoc("action on the resource")]
    principal: Annotated[str, FieldDoc("id of the principal")]
    roles: Annotated[tuple[str, ...], FieldDoc(f"roles of the principal in alphabetical order, at most {MAX_ROLES}")]
    ours: Annotated[PolicyEffect, FieldDoc("what the policies in force said")]
    theirs: Annotated[PolicyEffect, FieldDoc("what the candidate policies say")]
    policy: Annotated[str | None, FieldDoc("policy in force that decided, as Cerbos names it", "Cerbos told it, and the route has no `each`")] = None
    candidate_policy: Annotated[str | None, FieldDoc("candidate policy that decided", "Cerbos told it")] = None
    revision: Annotated[str | None, FieldDoc("16 hexadecimal digits of the policies in force: SHA-256 of their files, cut", "the sidecar reads the policies itself")] = None
    candidate_revision: Annotated[str | None, FieldDoc("the same of the candidate policies", "it is known")] = None
    untold: Annotated[int | None, FieldDoc("differences before this one that have no line, since there were too many in one second", "there are any")] = None
    extra: Extra = NOTHING
# fmt: on


class UnknownLine(NamedTuple):
    """A line of a later version."""

    time: Time
    event: str
    extra: Extra = NOTHING


Line = (
    Decision | QuestionLine | UnreadLine | BrokenOff | SignedIn | SignInFailedLine | SignedOut | ConsoleAs | CandidateDiffers | UnknownLine
)  # fmt: skip
EVENTS: Mapping[str, tuple[type[Line], ...]] = {
    "decision": (Decision, UnreadLine),
    "question": (QuestionLine,),
    "broken_off": (BrokenOff,),
    "signed_in": (SignedIn,),
    "sign_in_failed": (SignInFailedLine,),
    "signed_out": (SignedOut,),
    "console_as": (ConsoleAs,),
    "candidate_differs": (CandidateDiffers,),
}
"""Kinds of lines by their field `event`."""
_EVENT_OF = {kind: event for event, kinds in EVENTS.items() for kind in kinds}
_TELLING_APART = tuple(name for name in Decision._fields if name not in UnreadLine._fields)
"""Fields of a Decision that an UnreadLine does not have."""


# --- writing ---

_second: tuple[int, str] = (-1, "")
"""The last second that was written, and how."""
_MILLISECONDS = tuple(f".{number:03d}+00:00" for number in range(1000))


def time_text(now: float) -> str:
    """Return Unix seconds as the field `time`."""
    global _second
    whole = int(now)
    if whole != _second[0]:
        _second = (whole, datetime.datetime.fromtimestamp(whole, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S"))
    return _second[1] + _MILLISECONDS[int((now - whole) * 1000)]


def each_of(ids: Sequence[str], denied: Sequence[str]) -> EachLine:
    """Return the field `each`, within its bounds."""
    each: dict[str, Any] = {"asked": len(ids), "ids": _bounded(ids)}
    return each | {"denied": _bounded(denied)} if denied else each


def _bounded(ids: Sequence[str]) -> list[str]:
    return [one[:MAX_ID] for one in ids[:MAX_IDS]]


def detail_text(text: str) -> str:
    """Return a detail within its bound, as text that every reader of JSON takes: without lone surrogates."""
    return text[:MAX_DETAIL].encode("utf-8", "replace").decode("utf-8")


def write(line: Line) -> str:
    """Return the line with its newline, in ASCII: no line separator of Unicode can end it early (R22)."""
    if isinstance(line, Decision):
        return decision_text(*line[:16], times_text(line.ms), *line[17:23], _present(line, _RARE))
    event = line.event if isinstance(line, UnknownLine) else _EVENT_OF[type(line)]
    return json.dumps({"time": line.time, "event": event, **_present(line, line._fields[1:])}) + "\n"


def _present(line: Line, names: Iterable[str]) -> dict[str, Any]:
    """The fields of these names that the line has, and those of a later version."""
    fields = {name: value for name in names if (value := getattr(line, name)) is not None and name != "extra"}
    return {**fields, **line.extra}


_DECISION = (
    '{"time": "%s", "event": "decision", "request_id": %s, "mode": "%s", "outcome": "%s", "code": %s, "status": %d, '
    '"method": %s, "host": %s, "path": %s, "route": %s, "principal": %s, "roles": [%s], "kind": %s, "id": %s, '
    '"action": %s, "peer": %s, "ms": %s, "total_ms": %.3f%s}\n'
)
_RARE = Decision._fields[23:]
"""Fields that most lines do not have."""


def decision_text(
    time: str, request_id: str, mode: Mode, outcome: Effect, code: str, status: int, method: str, host: str, path: str,
    route: str, principal: str, roles: tuple[str, ...], kind: str, resource_id: str, action: str, peer: str, ms: str,
    total_ms: float, call_id: str | None, policy: str | None, policies: int | None, cache: str | None,
    trace_id: str | None, rare: Mapping[str, Any],
) -> str:  # fmt: skip
    """Return the line of a Decision, of which there is one for each request: no record is made, and no dict.

    `ms` is what `times_text` returns, and `rare` has the fields from `roles_cut` on that are there.
    """
    more = ""
    if call_id is not None:
        more = f', "call_id": {_quoted(call_id)}'
    if policy is not None:
        more += f', "policy": {_quoted(policy)}'
    if policies is not None:
        more += f', "policies": {policies}'
    if cache is not None:
        more += f', "cache": {_quoted(cache)}'
    if trace_id is not None:
        more += f', "trace_id": {_quoted(trace_id)}'
    if rare:
        more += f", {json.dumps(rare)[1:-1]}"
    return _DECISION % (
        time, _quoted(request_id), mode, outcome, _quoted(code), status, _quoted(method), _quoted(host), _quoted(path),
        _quoted(route), _quoted(principal), ", ".join(map(_quoted, roles)), _quoted(kind), _quoted(resource_id),
        _quoted(action), _quoted(peer), ms, total_ms, more,
    )  # fmt: skip


def times_text(stages: Mapping[str, float], unit: float = 1.0) -> str:
    """Return the field `ms` of times in units of `unit` milliseconds."""
    return _times_format(tuple(stages)) % tuple([time * unit for time in stages.values()])


# about 200 rows of stages; the sidecar has six
@remembered(64 * 1024)
def _times_format(stages: tuple[str, ...]) -> str:
    names = [_quoted(stage).replace("%", "%%") for stage in stages]
    return "{" + ", ".join([f"{name}: %.3f" for name in names]) + "}"


# --- reading ---


def read(data: bytes) -> Line:
    """Return the record of one line, with its newline or without. Raises LineError, and nothing else."""
    try:
        fields = strict_json.loads(data)
    except ValueError as error:
        raise LineError(f"found no line, expected one JSON object: {error}") from None
    if not isinstance(fields, dict):
        raise LineError(f"found {type_of(fields)}, expected one JSON object")
    event = _TYPES[str].read("event", fields.get("event"))
    kind = _kind_of(event, fields)
    plan = _plans()[kind]
    values = _required(plan, fields)
    _require_moment(values[0])
    optional: dict[str, Any] = dict.fromkeys(plan.optional)
    extra: dict[str, Any] = {}
    for name, value in fields.items() if len(fields) > 1 + len(values) else ():
        if name in plan.required or name == "event":
            continue
        if name in optional:
            optional[name] = plan.optional[name].read(name, value)
        else:
            extra[name] = value
    if kind is UnknownLine:
        optional["event"] = event
    return kind._make((*values, *optional.values(), extra or NOTHING))


def _kind_of(event: str, fields: Mapping[str, Any]) -> type[Line]:
    kinds = EVENTS.get(event, (UnknownLine,))
    # of two the first has fields that the second has not
    return kinds[0] if len(kinds) == 1 or not fields.keys().isdisjoint(_TELLING_APART) else kinds[1]


class _Plan(NamedTuple):
    """How a kind of line is read: its fields, and the classes of those that it must have, to compare all at once.

    A line has a score of fields, and logs have millions of lines: to ask the type of each field takes twice as long.
    `compound` are the fields of which the class does not say all.
    """

    required: Mapping[str, FieldType]
    optional: Mapping[str, FieldType]
    take: Callable[[Mapping[str, Any]], tuple[Any, ...]]
    classes: tuple[type, ...]
    compound: tuple[tuple[int, str, FieldType], ...]


def _required(plan: _Plan, fields: Mapping[str, Any]) -> list[Any]:
    """Return what the fields say that a line must have."""
    try:
        values = plan.take(fields)
    except KeyError:
        values = ()
    if tuple(map(type, values)) != plan.classes:
        return [wanted.read(name, fields.get(name)) for name, wanted in plan.required.items()]
    taken = list(values[1:])
    for at, name, wanted in plan.compound:
        taken[at] = wanted.read(name, taken[at])
    return taken


@functools.cache
def _plans() -> Mapping[type[Line], _Plan]:
    return {kind: _plan(shapes) for kind, shapes in _shapes().items()}


def _plan(shapes: Mapping[str, FieldShape]) -> _Plan:
    required = {name: shape.type for name, shape in shapes.items() if not shape.when}
    optional = {name: shape.type for name, shape in shapes.items() if shape.when}
    scalars = {"string": str, "integer": int, "number": float, "boolean": bool}
    classes = {**scalars, "array": list, "object": dict}
    return _Plan(
        required, optional, operator.itemgetter("event", *required),
        (str, *(classes[wanted.schema.get("type", "string")] for wanted in required.values())),
        tuple((at, name, wanted) for at, (name, wanted) in enumerate(required.items()) if wanted.name not in scalars),
    )  # fmt: skip


_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}\+00:00")


def _require_moment(text: str) -> None:
    try:
        if _MOMENT.fullmatch(text):
            datetime.datetime.fromisoformat(text)
            return
    except ValueError:
        pass
    raise LineError(f"time: found {text[:64]!r}, expected a time such as 2026-01-31T12:00:00.000+00:00")


# --- the fields, for `read`, the schema and the reference ---


class FieldType(NamedTuple):
    """JSON type of a field. `take` returns a value as the record has it, None for one of another type."""

    name: str
    schema: Mapping[str, Any]
    take: Callable[[Any], Any]

    def read(self, field: str, value: Any) -> Any:
        """Return a field's value. Raises LineError."""
        taken = self.take(value)
        if taken is None:
            raise LineError(f"{field}: found {type_of(value)}, expected {self.name}")
        return taken


class FieldShape(NamedTuple):
    """A field of a line: its type, its meaning, and when it is there, "" for always."""

    type: FieldType
    doc: str
    when: str


def shapes_of(kind: type[Line]) -> Mapping[str, FieldShape]:
    """Return the fields of a kind of line, by name, but for `event` and those of later versions."""
    return _shapes()[kind]


@functools.cache
def _shapes() -> Mapping[type[Line], Mapping[str, FieldShape]]:
    found = {}
    for kind in (*_EVENT_OF, UnknownLine):
        hints = get_type_hints(kind, include_extras=True)
        fields = {name: get_args(hint) for name, hint in hints.items() if get_origin(hint) is Annotated}
        found[kind] = {
            name: FieldShape(_type_of(hint), field.doc, field.when) for name, (hint, field) in fields.items()
        }
    return found


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a line. As `read` does, it lets fields and events of later versions pass."""
    kinds = [kind for kinds in EVENTS.values() for kind in kinds]
    # users' generators name their types by these: they stay, whatever our classes are called
    schemas = {kind.__name__.removesuffix("Line"): _schema_of(kind) for kind in (*kinds, UnknownLine)}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A line of the sidecar's decision log",
        "oneOf": [{"$ref": f"#/$defs/{name}"} for name in schemas],
        "$defs": schemas,
    }


def _schema_of(kind: type[Line]) -> dict[str, Any]:
    event = {"type": "string", "not": {"enum": list(EVENTS)}} if kind is UnknownLine else {"const": _EVENT_OF[kind]}
    properties: dict[str, Any] = {"event": event}
    for name, shape in shapes_of(kind).items():
        properties[name] = {"description": shape.doc, **shape.type.schema}
    properties["time"] |= {"pattern": f"^{_MOMENT.pattern}$"}
    if kind is UnreadLine:
        properties |= dict.fromkeys(_TELLING_APART, False)
    required = ["event", *(name for name, shape in shapes_of(kind).items() if not shape.when)]
    return {"description": kind.__doc__, "type": "object", "properties": properties, "required": required}


def _type_of(hint: Any) -> FieldType:
    values = get_args(hint)
    if get_origin(hint) is Literal:
        *names, last = [f"`{value}`" for value in values]
        return FieldType(
            f"{', '.join(names)} or {last}" if names else last,
            {"enum": list(values)},
            lambda value: value if value in values else None,
        )
    return _TYPES[values[0] if isinstance(hint, UnionType) else hint]


def _integer(value: Any) -> int | None:
    """Return a whole number, which JSON Schema takes as 200.0 too."""
    if type(value) is float and value.is_integer():
        return int(value)
    return value if type(value) is int else None


def _number(value: Any) -> float | None:
    try:
        return float(value) if type(value) in (int, float) else None
    except OverflowError:
        return None


def _strings(value: Any) -> tuple[str, ...] | None:
    return tuple(value) if isinstance(value, list) and set(map(type, value)) <= {str} else None


def _numbers(value: Any) -> dict[str, float] | None:
    if not isinstance(value, dict):
        return None
    if set(map(type, value.values())) <= {float}:
        return value
    numbers = {name: number for name, item in value.items() if (number := _number(item)) is not None}
    return numbers if len(numbers) == len(value) else None


def _counts(value: Any) -> dict[str, int | str] | None:
    return value if isinstance(value, dict) and all(type(item) in (int, str) for item in value.values()) else None


def _each(value: Any) -> dict[str, Any] | None:
    if not isinstance(value, dict) or type(value.get("asked")) is not int:
        return None
    return value if all(_strings(value.get(name, [])) is not None for name in ("ids", "denied")) else None


def _object(value: Any) -> dict[str, Any] | None:
    return value if isinstance(value, dict) else None


def _resources(value: Any) -> tuple[dict[str, Any], ...] | None:
    return tuple(value) if isinstance(value, list) and all(map(_is_resource, value)) else None


def _is_resource(value: Any) -> bool:
    types = {"id": str, "allowed": bool, "attributes": dict}
    return (
        isinstance(value, dict)
        and all(isinstance(value.get(name), of) for name, of in types.items())
        and all(isinstance(value.get(name, ""), str) for name in ("kind", "action", "scope"))
    )


_RESOURCE = {
    "type": "object", "required": ["id", "allowed", "attributes"],
    "properties": {
        "id": {"type": "string"}, "allowed": {"type": "boolean"}, "attributes": {"type": "object"},
        "kind": {"type": "string"}, "action": {"type": "string"}, "scope": {"type": "string"},
    },
}  # fmt: skip
_IDS = {"type": "array", "items": {"type": "string"}}
_EACH = {"asked": {"type": "integer"}, "ids": _IDS, "denied": _IDS}
_TYPES: Mapping[Any, FieldType] = {
    str: FieldType("string", {"type": "string"}, lambda value: value if isinstance(value, str) else None),
    int: FieldType("integer", {"type": "integer"}, _integer),
    bool: FieldType("boolean", {"type": "boolean"}, lambda value: value if isinstance(value, bool) else None),
    Attributes: FieldType("object", {"type": "object"}, _object),
    Resources: FieldType(
        "list of objects of `id`, `allowed` and `attributes`", {"type": "array", "items": _RESOURCE}, _resources
    ),
    float: FieldType("number", {"type": "number"}, _number),
    EachLine: FieldType(
        "object of `asked`, `ids` and `denied`", {"type": "object", "required": ["asked"], "properties": _EACH}, _each
    ),
    tuple[str, ...]: FieldType("list of strings", {"type": "array", "items": {"type": "string"}}, _strings),
    Mapping[str, float]: FieldType(
        "object of numbers", {"type": "object", "additionalProperties": {"type": "number"}}, _numbers
    ),
    Mapping[str, int | str]: FieldType(
        "object of integers and strings",
        {"type": "object", "additionalProperties": {"type": ["integer", "string"]}},
        _counts,
    ),
}
