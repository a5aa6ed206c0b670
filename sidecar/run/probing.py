"""`sidecar check --probe`: each server that settings and routes name is asked once; the app what lookups ask it, and
else it gets a connection alone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from functools import partial
from typing import NamedTuple
from urllib.parse import quote, urlsplit

import httpx

from sidecar.config.routes.file import RoutesFile
from sidecar.config.setting_table import Settings
from sidecar.config.shapes import Mark, Problem
from sidecar.gate.app_lookup import AppInquiry
from sidecar.gate.codes import Code
from sidecar.gate.function import Function
from sidecar.gate.hook import Hook
from sidecar.gate.lookup import Call, Inquiry, Lookup, Missing, Reply, ResourceField, attributes_from
from sidecar.gate.references import Reference
from sidecar.gate.request import Raw, Reading, Request, read
from sidecar.gate.routing import Route
from sidecar.gate.statement import Binding, Statement
from sidecar.gate.values import Type, from_text
from sidecar.gate.verdict import Refused
from sidecar.net.connection import Fault
from sidecar.net.pool import Origin, Pool
from sidecar.net.upstream import Upstream
from sidecar.record.reasons import Reason
from sidecar.release.items import ItemsRule
from sidecar.release.lines import LinesRule
from sidecar.run.deciding import Deciding
from sidecar.run.parts import Prepared
from sidecar.sign_in.hosted import domain_origin
from sidecar.sign_in.user_pool import api_endpoint
from sidecar.trust.alb import key_base
from sidecar.trust.download import Proxy

NOBODY = "sidecar-check"
"""The id that lookups are asked for: nothing has it."""
REDIS_WITHIN = 2.0
"""Seconds for Redis' first answer: more than a request waits, since the first connection takes longer than the next."""
_TEXTS = {Type.INT: "0", Type.NUMBER: "0", Type.BOOL: "false"}
"""Text in place of a reference of a type; of a string it is NOBODY."""
_OF_DATABASES = {
    Reason.CONNECTION_REFUSED: "start the server, or mend host and port of the URL in the lookup's variable",
    Reason.CONNECTION_TIMEOUT: (
        "mend the host of the URL in the lookup's variable, or look at firewalls and network policies between"
    ),
    Reason.NAME_NOT_FOUND: "mend the host of the URL in the lookup's variable",
    Reason.CERTIFICATE_UNKNOWN_CA: (
        "name a PEM file with the CA of the server's certificate in the URL: `sslrootcert` for PostgreSQL, `ssl_ca` "
        "for MySQL and MariaDB"
    ),
    Reason.CERTIFICATE_NAME: "name the server in the URL as its certificate does, or mend the certificate",
    Reason.CERTIFICATE_REQUIRED: (
        "name a certificate and its key in the URL: `sslcert` and `sslkey`, or `ssl_cert` and `ssl_key`"
    ),
    Reason.NOT_TLS: (
        "let the server offer TLS; take `ssl…` out of the URL only where nobody else is in the network between"
    ),
    Reason.STATEMENT_INVALID: "mend the statement or its `parameters`, or create what it names in the database",
}
"""Next steps of a database, where that of a reason speaks of HTTP."""
_SAMPLES = {
    Binding.STRING: NOBODY, Binding.INT: "0", Binding.NUMBER: "0", Binding.BOOL: "false",
    Binding.UUID: "00000000-0000-0000-0000-000000000000",
}  # fmt: skip


class Level(StrEnum):
    """Weight of a finding, as in `sidecar check` without the probe."""

    PROBLEM = "problem"
    WARNING = "warning"
    NOTE = "note"


class ProbeResult(NamedTuple):
    """One line about one server; nothing secret is in it."""

    level: Level
    text: str


async def probe(prepared: Prepared, *, app: bool) -> list[ProbeResult]:
    """Ask each server once, within its own timeout, and close `prepared`. Without `app` no setting names the protected
    app."""
    deciding, upstream = prepared.deciding, prepared.parts.upstream
    settings, routes = deciding.settings, deciding.configured.routes
    # these load libraries as they begin, and have time for it: beside them the others would be late
    patient = [_keys(deciding), _redis(deciding), *(_server(place, url) for place, url in _servers(settings))]
    quick = [
        *(_lookup(deciding, lookup, app=app) for lookup in routes.lookups.values()),
        _pdp(deciding),
        *_apps(settings, routes, upstream, app=app),
    ]  # fmt: skip
    try:
        return [finding for work in (patient, quick) for found in await asyncio.gather(*work) for finding in found]
    finally:
        await deciding.aclose()
        await upstream.aclose()


