"""A line of the decision log is data: what is written is read, and whatever else is read is a record or a clear error."""

import json
from collections.abc import Mapping
from functools import cache
from typing import Any, get_args

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.record import line
from sidecar.record.line import (
    EVENTS,
    NOTHING,
    BrokenOff,
    ConsoleAs,
    Decision,
    Line,
    LineError,
    SignedIn,
    SignedOut,
    SignInFailedLine,
    UnknownLine,
    UnreadLine,
    read,
    time_text,
    write,
)  # fmt: skip

TIME = "2026-01-31T12:00:00.250+00:00"
DECISION = Decision(
    TIME, "r-1", "enforce", "allow", "allowed", 200, "GET", "app.test:8080", "/contacts/7", "/contacts/{id}", "a-1",
    ("admin", "user"), "contact", "7", "read", "10.0.0.9", {"request": 0.031, "decision": 1.2}, 4.2, "01H", "p",
)  # fmt: skip
QUESTION = line.QuestionLine(
    TIME, "r-1", "shadow", "shadow_refuse", "denied_by_policy", 200, "GET", "app.test", "/contacts/7", "/contacts/{id}",
    "a-1", ("user",), "contact", "7", "read", 4.2, 3, True, app_status=200, attributes={"owner": "b-2"},
)  # fmt: skip
UNREAD = UnreadLine(TIME, "r-1", "shadow", "refuse", "request_invalid", 400, "10.0.0.9")
OTHERS: list[Line] = [
    BrokenOff(TIME, "r-1", "upstream_partial", "/x"), SignedIn(TIME, "r-1", "::1", "a-1"),
    SignInFailedLine(TIME, "r-1", "::1", "wrong_password"), SignInFailedLine(TIME, "r-1", "::1", "token_invalid", "said why"),
    SignedOut(TIME, "r-1", "::1", "alice"), ConsoleAs(TIME, "r-1", "a-1", "b-2"),
]  # fmt: skip
VALIDATOR = jsonschema.Draft202012Validator(line.json_schema())

# --- what is written is read ---

times = st.integers(0, 253_402_300_799_999).map(lambda number: time_text(number / 1000))
milliseconds = st.integers(0, 10**12).map(lambda number: number / 1000)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=5,
)  # fmt: skip
attributes = st.dictionaries(st.text(), json_values, max_size=3)
OF_TYPE: Mapping[str, st.SearchStrategy[Any]] = {
    "string": st.text(), "integer": st.integers(0, 10**6), "number": milliseconds,
    "list of strings": st.lists(st.text(), max_size=40).map(tuple),
    "object of `asked`, `ids` and `denied`": st.fixed_dictionaries(
        {"asked": st.integers(0, 1000)}, optional={"ids": st.lists(st.text(), max_size=3), "denied": st.lists(st.text())}
    ),
    "boolean": st.booleans(), "object": attributes,
    "list of objects of `id`, `allowed` and `attributes`": st.lists(
        st.fixed_dictionaries({"id": st.text(), "allowed": st.booleans(), "attributes": attributes}), max_size=3
    ).map(tuple),
    "object of numbers": st.dictionaries(st.text(), milliseconds, max_size=8),
    "object of integers and strings": st.dictionaries(st.text(), st.integers(0, 10**6) | st.text(), max_size=4),
}  # fmt: skip


@cache
def lines() -> st.SearchStrategy[Line]:
    """A line of any kind, with fields of a later version or without."""
    return st.one_of([lines_of(kind) for kind in get_args(Line)])


def lines_of(kind: Any) -> st.SearchStrategy[Line]:
    shapes, fields = line.shapes_of(kind), {}
    for name, shape in shapes.items():
        values = OF_TYPE.get(shape.type.name, st.sampled_from(shape.type.schema.get("enum", [""])))
        fields[name] = values | st.none() if shape.when else values
    fields["time"] = times
    if kind is UnknownLine:
        fields["event"] = st.text().filter(lambda event: event not in EVENTS)
    known = {"event", *Decision._fields, *shapes}
    fields["extra"] = st.dictionaries(st.text().filter(lambda name: name not in known), json_values, max_size=3)
    return st.fixed_dictionaries(fields).map(lambda drawn: kind(**drawn))


@given(lines())
def test_what_is_written_is_read_and_is_of_the_schema(record: Line) -> None:
    text = write(record)
    assert read(text.encode()) == record
    assert type(read(text.encode())) is type(record)
    assert write(read(text.encode())) == text
    assert text.isascii()
    assert text.count("\n") == 1
    VALIDATOR.validate(json.loads(text))


# --- whatever is read is a record or a clear error ---


def outcome_of(data: bytes) -> Line | LineError:
    try:
        return read(data)
    except LineError as error:
        return error


