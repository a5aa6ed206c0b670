"""Runs cases of `sidecar test`: the doors, the gate and an embedded Cerbos as `sidecar run` makes them, without ports.

Only the ends of the way are the case's own: the client, the app, the sources of lookups, and the key of the tokens.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from uvicorn.server import ServerState

from sidecar.config.routes.file import RoutesFile
from sidecar.config.settings import understand
from sidecar.config.suggest import did_you_mean
from sidecar.gate.ask import Ask
from sidecar.gate.batch import answer_of
from sidecar.gate.budget import Budget
from sidecar.gate.lookup import Call, Lookup, Reply
from sidecar.gate.request import Raw, read
from sidecar.gate.routing import WEBSOCKET
from sidecar.gate.verdict import Facts, Refuse, Refused
from sidecar.lookups.asking import MAX_RUNNING, Lookups
from sidecar.net import http_server
from sidecar.net.connection import Fault
from sidecar.net.http_connection import Receive, Send, Serve
from sidecar.record import line, logs
from sidecar.record.journal import Journal, Outcome
from sidecar.record.metrics import Metrics
from sidecar.record.reasons import Reason
from sidecar.run.case_tokens import CaseKey, CaseTokens
from sidecar.run.case_wires import HANDSHAKE, WITHIN, Answered, CaseRequest, GivenApp, exchange
from sidecar.run.deciding import Deciding, wall_clock
from sidecar.run.errors import StartError
from sidecar.run.parts import Parts, prepare
from sidecar.run.pdp import starting_cerbos
from sidecar.run.traffic import Traffic, door_of, traffic
from sidecar.study.case_grammar import MISSING, TIMEOUT, UNAVAILABLE
from sidecar.study.case_results import CaseResult, Observed, result_of
from sidecar.study.cases import AppAnswer, Case
from sidecar.study.explain import ask_named, concluded, decision_lines, default_host
from sidecar.study.recording import RecordingPDP
from sidecar.study.released import fields_left, items_left
from sidecar.wire import strict_json
from sidecar.wire.grammar import Header

OURS = {
    "SIDECAR_CERBOS": "embedded", "SIDECAR_MODE": "enforce", "SIDECAR_DECISION_LOG": "stdout", "SIDECAR_TRACES": "off",
    **dict.fromkeys((
        "SIDECAR_UPSTREAM_CA", "SIDECAR_UPSTREAM_CERTIFICATE", "SIDECAR_UPSTREAM_KEY", "SIDECAR_UPSTREAM_SERVER_NAME",
        "SIDECAR_LISTEN", "SIDECAR_TLS_CERTIFICATE", "SIDECAR_TLS_KEY", "SIDECAR_SOCKET_MODE", "SIDECAR_SOCKET_OWNER",
        "SIDECAR_ADMIN_LISTEN", "SIDECAR_CERBOS_ADMIN", "SIDECAR_CERBOS_TLS", "SIDECAR_CERBOS_CA",
        "SIDECAR_CERBOS_CERTIFICATE", "SIDECAR_CERBOS_KEY", "SIDECAR_REDIS_URL", "SIDECAR_FORWARD_AUTH",
        "SIDECAR_QUESTION_LOG", "SIDECAR_QUESTION_LOG_ATTRIBUTES", "SIDECAR_EXT_AUTHZ_LISTEN",
        "SIDECAR_EXT_PROC_LISTEN", "SIDECAR_WORKERS", "SIDECAR_PDP", "SIDECAR_PDP_TOKEN", "SIDECAR_PDP_CA",
        "SIDECAR_PDP_ROLES",
    ), ""),
}  # fmt: skip
"""Settings that say where a sidecar runs: with cases it takes no port, writes no log and asks no other server."""
SHOWN = 20
"""Items of a list of which it is told what Cerbos answered."""
POOL = {
    "AWS_REGION": "eu-west-1", "AWS_COGNITO_POOL_ID": "eu-west-1_Cases", "AWS_COGNITO_CLIENT_ID": "cases",
}  # fmt: skip
"""The user pool where no setting names an issuer."""
DOMAIN = "https://cases.invalid"
"""Where people sign in, where no setting says it: of no matter to cases."""


class GivenReplies:
    """Sources of lookups: each tells what the case says."""

    places = MAX_RUNNING

    def __init__(self, case: Case) -> None:
        self._case = case
        self.unanswered: list[str] = []

    async def ask(self, call: Call, seconds: float) -> Reply:
        """Tell of the resource that a call is about, or of each of many. Raises Fault."""
        if not call.ids:
            return self._reply_for(call.lookup.name, call.resource_id)
        replies = {resource_id: self._reply_for(call.lookup.name, resource_id) for resource_id in call.ids}
        failed = next((reply for reply in replies.values() if reply.status not in (200, 404)), None)
        return failed if failed is not None else answer_of(call, replies)

    def _reply_for(self, lookup: str, resource_id: str) -> Reply:
        told = self._case.reply(lookup, resource_id)
        if told is None:
            fault = f"it asks lookup {lookup} for id {resource_id}, and says nothing about it"
            self.unanswered.append(f"{fault}: add it to `lookups`, or `missing`")
            raise Fault(Reason.CONNECTION_FAILED, "the case says nothing about it")
        if told == UNAVAILABLE:
            raise Fault(Reason.CONNECTION_REFUSED, "as the case says")
        if told == TIMEOUT:
            raise Fault(Reason.HTTP_RESPONSE_TIMEOUT, "as the case says")
        status = 404 if told == MISSING else told if type(told) is int else 200
        body = b"{}" if status != 200 or type(told) is int else json.dumps(told).encode("utf-8")
        return Reply(status, "application/json", body)

    async def retain(self, lookups: Collection[Lookup]) -> None:
        """Nothing is open."""

    async def aclose(self) -> None:
        """Nothing is open."""


class _Lines:
    """The decision log of one case."""

    waiting = 0

    def __init__(self) -> None:
        self.lines: list[str] = []

    def put(self, lines: list[str]) -> None:
        self.lines += lines

    def send(self) -> bool:
        return True

    def follow(self) -> None:
        """There is no file."""

    def close(self) -> None:
        """There is no file."""


class _CaseJournal(Journal):
    """Keeps the verdicts beside their lines."""

    def __init__(self, lines: _Lines, metrics: Metrics) -> None:
        super().__init__(lines, metrics, wall_clock)
        self.outcomes: list[Outcome] = []

    def record(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        super().record(outcome)

    def _spend(self, facts: Facts, budget: Budget, now: float) -> None:
        """Leave budgets as they are: a refusal that a case expects opens no route for the next one."""


class _Turn:
    """The app of our server: the traffic of the case whose turn it is."""

    traffic: Traffic

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        await self.traffic(scope, receive, send)

    def direct(self, target: bytes) -> Serve | None:
        """See Traffic."""
        return self.traffic.direct(target)


class Bench:
    """All that cases go through; made by `bench`. Cases are run one after the other, and know nothing of each other."""

    def __init__(self, deciding: Deciding, parts: Parts, app: GivenApp, key: CaseKey) -> None:
        self._deciding = deciding
        self._parts = parts
        self._app = app
        self._key = key
        self._turn = _Turn()
        self._state = ServerState()
        self._began = wall_clock()
        self._config = http_server.config(self._turn, refused=lambda *told: self._turn.traffic.refused(*told))
        self._config.load()

    @property
    def routes(self) -> RoutesFile:
        """The route file."""
        return self._deciding.configured.routes

    async def run(self, case: Case) -> CaseResult:
        """Run one case."""
        started = time.perf_counter()
        observed = await self._observe(case)
        return result_of(case, observed._replace(seconds=time.perf_counter() - started))

    async def _observe(self, case: Case) -> Observed:
        replies, pdp, lines = GivenReplies(case), RecordingPDP(self._deciding.pdp), _Lines()
        kinds = {type(lookup.inquiry) for lookup in self._deciding.configured.routes.lookups.values()}
        hooks = Lookups(dict.fromkeys(kinds, replies), now=time.monotonic)
        deciding = self._deciding.with_lookups(hooks)
        gate = deciding.gate(self._parts.assertions, pdp)
        journal = _CaseJournal(lines, deciding.metrics)
        self._turn.traffic = traffic(deciding, self._parts, door_of(deciding, gate, self._parts, journal, None))
        self._app.begin(case.answers if case.answers is not None else (AppAnswer(),))
        try:
            answered = await exchange(self._protocol, self._asked(case))
            await self._settled()
        except TimeoutError:
            return Observed({}, faults=(f"no answer came within {WITHIN:g} s",))
        except ConnectionError as error:
            return Observed({}, faults=(f"no answer came: {error}",))
        finally:
            await hooks.aclose()
        outcome = journal.outcomes[-1] if journal.outcomes else None
        verdict = outcome.verdict if outcome is not None else None
        ask = None
        if verdict is not None:
            method = WEBSOCKET if verdict.facts.websocket else verdict.facts.method
            ask = ask_named(gate.rules.table, verdict.facts.route, method)
        told = [line.read(text.encode("ascii")) for text in lines.lines]
        found = _found(told, answered, ask, [answer.body for answer in self._app.answered])
        why: list[str] = []
        if outcome is not None and verdict is not None:
            refused = isinstance(verdict, Refuse) or outcome.fault is not None
            why = [f"client     {answered.status}{' ' + found['told'] if refused else ''}"]
            why += [*decision_lines(verdict, pdp, ask), *_item_lines(pdp, verdict.facts)]
            after = f", and then {outcome.fault}" if outcome.fault is not None else ""
            why.append(f"verdict    {concluded(verdict)}{after}")
        details = [each.detail for each in told if isinstance(each, line.Decision | line.BrokenOff) and each.detail]
        if not isinstance(verdict, Refuse):
            why += [f"detail     {detail}" for detail in details]
        return Observed(
            found, answered.headers,
            tuple(self._app.asked), tuple([*replies.unanswered, *self._faults(case, ask, answered)]), tuple(why),
        )  # fmt: skip

    def _protocol(self) -> asyncio.BaseProtocol:
        made: asyncio.BaseProtocol = self._config.http_protocol_class(  # type: ignore[call-arg]
            config=self._config, server_state=self._state, app_state={}
        )
        return made

    def _asked(self, case: Case) -> CaseRequest:
        configured = self._deciding.configured
        headers = list(case.headers)
        host = next((value for name, value in headers if name == b"host"), b"")
        if not host:
            table, target = configured.routes.table, case.target.encode("utf-8")
            host = default_host(table, self._deciding.settings.hosts, target).encode("ascii")
            headers.insert(0, (b"host", host))
        token = case.token.encode("ascii")
        if case.claims is not None:
            issuers = configured.tokens.at(host.decode("latin-1").lower()).issuers
            usual = self._of_resource(case, headers) if case.claims.get("token_use") != "id" else {}
            token = self._key.token({**usual, **case.claims}, issuers, self._began)
        if token:
            headers.append((b"authorization", b"Bearer " + token))
        if case.method == WEBSOCKET:
            return CaseRequest("GET", case.target, [*headers, *HANDSHAKE], None, websocket=True)
        return CaseRequest(case.method, case.target, headers, case.body)

    def _of_resource(self, case: Case, headers: list[Header]) -> dict[str, str]:
        """Return the claims that make a token for the protected resource of a case's route, {} if it has none."""
        configured = self._deciding.configured
        if not configured.routes.table.protected:
            return {}
        rules = configured.rules(self._deciding.reading)
        try:
            match = rules.table.match(
                read(Raw(case.method, case.target.encode("ascii"), headers, "", "http", "case"), rules.reading)
            )
        except Refused:
            return {}
        protected = match.route.protected
        return {} if protected is None else {"aud": protected.resource, "scope": " ".join(protected.scopes)}

    async def _settled(self) -> None:
        """Wait until nothing of the case runs any more: a WebSocket ends after its client has left."""
        running = [task for task in self._state.tasks if not task.done()]
        if running:
            await asyncio.wait(running, timeout=1.0)

    def _faults(self, case: Case, ask: Ask | None, answered: Answered) -> Iterator[str]:
        for asked in self._app.unanswered:
            yield f"it asks the app once more, {asked}, and `app` has no further answer"
        if ask is not None and ask.needs_answer and case.answers is None and self._app.asked:
            yield "its route judges the app's answer, and the case gives none: add `app`"
        if not answered.whole:
            yield "the answer broke off"