def _apps(
    settings: Settings, routes: RoutesFile, upstream: Upstream, *, app: bool
) -> Iterator[Awaitable[list[ProbeResult]]]:  # fmt: skip
    """Yield a look at each app, that of the settings first."""
    named = routes.table.upstreams
    if app:
        yield _connection("SIDECAR_UPSTREAM", settings.upstream, upstream.reach)
    elif not named:
        yield _no_app()
    for each in named:
        yield _connection(f"{settings.routes}: upstreams.{each.name}", each.url, partial(upstream.reach, each))


def _request(settings: Settings, route: Route | None) -> Request:
    """Make a request of nobody, under a host that is listed."""
    hosts = route.hosts if route is not None and route.hosts else sorted(settings.hosts or ("localhost",))
    host = hosts[0].replace("*", "any").encode("ascii")
    return read(Raw("GET", b"/", [(b"host", host)], "", "https", NOBODY), Reading())


def _place(settings: Settings, mark: Mark) -> str:
    return str(Problem(settings.routes, mark.line, mark.column, mark.path))


# --- lookups ---


async def _lookup(deciding: Deciding, lookup: Lookup, *, app: bool) -> list[ProbeResult]:
    """Ask a source for an id that nobody has."""
    settings, routes = deciding.settings, deciding.configured.routes
    route, kind = _asked_for(routes, lookup.name)
    place = _place(settings, routes.lookup_marks[lookup.name])
    inquiry = lookup.inquiry
    upstream = route.upstream if route is not None else None
    if isinstance(inquiry, AppInquiry) and upstream is None and not app:
        return [ProbeResult(Level.NOTE, f"{place}: not asked, since SIDECAR_UPSTREAM is not set")]
    question = _question(inquiry, kind)
    if question is None:
        return [ProbeResult(Level.NOTE, f"{place}: not asked, since it is asked as a principal")]
    values = tuple((place, _value_for(part, kind)) for place, part in lookup.places.items())
    asked = inquiry.sample_id(_SAMPLES, NOBODY) if isinstance(inquiry, Statement) else NOBODY
    call = Call(lookup, question, asked, values=values)
    if isinstance(inquiry, AppInquiry):
        call = call._replace(app=inquiry.warrant(call, _request(settings, route), (), upstream))
    # a query may have a key in it
    shown = inquiry.shown(question) if isinstance(inquiry, Statement) else inquiry.shown(question).partition("?")[0]
    try:
        reply = await deciding.hooks.ask(call)
    except Refused as refused:
        if refused.code is Code.REFERENCE_INVALID:
            text = "it runs, and takes no such id, as where ids have another form"
            return [ProbeResult(Level.NOTE, f"{place}: {shown}: {text}")]
        text = f"found no answer ({_why(refused, lookup)}), expected {_expected(inquiry)}: {_mend(inquiry, refused)}"
        return [ProbeResult(Level.PROBLEM, f"{place}: {shown}: {text}")]
    level, text = _of_status(inquiry, reply) or _of_answer(call, reply)
    if lookup.batch is not None and reply.status == 404:
        text = "it has nothing of such an id"
    return [ProbeResult(level, f"{place}: {shown}: {text}")]


def _expected(inquiry: Inquiry) -> str:
    if isinstance(inquiry, Statement):
        return "one row, or none"
    return "a dict, or None" if isinstance(inquiry, Function) else "404 or JSON"


def _mend(inquiry: Inquiry, refused: Refused) -> str:
    fault = refused.__cause__
    if isinstance(inquiry, Statement) and isinstance(fault, Fault):
        return _OF_DATABASES.get(fault.reason, fault.reason.remedy)
    if isinstance(inquiry, Function):
        return "mend the function or `timeout`"
    if isinstance(inquiry, AppInquiry):
        return "start the app, or mend the path or `timeout`"
    if isinstance(inquiry, Statement):
        return "mend the statement or its `parameters`"
    return "start the hook, or mend the URL or `timeout`"


def _asked_for(routes: RoutesFile, lookup: str) -> tuple[Route | None, str]:
    """Return the first route that asks a lookup, and the kind that it asks for."""
    for route in routes.table.routes:
        for _, ask in route.questions:
            if lookup in ask.lookups:
                return route, ask.kind
            match ask.answer:
                case (ItemsRule() as rule) | LinesRule(items=rule) if lookup in rule.lookups:
                    return route, rule.kind
                case _:
                    pass
    return None, NOBODY


