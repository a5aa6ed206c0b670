"""Lookup source for Python functions that users write: found by name, and judged before a request comes."""

from __future__ import annotations

import importlib
import inspect
import json
import sys
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from sidecar.api import BatchLookupRequest, LookupRequest, Principal
from sidecar.gate.function import Function
from sidecar.gate.lookup import Call, Lookup, Reply
from sidecar.lookups.calls import Calls, Late, OtherLoop, Outcome, Runner, Threads
from sidecar.lookups.http import MAX_BATCH, MAX_BODY
from sidecar.net.connection import Fault
from sidecar.record.reasons import Reason
from sidecar.wire import strict_json

PLACES = 32
"""Calls of one function at once; of a plain one each has a thread."""
PLACED = "expected it in the working directory, in PYTHONPATH, or installed beside the sidecar"
WRITE = "expected a function that takes one {}, plain or `async def`"
_Request = LookupRequest | BatchLookupRequest


def find(name: str, *, many: bool = False) -> Callable[..., Any]:
    """The function of a `module:callable`, imported, which is asked about one, or about many. Raises ValueError that
    says what is wrong with it.

    A module is looked for as gunicorn and uvicorn do, the working directory included, but there last: no file in it
    stands in for an installed module.
    """
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    module, _, path = name.partition(":")
    wanted, other = (BatchLookupRequest, LookupRequest) if many else (LookupRequest, BatchLookupRequest)
    write = WRITE.format(wanted.__name__)
    try:
        found: Any = importlib.import_module(module)
    except (ImportError, SyntaxError) as error:
        raise ValueError(f"cannot import {module!r}: {error}; {PLACED}") from None
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a user's module raises as it is imported
        raise ValueError(f"cannot import {module!r}: {_location_of_error(error, '')}") from None
    for part in path.split("."):
        found = getattr(found, part, None)
    if found is None:
        raise ValueError(f"found no {path!r} in {module!r}, {write}")
    if fault := _fault_of(found, other):
        raise ValueError(f"found {fault} at {name!r}, {write}" + ("" if many else _BATCH * (other.__name__ in fault)))
    function: Callable[..., Any] = found
    return function


_BATCH = ", or `batch: true` beside it"


def _fault_of(found: Any, other: type) -> str:
    """Say why something cannot be called as a function of a lookup, "" where it can. `other` is the type of a request
    that it does not get."""
    if not callable(found) or inspect.isclass(found):
        return "a class" if inspect.isclass(found) else f"{type(found).__name__}, which cannot be called,"
    if inspect.isgeneratorfunction(found) or inspect.isasyncgenfunction(found):
        return "a generator"
    try:
        signature = inspect.signature(found)
        signature.bind(None)
    except ValueError:
        # of some that are written in C nobody can tell
        return ""
    except TypeError:
        return f"the parameters {inspect.signature(found)}"
    first = next(iter(signature.parameters.values())).annotation
    # a text where annotations are not evaluated
    takes_other = first is other or (isinstance(first, str) and first.rpartition(".")[2].strip("'\"") == other.__name__)
    return f"one that takes a {other.__name__}" if takes_other else ""