def _item_lines(pdp: RecordingPDP, facts: Facts) -> Iterator[str]:
    """Tell what was answered about items of the app's answer, of the first ones."""
    results = [result for at, answer in sorted(pdp.answers.items()) if at for result in answer.results]
    for result in results[:SHOWN]:
        effects = ", ".join(f"{action}: {effect}" for action, effect in sorted(result.effects.items()))
        yield f"item       {result.id} {effects}; policy {result.policy or '(none matched)'}"
    if len(results) > SHOWN:
        yield f"           and {len(results) - SHOWN} more"
    if facts.missing:
        yield f"missing    {', '.join(facts.missing[:SHOWN])}: a lookup does not have it"


def _found(
    told: Sequence[line.Line], answered: Answered, ask: Ask | None, bodies: Sequence[bytes]
) -> dict[str, Any]:  # fmt: skip
    """Return what came out, by the names of `expect`."""
    found: dict[str, Any] = {"status": answered.status}
    for each in told:
        match each:
            case line.Decision():
                found |= {
                    "outcome": each.outcome, "code": each.code, "told": each.told or each.code, "route": each.route,
                    "kind": each.kind, "principal": each.principal, "roles": tuple(sorted(each.roles)), "id": each.id,
                    "action": each.action, "policy": each.policy or "",
                    "denied": tuple(sorted(each.each.get("denied", ()))) if each.each is not None else (),
                }  # fmt: skip
            case line.UnreadLine() | line.BrokenOff():
                found |= {"code": each.code, "told": each.code}
            case _:
                pass
    if "code" not in found and (code := _problem_code(answered)):
        found |= {"code": code, "told": code}
    if (items := items_left(ask, bodies, answered.body)) is not None:
        found["items"] = items
    if (fields := fields_left(ask, bodies, answered.body)) is not None:
        found["fields"] = fields
    return found