def _question(inquiry: Inquiry, kind: str) -> str | None:
    """Fill a question without a request; None where it needs who asks."""
    match inquiry:
        case Hook():
            return _target(inquiry.target, kind)
        case AppInquiry(as_principal=False):
            return _target(inquiry.target, kind)
        case Function(as_principal=False):
            return inquiry.question(kind, NOBODY, None)
        case Statement():
            return inquiry.sample(_SAMPLES, kind)
        case _:
            return None


def _target(parts: Sequence[str | Reference | ResourceField], kind: str) -> str:
    return "".join(part if type(part) is str else _filled(part, kind) for part in parts)


def _filled(part: str | Reference | ResourceField, kind: str) -> str:
    return "{ids}" if part is ResourceField.IDS else quote(_text_for(part, kind), safe="")


def _value_for(part: Reference | ResourceField, kind: str) -> object:
    return from_text(part.type, _text_for(part, kind)) if isinstance(part, Reference) else _text_for(part, kind)


def _text_for(part: str | Reference | ResourceField, kind: str) -> str:
    if isinstance(part, Reference):
        return _TEXTS.get(part.type, NOBODY)
    return kind if part is ResourceField.KIND else NOBODY


def _of_status(inquiry: Inquiry, reply: Reply) -> tuple[Level, str] | None:
    """Judge a status but 200."""
    if reply.status == 200:
        return None
    if reply.status == 404:
        return Level.NOTE, "it runs, and has no such row" if isinstance(inquiry, Statement) else "it answered 404"
    if reply.status in (400, 422):
        return Level.NOTE, f"it answered {reply.status}, as a hook may whose ids have another form"
    if reply.status in (401, 403):
        has_token = isinstance(inquiry, Hook | AppInquiry) and inquiry.bearer
        how = "give the variable of `bearer_env` a token that it takes" if has_token else "name one by `bearer_env`"
        return Level.PROBLEM, f"found status {reply.status}, expected it to take the sidecar's token: {how}"
    if 300 <= reply.status < 400:
        return Level.PROBLEM, f"found a redirect ({reply.status}), expected an answer: name the URL that it leads to"
    return Level.PROBLEM, f"found status {reply.status}, expected 404 or JSON: look into the hook's log"


def _of_answer(call: Call, reply: Reply) -> tuple[Level, str]:
    """Judge an answer of status 200 as the gate does."""
    lookup = call.lookup
    is_about_id = ResourceField.ID in lookup.inquiry.values
    try:
        found = attributes_from(call, reply)
    except Refused as refused:
        why = _why(refused, lookup)
        if refused.code is not Code.LOOKUP_MISMATCH:
            return (
                Level.PROBLEM,
                f"found an answer that cannot be read ({why}), expected JSON: mend the hook or its URL",
            )
        if refused.about_another or not is_about_id:
            return Level.NOTE, "it answered with JSON"
        return Level.WARNING, (
            f"found status 200 for an id that nobody has, without an attribute that is read ({why}), "
            f"expected 404: as it is, `missing: {lookup.missing}` does not apply, and the request fails"
        )
    if not is_about_id or (lookup.missing is Missing.EMPTY and not found):
        return Level.NOTE, "it answered with JSON"
    return Level.WARNING, (
        f"found status 200 with every attribute for the id {NOBODY!r}, which nobody has, expected 404: policies decide "
        f"about what is not there, and `missing: {lookup.missing}` does not apply"
    )


def _why(refused: Refused, lookup: Lookup) -> str:
    """Return the reason of a refusal; the line names the lookup already."""
    return refused.detail.removeprefix(f"lookups.{lookup.name}").lstrip(".: ")


# --- keys, decisions, sessions ---


async def _keys(deciding: Deciding) -> list[ProbeResult]:
    """Fetch the key sets. A pool has two issuers, and needs the keys of one."""
    settings, routes = deciding.settings, deciding.configured.routes
    places = [_place(settings, mark) for mark in routes.identity_marks] or [_key_setting(settings)] * len(
        deciding.configured.trust.groups
    )
    troubles = await deciding.configured.keys.troubles()
    return [_of_keys(place, trouble) for place, trouble in zip(places, troubles, strict=True)]


def _key_setting(settings: Settings) -> str:
    if settings.jwks_url:
        return "SIDECAR_JWKS_URL"
    return "AWS_ENDPOINT_URL_COGNITO_IDENTITY_PROVIDER" if settings.cognito_endpoint else "AWS_COGNITO_POOL_ID"