def is_async(function: Callable[..., Any]) -> bool:
    """Return whether a function gives a coroutine."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004 - of an object with an async __call__


class _Known(NamedTuple):
    """Function of a lookup, by its name, and its calls."""

    name: str
    function: Callable[..., Any]
    calls: Calls


class FunctionSource:
    """A `Source`: calls the functions of all lookups. Each has places of its own; a call that hangs keeps its own."""

    places = PLACES

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}
        self._loop = OtherLoop("lookups")

    def overdue(self) -> Mapping[str, int]:
        """Lookup -> the calls that go on though their time is over."""
        return {lookup: known.calls.overdue for lookup, known in self._known.items()}

    async def ask(self, call: Call, seconds: float) -> Reply:
        """Call the function. Raises Fault."""
        inquiry = call.lookup.inquiry
        if not isinstance(inquiry, Function):
            raise TypeError(f"lookups.{call.lookup.name}: not a function")
        _, function, calls = self._function(call.lookup.name, inquiry.name, many=inquiry.batch)
        request = _request(call.question, seconds)
        work = partial(_awaited if is_async(function) else _returned, function, request)
        try:
            outcome = await calls.call(work, seconds)
        except Late as late:
            if late.begun:
                raise Fault(Reason.FUNCTION_TIMEOUT, f"no answer within {seconds:g} s") from None
            raise Fault(Reason.FUNCTION_PLACES, f"{calls.overdue} calls go on though their time is over") from None
        return _reply(outcome, function)

    def _function(self, lookup: str, name: str, *, many: bool) -> _Known:
        known = self._known.get(lookup)
        if known is not None and known.name == name:
            return known
        try:
            function = find(name, many=many)
        except ValueError as error:
            raise Fault(Reason.FUNCTION_RAISED, str(error)) from None
        if known is not None:
            # a reload has named another one
            known.calls.close()
        runner: Runner = self._loop if is_async(function) else Threads(f"lookup {lookup}")
        known = self._known[lookup] = _Known(name, function, Calls(runner, PLACES))
        return known

    async def retain(self, lookups: Collection[Lookup]) -> None:
        """Let the threads of other functions than theirs end, each when it has nothing to do."""
        names = {lookup.name for lookup in lookups if isinstance(lookup.inquiry, Function)}
        for gone in self._known.keys() - names:
            self._known.pop(gone).calls.close()

    async def aclose(self) -> None:
        """Begin no more calls; those that hang are left behind."""
        for known in self._known.values():
            known.calls.close()
        self._loop.stop()


def _request(question: str, seconds: float) -> _Request:
    asked = json.loads(question)
    told = asked.get("principal")
    principal = None
    if told is not None:
        principal = Principal(told["id"], tuple(told["roles"]), told["attributes"], told["issuer"])
    if "ids" in asked:
        return BatchLookupRequest(asked["kind"], tuple(asked["ids"]), principal, seconds)
    return LookupRequest(asked["kind"], asked["id"], principal, seconds)


def _returned(function: Callable[..., Any], request: _Request) -> bytes | None:
    return _document(function(request), many=isinstance(request, BatchLookupRequest))


async def _awaited(function: Callable[..., Any], request: _Request) -> bytes | None:
    return _document(await function(request), many=isinstance(request, BatchLookupRequest))


class _NoDocument(Exception):
    """A result of a function that is no document."""


def _document(value: Any, *, many: bool) -> bytes | None:
    """The result of a function, as JSON. Raises _NoDocument."""
    if value is None and not many:
        return None
    if inspect.iscoroutine(value):
        value.close()
    if not isinstance(value, (dict, list) if many else dict):
        expected = "a dict, id: dict, or with `echo` a list of dicts" if many else "a dict or None"
        raise _NoDocument(f"found {type(value).__name__}, expected {expected}")
    try:
        document = strict_json.dumps(value)
    except ValueError as error:
        raise _NoDocument(f"found {error}, expected JSON: dict, list, str, int, float, bool, None") from None
    most = MAX_BATCH if many else MAX_BODY
    if len(document) > most:
        raise _NoDocument(f"found {len(document)} bytes, expected at most {most}")
    return document


def _reply(outcome: Outcome, function: Callable[..., Any]) -> Reply:
    if isinstance(outcome, _NoDocument):
        raise Fault(Reason.FUNCTION_RESULT, str(outcome))
    if isinstance(outcome, BaseException):
        raise Fault(Reason.FUNCTION_RAISED, _location_of_error(outcome, _file_of(function)))
    return Reply(404, "application/json", b"{}") if outcome is None else Reply(200, "application/json", outcome)


def _file_of(function: Callable[..., Any]) -> str:
    code = getattr(function, "__code__", None)
    return code.co_filename if code is not None else ""


def _location_of_error(error: BaseException, file: str) -> str:
    """The type of an exception and the line it came from, of `file` where there is one; never its text, which may hold
    a secret."""
    frames = []
    trace = error.__traceback__
    while trace is not None:
        frames.append((trace.tb_frame.f_code.co_filename, trace.tb_lineno))
        trace = trace.tb_next
    own = [frame for frame in frames if frame[0] == file] or frames
    return f"{type(error).__name__} in {Path(own[-1][0]).name}:{own[-1][1]}" if own else type(error).__name__