def _problem_code(answered: Answered) -> str:
    """Return the code of a problem that one of the sidecar's own pages answered."""
    try:
        problem = strict_json.loads(answered.body)
    except ValueError:
        return ""
    code = problem.get("code") if isinstance(problem, dict) else None
    return code if isinstance(code, str) else ""


@asynccontextmanager
async def bench(environ: Mapping[str, str], flags: Mapping[str, str]) -> AsyncIterator[Bench]:
    """Make a sidecar as the settings say, and start its Cerbos. Raises StartError with every problem."""
    logs.configure("error")
    _require_cerbos(environ, flags)
    with tempfile.TemporaryDirectory(prefix="sidecar-cases-") as folder:
        socket = Path(folder) / "app.sock"
        ours = {**_issuer(environ, flags), **flags, **OURS, "SIDECAR_UPSTREAM": f"unix:{socket}", **_nowhere(folder)}
        prepared = prepare(understand(environ, ours), environ, stand_in=f"unix:{socket}")
        deciding, app = prepared.deciding, GivenApp()
        await app.start(socket)
        try:
            key, _ = await asyncio.gather(asyncio.to_thread(CaseKey), _start(deciding))
            configured = deciding.configured
            trust = configured.trust
            tokens = CaseTokens(trust.everywhere, configured.routes.principal, key, trust.by_host)
            deciding.configured = deciding.configured._replace(tokens=tokens)
            yield Bench(deciding, prepared.parts, app, key)
        finally:
            await prepared.parts.upstream.aclose()
            await deciding.aclose()
            await app.aclose()


