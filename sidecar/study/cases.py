"""Cases of `sidecar test`: a request, who sends it, what lookups and the app say, and what comes out of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlencode

from sidecar.config.shapes import Entry, Problem, Reader, read_document
from sidecar.config.suggest import did_you_mean
from sidecar.study.case_grammar import ANY, FILE, NOTHING

Headers = tuple[tuple[bytes, bytes], ...]
Replies = Mapping[str, Mapping[str, Any]]
"""Lookup -> id -> what it tells: JSON, a status, or a word."""


class AppAnswer(NamedTuple):
    """Answer of the app. `headers` have names in lower case."""

    status: int = 200
    headers: Headers = ()
    body: bytes = b""


class Sent(NamedTuple):
    """Request that the app is asked. An expected one has None for what is not compared."""

    method: str | None = None
    target: str | None = None
    headers: Mapping[str, Sequence[str]] = {}


class Items(NamedTuple):
    """Part of a list that a client gets. An expected one has None for what is not compared."""

    kept: tuple[str, ...] | None = None
    hidden: tuple[str, ...] | None = None
    masked: Mapping[str, tuple[str, ...]] | None = None


class VisibleFields(NamedTuple):
    """Fields of one thing that a client gets. An expected one has None for what is not compared."""

    shown: tuple[str, ...] | None = None
    hidden: tuple[str, ...] | None = None


class Case(NamedTuple):
    """One case. `claims` are of the token that is made for it, None where there is none; `token` is sent as it is.
    `answers` are None where the case does not say what the app answers. `expected` has what is compared, by its name
    in the file."""

    name: str
    file: str
    line: int
    column: int
    method: str
    target: str
    claims: Mapping[str, Any] | None
    token: str
    headers: Headers
    body: bytes | None
    lookups: Replies
    answers: tuple[AppAnswer, ...] | None
    expected: Mapping[str, Any]

    @property
    def place(self) -> str:
        """Where it stands, for a person and for an editor."""
        return f"{self.file}:{self.line}:{self.column}"

    def reply(self, lookup: str, resource_id: str) -> Any:
        """Return what a lookup tells about a resource; None where the case says nothing about it."""
        told = self.lookups.get(lookup, {})
        return told.get(resource_id, told.get(ANY))


class CasesError(Exception):
    """The file cannot be used; `problems` are all of its faults."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


def read_cases(text: str, file: str) -> tuple[Case, ...]:
    """Read a file of cases. Raises CasesError with every problem."""
    document, reader = read_document(text, file, FILE, "`cases`")
    if not isinstance(document, Entry):
        raise CasesError(reader.problems)
    users = {name: {"sub": name, **claims} for name, claims in document["users"].items()}
    entries = [entry for entry in document["cases"] if isinstance(entry, Entry)]
    _require_other_names(entries, reader)
    cases = tuple([_case(entry, users, document["lookups"], file, reader) for entry in entries])
    if reader.problems:
        raise CasesError(sorted(reader.problems, key=lambda problem: problem[1:3]))
    return cases


def _require_other_names(entries: Sequence[Entry], reader: Reader) -> None:
    lines: dict[str, int] = {}
    for entry in entries:
        name = entry["name"]
        if name and name in lines:
            reader.fault(entry.at("name"), f"found {name!r} again, as in line {lines[name]}, expected another name")
        lines.setdefault(name, entry.at("name").line)


def _case(entry: Entry, users: Mapping[str, Any], replies: Replies, file: str, reader: Reader) -> Case:
    claims, token = _sender(entry, users, reader)
    method, _, target = entry["request"].partition(" ")
    body, kind = _written(entry["body"])
    if entry["form"] is not None:
        if entry.has("body"):
            reader.fault(entry.at("form"), "found both body and form, expected one of them")
        body, kind = urlencode(entry["form"], doseq=True).encode("ascii"), b"application/x-www-form-urlencoded"
    headers = _headers(entry["headers"])
    own: Replies = entry["lookups"]
    lookups = {name: {**replies.get(name, {}), **own.get(name, {})} for name in (*replies, *own)}
    answers, mark, expect = entry["app"], entry.mark, entry["expect"]
    if answers is not None:
        answers = tuple([_answer(answer) for answer in answers if isinstance(answer, Entry)])
    if isinstance(expect, Entry) and not expect.marks:
        reader.fault(entry.at("expect"), "found nothing, expected at least `status` or `code`")
    return Case(
        entry["name"], file, mark.line, mark.column, method, target, claims, token, _typed(headers, kind), body,
        lookups, answers, _expected(expect) if isinstance(expect, Entry) else {},
    )  # fmt: skip


def _sender(entry: Entry, users: Mapping[str, Any], reader: Reader) -> tuple[Mapping[str, Any] | None, str]:
    """Return the claims of who asks, and the token to send as it is."""
    given = [name for name in ("user", "claims", "token") if entry.has(name)]
    if len(given) > 1:
        reader.fault(entry.at(given[1]), f"found both {given[0]} and {given[1]}, expected one of them")
    user, token = entry["user"], entry["token"]
    if user and user not in users:
        known = f"one of {', '.join(users)}" if users else "a name of `users`, which has none"
        reader.fault(entry.at("user"), f"found {user!r}, expected {known}{did_you_mean(user, users)}")
    if token is not None and token != "none":  # noqa: S105 - a word
        return None, token
    return (users.get(user) if user else entry["claims"]), ""


def _written(value: Any) -> tuple[bytes | None, bytes]:
    """Return a body and its content type."""
    if value is None:
        return None, b""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass"), b"text/plain; charset=utf-8"
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass"), b"application/json"


def _headers(given: Mapping[str, Sequence[str]]) -> Headers:
    return tuple(
        [
            (name.lower().encode("ascii"), value.strip(" \t").encode("utf-8", "surrogatepass"))
            for name, values in given.items()
            for value in values
        ]
    )


def _typed(headers: Headers, kind: bytes) -> Headers:
    """Headers with the content type of the body, unless they have one."""
    if not kind or any(name == b"content-type" for name, _ in headers):
        return headers
    return (*headers, (b"content-type", kind))


def _answer(entry: Entry) -> AppAnswer:
    body, kind = _written(entry["body"])
    return AppAnswer(entry["status"], _typed(_headers(entry["headers"]), kind), body or b"")


def _expected(expect: Entry) -> dict[str, Any]:
    """Return what the file says that comes out, by its name there."""
    return {name: _compared(name, expect[name]) for name in expect.marks if expect[name] is not None}


def _compared(name: str, value: Any) -> Any:
    if name == "items" and isinstance(value, Entry):
        masked = value["masked"]
        return Items(
            _ids(value["kept"]), _ids(value["hidden"]),
            None if masked is None else {item: tuple(sorted(fields)) for item, fields in masked.items()},
        )  # fmt: skip
    if name == "fields" and isinstance(value, Entry):
        return VisibleFields(_ids(value["shown"]), _ids(value["hidden"]))
    if name == "sent":
        return NOTHING if value == NOTHING else Sent(value["method"], value["target"], _lowered(value["headers"] or {}))
    if name == "headers":
        return _lowered(value)
    return tuple(sorted(value)) if name in ("roles", "denied") else value


def _ids(values: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if values is None else tuple(sorted(values))


def _lowered(headers: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    return {name.lower(): values for name, values in headers.items()}