@given(st.binary() | st.text().map(str.encode) | json_values.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_a_line_or_a_clear_error(data: bytes) -> None:
    found = outcome_of(data)
    if isinstance(found, LineError):
        assert str(found).isprintable()
    else:
        assert read(write(found).encode()) == found


def test_a_whole_number_may_be_written_with_a_point() -> None:
    found = read(write(DECISION).replace('"status": 200', '"status": 200.0').encode())
    assert found == DECISION
    assert isinstance(found, Decision)
    assert type(found.status) is int


@given(lines(), st.data())
def test_a_line_that_was_tampered_with_is_a_line_of_the_schema_or_a_clear_error(
    record: Line, data: st.DataObject
) -> None:
    fields = json.loads(write(record))
    name = data.draw(st.sampled_from(sorted(fields)))
    fields[name] = data.draw(json_values | st.just(10**400) | st.floats(allow_nan=False, allow_infinity=False))
    found = outcome_of(json.dumps(fields).encode())
    if isinstance(found, LineError):
        assert "expected" in str(found)
        # what the schema cannot tell: a day that is in no calendar, and a number that no float holds
        assert not VALIDATOR.is_valid(fields) or name == "time" or fields[name] == 10**400
    else:
        VALIDATOR.validate(fields)


@pytest.mark.parametrize("record", [DECISION, QUESTION, UNREAD, *OTHERS], ids=lambda record: type(record).__name__)
def test_each_required_field_must_be_there_and_each_optional_one_may_not_be(record: Line) -> None:
    whole = json.loads(write(record))
    for name, shape in {**line.shapes_of(type(record)), "event": None}.items():
        fields = {key: value for key, value in whole.items() if key != name}
        if shape is not None and shape.when:
            assert read(json.dumps(fields).encode())
            VALIDATOR.validate(fields)
        else:
            with pytest.raises(LineError, match=f"{name}: found"):
                read(json.dumps(fields).encode())
            assert not VALIDATOR.is_valid(fields), name


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"status": "200"}, "status: found str, expected integer"),
        ({"status": True}, "status: found bool, expected integer"),
        ({"mode": "off"}, "mode: found str, expected `enforce`, `shadow-policy` or `shadow`"),
        ({"roles": "admin"}, "roles: found str, expected list of strings"),
        ({"roles": ["admin", 1]}, "roles: found list, expected list of strings"),
        ({"ms": {"request": "1"}}, "ms: found dict, expected object of numbers"),
        ({"total_ms": 10**400}, "total_ms: found int, expected number"),
        ({"detail": None}, "detail: found nothing, expected string"),
        ({"time": "2026-01-31"}, "time: found '2026-01-31', expected a time such as"),
        ({"time": "2026-02-31T12:00:00.000+00:00"}, "time: found '2026-02-31"),
        ({"time": TIME + "\n"}, "time: found"),
        ({"event": 7}, "event: found int, expected string"),
    ],
)
def test_a_field_of_another_type_is_named(change: dict[str, Any], says: str) -> None:
    with pytest.raises(LineError) as caught:
        read(json.dumps(json.loads(write(DECISION)) | change).encode())
    assert str(caught.value).startswith(says)


@pytest.mark.parametrize("text", ["", "[]", "null", "x", '{"time": 1', '{"event": "a", "event": "b"}', "[" * 100_000])
def test_what_is_no_object_of_one_reading_is_no_line(text: str) -> None:
    with pytest.raises(LineError, match="expected one JSON object"):
        read(text.encode())


def test_a_decision_without_one_of_its_fields_is_not_taken_for_one_that_no_gate_judged() -> None:
    fields = json.loads(write(DECISION._replace(outcome="refuse")))
    del fields["path"]
    with pytest.raises(LineError, match="path"):
        read(json.dumps(fields).encode())


# --- later versions ---


def test_what_a_later_version_adds_is_kept() -> None:
    fields = json.loads(write(DECISION)) | {"region": {"name": "eu"}, "extra": 1}
    record = read(json.dumps(fields).encode())
    assert record == DECISION._replace(extra={"region": {"name": "eu"}, "extra": 1})
    assert json.loads(write(record)) == fields
    VALIDATOR.validate(fields)


def test_a_line_of_another_event_is_kept() -> None:
    record = read(f'{{"time": "{TIME}", "event": "paused", "request_id": "r-1"}}'.encode())
    assert record == UnknownLine(TIME, "paused", {"request_id": "r-1"})
    assert read(write(record).encode()) == record


# --- the records ---


def test_a_record_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        DECISION.code = "denied_by_policy"  # type: ignore[misc]
    with pytest.raises(TypeError):
        NOTHING["a"] = 1  # type: ignore[index]


def test_every_kind_of_line_has_an_event_and_a_meaning() -> None:
    kinds = [kind for kinds in EVENTS.values() for kind in kinds]
    assert {*kinds, UnknownLine} == set(get_args(Line))
    for kind in get_args(Line):
        assert kind.__doc__
        assert all(shape.doc for shape in line.shapes_of(kind).values())
        assert set(kind._fields) - {"event", "extra"} == set(line.shapes_of(kind))


def test_a_name_with_a_percent_sign_is_a_name() -> None:
    record = DECISION._replace(ms={"100%d": 1.5})
    assert read(write(record).encode()) == record


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(line.json_schema())


def test_the_schemas_names_stay_as_users_have_them() -> None:
    assert list(line.json_schema()["$defs"]) == [
        "Decision", "Unread", "Question", "BrokenOff", "SignedIn", "SignInFailed", "SignedOut", "ConsoleAs", "CandidateDiffers", "Unknown",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("now", "text"),
    [(0.0, "1970-01-01T00:00:00.000+00:00"), (1_700_000_000.9996, "2023-11-14T22:13:20.999+00:00")],
)
def test_a_time_is_in_utc_with_milliseconds(now: float, text: str) -> None:
    assert [time_text(now), time_text(now)] == [text, text]


def test_a_detail_is_capped_and_has_no_lone_surrogate() -> None:
    assert line.detail_text("x" * 1000) == "x" * line.MAX_DETAIL
    assert line.detail_text("d\x7f\ud800é") == "d\x7f?é"