def _nowhere(folder: str) -> dict[str, str]:
    """Say that it listens where no app is, so that no lookup of an app seems to ask the sidecar."""
    return {"SIDECAR_LISTEN": f"unix:{folder}/nobody.sock"}


async def _start(deciding: Deciding) -> None:
    with starting_cerbos():
        if deciding.embedded is not None:
            await deciding.embedded.start()


def _require_cerbos(environ: Mapping[str, str], flags: Mapping[str, str]) -> None:
    found = flags.get("SIDECAR_PDP") or environ.get("SIDECAR_PDP")
    if found:
        raise StartError(
            f"SIDECAR_PDP: found {found!r}, expected none: cases are run against Cerbos and the policies of "
            "SIDECAR_POLICIES; unset it for this command"
        )


def _issuer(environ: Mapping[str, str], flags: Mapping[str, str]) -> dict[str, str]:
    """Return a pool, and its domain, where no setting names them: the tokens of cases are signed here in any case."""
    named = {**environ, **flags}
    pool = {} if named.get("AWS_COGNITO_POOL_ID") or named.get("SIDECAR_ISSUER") else POOL
    if named.get("AWS_COGNITO_DOMAIN"):
        return pool
    login = named.get("SIDECAR_LOGIN", "auto")
    return {**pool, "AWS_COGNITO_DOMAIN": DOMAIN, "SIDECAR_LOGIN": "off" if login == "auto" else login}


def require_known_lookups(cases: Sequence[Case], known: Sequence[str]) -> None:
    """Raise StartError for a case that tells of a lookup that no route file has."""
    problems: dict[tuple[str, str], str] = {}
    for case in cases:
        for name in case.lookups:
            if name not in known:
                expected = f"one of {', '.join(known)}" if known else "none, since the route file has no lookups"
                told = f"{case.place}: lookups: found {name!r}, expected {expected}{did_you_mean(name, known)}"
                problems.setdefault((case.file, name), told)
    if problems:
        raise StartError(*problems.values())


async def run_cases(
    cases: Sequence[Case], environ: Mapping[str, str], flags: Mapping[str, str], progress: Callable[[int], None]
) -> list[CaseResult]:
    """Run cases, one after the other. Raises StartError where nothing can be run."""
    results = []
    async with bench(environ, flags) as made:
        require_known_lookups(cases, tuple(made.routes.lookups))
        for case in cases:
            results.append(await made.run(case))
            progress(len(results))
    return results