def _of_keys(place: str, troubles: Mapping[str, str]) -> ProbeResult:
    """Judge the key sets of one pool."""
    good = next((url for url, trouble in troubles.items() if not trouble), None)
    if good is not None:
        return ProbeResult(Level.NOTE, f"{place}: {_without_query(good)} has usable keys")
    url, trouble = next(iter(troubles.items()))
    text = f"found no usable keys at {_without_query(url)} ({trouble}), expected a JWKS with RS256 keys"
    return ProbeResult(Level.PROBLEM, f"{place}: {text}: mend the address, or the network to it")


def _without_query(url: str) -> str:
    return url.partition("?")[0]


async def _pdp(deciding: Deciding) -> list[ProbeResult]:
    """Ask a PDP that is not ours whether it serves."""
    settings = deciding.settings
    if deciding.embedded is not None:
        return []
    setting, where = ("SIDECAR_PDP", settings.pdp) if settings.pdp else ("SIDECAR_CERBOS", settings.cerbos)
    trouble = await deciding.pdp.trouble()
    if not trouble:
        return [ProbeResult(Level.NOTE, f"{setting}: {where} serves")]
    how = "start it, or mend its address, its TLS settings or its token"
    return [
        ProbeResult(Level.PROBLEM, f"{setting}: found that {where} does not serve ({trouble}), expected it to: {how}")
    ]


async def _redis(deciding: Deciding) -> list[ProbeResult]:
    """PING the Redis of sessions."""
    settings = deciding.settings
    if deciding.browser is None or not settings.redis_url:
        return []
    # a fifth of the time to start, for those who have a Redis
    from sidecar.sessions.redis_link import RedisLink

    link = RedisLink(settings.redis_url, deadline=REDIS_WITHIN)
    try:
        await link.within(link.redis.ping)
    except Refused as refused:
        text = (
            f"found no answer to PING ({refused.detail}), expected PONG: start Redis, or mend its address or password"
        )
        return [ProbeResult(Level.PROBLEM, f"SIDECAR_REDIS_URL: {text}")]
    finally:
        await link.aclose()
    return [ProbeResult(Level.NOTE, "SIDECAR_REDIS_URL: Redis answers")]


# --- connections alone ---


def _servers(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield the servers of a sign-in that nothing can be asked, or the proxy before them: the setting that names each,
    and its URL."""
    proxy = Proxy(settings.https_proxy, settings.no_proxy)
    for setting, url in _asked(settings):
        parts = urlsplit(url)
        if parts.scheme == "https" and proxy.is_for(parts.hostname or ""):
            before = urlsplit(proxy.url)
            yield "HTTPS_PROXY", f"{before.scheme}://{before.netloc.rpartition('@')[2]}"
        else:
            yield setting, url


def _asked(settings: Settings) -> Iterator[tuple[str, str]]:
    if "hosted" in settings.login_modes:
        yield "AWS_COGNITO_DOMAIN", domain_origin(settings.domain, settings.region)
    if settings.login_modes and settings.pool_id:
        setting = "AWS_ENDPOINT_URL_COGNITO_IDENTITY_PROVIDER" if settings.cognito_endpoint else "AWS_REGION"
        yield setting, api_endpoint(settings.region, settings.cognito_endpoint)
    for base in dict.fromkeys(map(key_base, settings.alb_signers)):
        yield "SIDECAR_ALB_SIGNER", base


async def _server(place: str, url: str) -> list[ProbeResult]:
    """Connect to a server with the CAs that it is asked with later."""
    parts = urlsplit(url)
    origin = f"{parts.scheme}://{parts.netloc}"
    tls = httpx.create_ssl_context(trust_env=False) if parts.scheme == "https" else None
    pool: Pool[None] = Pool(Origin.parse(origin), tls=tls)
    try:
        return await _connection(place, origin, pool.reach)
    finally:
        await pool.aclose()


async def _no_app() -> list[ProbeResult]:
    return [ProbeResult(Level.NOTE, "SIDECAR_UPSTREAM: not set, so no app was connected to")]


async def _connection(place: str, where: str, reach: Callable[[], Awaitable[None]]) -> list[ProbeResult]:
    try:
        await reach()
    except Fault as fault:
        text = f"found no connection to {where} ({fault}), expected one: {fault.reason.remedy}"
        return [ProbeResult(Level.PROBLEM, f"{place}: {text}")]
    return [ProbeResult(Level.NOTE, f"{place}: {where} takes connections")]
