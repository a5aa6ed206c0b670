"""Write docs/reference/ from the code. `python scripts/reference.py` writes; the test in tests/test_docs.py compares."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from sidecar.cli import parser
from sidecar.config import units
from sidecar.config.routes import grammar
from sidecar.config.setting_table import GROUPS, SETTINGS, Setting
from sidecar.config.shapes import ListOf, MapOf, Record, RecordAndMap, Shape, Short, TextOr
from sidecar.demo.run import parser as demo_parser
from sidecar.doors.answer import status_of
from sidecar.gate.codes import Code, Ground, Kind
from sidecar.gate.mode import OF_RULES
from sidecar.gate.own import ASSERTION, FORWARDED_FOR, FORWARDED_HOST, FORWARDED_PROTO, IDENTITY, REQUEST_ID
from sidecar.gate.routing import Pattern
from sidecar.gate.target import Oddity
from sidecar.record import line
from sidecar.record.line import (
    BrokenOff,
    CandidateDiffers,
    ConsoleAs,
    Decision,
    Line,
    QuestionLine,
    SignedIn,
    SignedOut,
    SignInFailedLine,
    UnreadLine,
)
from sidecar.record.metrics import BOUNDS, FAMILIES
from sidecar.record.question_log import AGAIN_AFTER, MAX_WAITING
from sidecar.record.questions import FIRST, MAX_ATTRIBUTE, MAX_PRINCIPALS
from sidecar.study import case_grammar
from sidecar.study.case_grammar import OneOrMore

FOLDER = Path(__file__).parent.parent / "docs" / "reference"


def settings() -> str:
    """docs/reference/settings.md"""
    return "\n".join(
        [
            "# Settings",
            "",
            f"Set each as an environment variable, or as a flag of {listed(f'`sidecar {name}`' for name in taking_settings())}:",
            f"a flag overrides the variable. The flag has the variable's name without `SIDECAR_`: `{SETTINGS[0].flag}` for `{SETTINGS[0].variable}`, `--aws-region` for",
            "`AWS_REGION` ([all flags](commands.md#settings-as-flags)). An unknown `SIDECAR_…` variable is an error.",
            "",
            units.FORMS,
            "",
            *(line for title, group in GROUPS.items() for line in _group_of_settings(title, group)),
        ]
    )


def _group_of_settings(title: str, group: Iterable[Setting]) -> list[str]:
    rows = [
        f"| `{s.variable}` | {s.doc} | {'required' if s.default is None else f'`{s.default}`' if s.default else ''} |"
        for s in group
    ]
    return [f"## {title}", "", "| variable | meaning | default |", "| --- | --- | --- |", *rows, ""]


def codes() -> str:
    """docs/reference/codes.md"""
    lines = [
        "# Codes",
        "",
        "Stable names. A refusal has its code in the problem body, the decision log and the metric. Where a code tells of a fault of",
        "something that the sidecar asks, the log's line has `dep` and `fault`, and so has the metric `sidecar_dep_errors_total`.",
        "",
    ]
    for kind in Kind:
        lines += [f"## {kind[0].upper()}{kind[1:]}", "", "| code | status | when | what to do | `dep`, `fault` |"]
        lines += ["| --- | --- | --- | --- | --- |", *(_code_row(code) for code in Code if code.kind is kind), ""]
    lines += [
        "## Let through",
        "",
        "In the decision log and the metric, a request that was let through has in the same place on what ground:",
        "",
        "| code | when |",
        "| --- | --- |",
        *(f"| `{ground}` | {ground.meaning} |" for ground in Ground if ground is not Ground.SHADOW),
        "",
        "## What `shadow-policy` only records",
        "",
        "In that mode these refuse nothing ([what each mode does](../guides/shadow-then-enforce.md#sign-in-first)): "
        + ", ".join(f"`{code}`" for code in Code if code in OF_RULES)
        + ".",
        "",
    ]
    return "\n".join(lines)


def _code_row(code: Code) -> str:
    fault = "" if code.dependency is None else f"`{code.dependency}`, `{code.fault}`"
    return f"| `{code}` | {status_of(code)} | {code.meaning} | {code.remedy} | {fault} |"


def _default(value: object) -> str:
    """A default as it would be written in the file."""
    if value in (None, "", (), {}):
        return ""
    if isinstance(value, tuple):
        return f"`[{', '.join(map(str, value))}]`"
    if isinstance(value, float):
        return f"`{value:g}s`" if value else ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value // 1024**2}MiB`" if isinstance(value, int) and value and value % 1024**2 == 0 else f"`{value}`"


def _rows(record: Record, prefix: str) -> list[str]:
    rows = []
    for name, field in record.fields.items():
        default = "required" if field.required else _default(field.default)
        rows.append(f"| `{prefix}{name}` | {field.doc} | {default} |")
        rows += _nested(field.shape, f"{prefix}{name}")
    return rows


def _nested(shape: Shape, name: str) -> list[str]:
    if isinstance(shape, Record):
        return _rows(shape, f"{name}.")
    if isinstance(shape, Short):
        return _rows(shape.record, f"{name}.")
    if isinstance(shape, TextOr | OneOrMore):
        return _nested(shape.other if isinstance(shape, TextOr) else shape.item, name)
    if isinstance(shape, RecordAndMap):
        return [*_nested(shape.record, name), *_nested(shape.others, name)]
    if isinstance(shape, ListOf | MapOf):
        inner = (shape.item, f"{name}[]") if isinstance(shape, ListOf) else (shape.value, f"{name}.*")
        return _nested(*inner)
    return []


SENT = (
    (
        ASSERTION,
        "with `SIDECAR_ASSERTION`: an ES256 JWT of 60 s at most, and never longer than the token that was presented: `iss` `authorization-sidecar`, `aud` the upstream's URL, `sub`, `roles`, `idp`. Its keys are at `/_sidecar/jwks.json`",
    ),
    (REQUEST_ID, "32 hexadecimal digits; that of a trusted proxy if it sent one"),
    (FORWARDED_FOR, "the client's address, after what a trusted proxy said"),
    (FORWARDED_PROTO, "the socket's scheme, or what a trusted proxy said"),
    (FORWARDED_HOST, "the request's `Host`, or what a trusted proxy said if `SIDECAR_HOSTS` lists it"),
)
TRACE_ROW = "| `traceparent`, `tracestate` | with `SIDECAR_TRACES`: the context of the request's `upstream` span, in place of the client's; the client's own otherwise |"
PATTERNS = {
    Pattern.INT: "a whole number without leading zeros, up to 19 digits",
    Pattern.UUID: "a UUID in lower case (RFC 9562 section 4)",
    Pattern.SLUG: "small letters, digits and inner hyphens, up to 128",
    Pattern.DEFAULT: "`[A-Za-z0-9._~+-]{1,128}`: what `{name}` alone takes",
    Pattern.ANY: "any segment that the canonical reading lets through",
}
ODDITIES = {
    Oddity.ENCODED_SLASH: "`%2F` in a segment",
    Oddity.ENCODED_PERCENT: "`%25` in a segment",
    Oddity.SEMICOLON: "`;` or `%3B` in a segment",
    Oddity.EMPTY_SEGMENT: "`//`",
    Oddity.REQUEST_BODY: "a body on GET, HEAD, DELETE or OPTIONS",
}


PRINCIPAL = """\
## What the principal is made of

<!-- example: routes.yaml -->
```yaml
version: 1
principal:
  id: sub
  roles: ["cognito:groups", {claim: "custom:groups", format: saml}]
  attributes:
    tenant: {claim: tenant, type: string}
    suspended: {claim: "custom:suspended", type: bool}
    team: "custom:team"
    email: {claim: email, from: id}
  optional: [team]
routes:
  - {path: /reports, resource: report, query: [page], actions: {GET: list}}
```

**Every attribute is required** unless it is in `optional`. If a token lacks the claim, or has null there, the sidecar answers 403
`claim_missing` before it asks a policy. Otherwise Cerbos might count a condition over the absent attribute as not met, and skip a rule
that denies by it. `public` and `authenticated` routes accept such a token. Write a rule over an optional attribute as
`has(request.principal.attr.team) && …`.

| `type` | accepted values |
| --- | --- |
| none | a string, number, boolean or list (of any JSON) as it is; the sidecar refuses an object |
| `string` | a string of 1 to 1024 characters without control characters |
| `number`, `int`, `bool` | that JSON type, or a string that is exactly one: `5`, `-0.25`, `true`; not `05`, `5.0`, `1e3`, `True` |
| `list` | a list of strings, numbers and booleans; never a string |
| `json` | any JSON, of at most five lists and objects within each other and 64 KiB |

Custom attributes of a user pool are strings in its tokens, whatever their type in the pool: without a type, `"true" == true` is never
true. A claim of another type is 403 `claim_invalid`, even an optional one. The log names the claim, what was found and what was
expected, and never the value; the client gets the code.

**Roles** reach Cerbos, `X-Auth-Roles` and the assertion sorted and without duplicates, whatever the token's order is. `cognito:groups`
must be a list: a string there is 401 `token_invalid`. Other claims may hold a list or, as `scope` does, a string of names with spaces
between them. `format: saml` reads the string `[a, b]`, which Cognito makes of a SAML attribute with several values. A name in it has no
comma, space or bracket, and any other string is 401 `token_invalid`.

**`from: id`** reads an attribute or roles from the id token that the user's [sign-in](../guides/sign-in.md) gave: Cognito puts `email`, `name`
and custom attributes there and not into access tokens. The session keeps the claims that `routes.yaml` names, and no others, and a renewal
brings new ones. A hosted UI may put `email` into the id token only if `AWS_COGNITO_SCOPES` asks for the scope `email`, and other attributes
for `profile`; that counts from the next sign-in on. A session that began before a claim was named is renewed at once, or ends if it can't be. A program that sends an access
token has no id token: such an attribute is 403 `claim_missing` unless it is in `optional`, and such roles are none. If the bearer token or
the session's token is itself an id token (`token_use: [id]`), its own claims count. A load balancer's session has no id token, and
`{claims.…}` never reads one.
""".splitlines()


ASKED = """\
## What a method asks

<!-- example: routes.yaml -->
```yaml
version: 1
lookups:
  file: {url: "http://127.0.0.1:9000/files/{id}", attributes: {owner: owner_id, folder: folder_id}, echo: id}
routes:
  - path: /files
    resource: file
    query: [page, limit]
    set_query: {owner: "{principal.id}"}
    actions:
      GET: list
      POST: {action: create, attributes: {owner: "{body.owner_id}"}}
  - path: "/files/{id:int}"
    resource: file
    id: "{path.id}"
    lookup: file
    query: []
    actions:
      GET: read
      PATCH: {action: move, attributes: {target: "{body.folder_id?}"}}
```

An action is a name, or a mapping with values of its own. **Each value in the mapping replaces the route's value**: its `attributes` are
all that this method has, and aren't added to the route's. HEAD asks what GET asks. Put a value that reads the body into the actions that
have a body; on the route it is an error for every method without one.

**References** read the request and the principal: `{path.…}`, `{query.…}`, `{header.…}`, `{body.…}` (JMESPath), `{claims.…}`,
`{principal.…}`, with `:string` (the default), `:number`, `:int`, `:bool`, `:list` or `:json` (maps and lists of maps). A `?` at the end (`{query.page?}`,
`{body.amount:number?}`) makes the value optional: without it the sidecar leaves the attribute out, and each rule over it needs `has(…)`.
Only attributes may be optional, and only if the reference is the whole value. A name in another spelling, a name that occurs twice, and
null don't count as absent: the sidecar judges them as strictly as ever. In a body, `?` works only with names that dots separate.
[References](references.md) explains each with an example.

**A lookup** asks one of these: a hook (`url`), [the app itself](../guides/ask-the-app.md) (`upstream`) or [a Python
function](../guides/python-lookups.md) (`function`).

**`lookup`** names a lookup, or reads the app's own answer: `{from: answer, attributes: {owner: owner_id}}`. Then the app answers a GET first, and
the sidecar releases its answer or not ([decide without a hook](../guides/without-a-hook.md)).

**`each`** is for a request about many resources, in place of `id` and `lookup`: `at` finds the list, and each element is decided by itself, with its
own `id`, `attributes` and `lookup`. All must be allowed. The route's `attributes` and `scope` are those of each element, too. Where an element and
the route both have an attribute, the element's counts, and the lookup's counts before both. [One request, many records](../guides/many-at-once.md)
shows it.

**`lookup` in `items`** names the lookups that are asked about each item of a list, many in one call. What it gives counts before what the item
says, and an item that it doesn't have is dropped. One without `batch` is for lists of 100 items at most (`max: 100`).
[Lists that don't say who owns what](../guides/look-up-items.md) shows it.

**`query`** lists the parameters that a client may send; another is 400 `query_not_allowed`. `[]` allows none, and `any` allows all,
explicitly. Without `query` a client may send all, too. A rule that reads `{query.owner}` then decides about only a part of what the
client asks the app for, as in `?owner=alice&_where=…`, and `check` warns. `check` also warns about `set_query` without `query`. A list
must have the names that the rule reads.

**`set_query`** adds parameters: a string with strings or ints of `{principal.…}`, `{claims.…}` and `{path.…}`. The sidecar silently
removes the client's parameters of that name in every spelling, whether `query` lists the name or not. It changes only the query: if an
app also reads parameters from a form (PHP's `$_REQUEST`), don't allow POST there. Behind another proxy, Envoy by gRPC, nginx and HAProxy
send the decided query. Traefik, Caddy and Envoy by HTTP can't, and get 501 `proxy_unable` unless the query is already right.
""".splitlines()


TO_APP = """\
## What the app is told

<!-- example: routes.yaml -->
```yaml
version: 1
principal: {id: sub, attributes: {email: email}, optional: [email]}
to_app:
  headers:
    Remote-User: "{principal.id}"
    Remote-Groups: "{principal.roles:list}"
    X-Forwarded-Email: "{principal.attributes.email?}"
  authorization: drop
routes:
  - {path: "/wiki/{page}", access: authenticated}
  - {path: "/git/{repository}", access: authenticated, to_app: {authorization: keep}}
  - {path: "/kiosk/{page}", access: authenticated, to_app: {headers: {}}}
```

Beside `X-Auth-Subject` and `X-Auth-Roles`, **`headers`** puts what you choose under the names that your app reads. A value is a text with
`{principal.…}` and `{claims.…}`; a `:list` is joined with `,`, and a number or boolean is written as in JSON. `{…?}` alone leaves the header
out if there is no value, and so does an empty list. Without the `?`, a principal without the value is 403 `claim_missing`, on routes that are
only `authenticated`, too. On a route, `headers` and `authorization` each replace the file's.

**No client can send these headers.** Each name in the file, at the top or on any route, is removed from every request on every route, in
any case and however often it occurs. A spelling with `_` or `.` is 400, and so is a `Connection` that names one. On a public route nobody
is known, so the header is only removed. A name that says something else about a request (`Host`, `Cookie`, `X-Forwarded-For`,
`Content-Type` and so on) is an error; of the `X-Forwarded-…` you can use `-User`, `-Email`, `-Groups`, `-Roles`, `-Tenant` and
`-Preferred-Username`.

**Values are ASCII.** Visible characters and the spaces between them stay; everything else, and `%`, `,` and `"`, is percent-encoded as
UTF-8: `Zoë Smith` is `Zo%C3%AB Smith`. So a name can't look like two in a list. Text with control characters or more than 1024 characters
is 403 `claim_invalid`. If one header would be over 8000 bytes, `X-Auth-Roles` included, the request is 403 `identity_header_too_large` and
nothing reaches the app: many servers don't take a longer one. In shadow mode nothing is refused, and such a header is left out.

| `authorization` | the client's `Authorization` |
| --- | --- |
| not given | the app gets a bearer token as it came. Another scheme is 401 `token_invalid`; on a public route the app gets any |
| `drop` | the app gets none. The sidecar judges it as ever |
| `keep` | a scheme other than `Bearer` (`Basic`, `Digest`, `Token`) belongs to the app: it doesn't identify anybody, and passes beside a [session](../guides/sign-in.md). Without a session it is 401 `token_missing`, or the way to the sign-in |

With a proxy that [asks the sidecar](../guides/beside-a-proxy.md#headers-of-to_app), the proxy's file needs a line for each header.""".splitlines()


LISTS = """\
## What of the app's answer is shown

<!-- example: routes.yaml -->
```yaml
version: 1
routes:
  - path: /contacts
    resource: contact
    query: [page, sort]
    actions: {GET: list, POST: create}
    items:
      at: data.rows
      id: id
      attributes: {owner: owner_id, shared: "acl.shared:bool"}
      optional: [shared]
      fields:
        phone: view_phone
        card.number: {action: view_card, mask: "****", parameters: [search]}
      total: [meta.total, header.x-count]
  - path: "/contacts/{id:int}"
    resource: contact
    id: "{path.id}"
    query: []
    actions: {GET: {action: read, fields: {phone: view_phone}}, PUT: update}
```

**`items`** is for a GET whose answer is a list: after the request is allowed, each item is asked about by itself, with the action `read` unless
`action` names another, and of the kind of the route unless `resource` names another. Items that are denied are left out, and the others stay
byte for byte. An item's `scope` is that of the request. [Show people only their own](../guides/only-their-own.md) begins with an app, and
says what happens to [totals](../guides/only-their-own.md#1-say-where-the-list-is) and [other headers](../guides/only-their-own.md#what-to-know).

**`fields`** names the action by which a field stays. On a route or an action it is about the one thing that the answer is, and within `items`
about each item. A query that searches or sorts by a field is refused unless its sender may see the field on every item
([hide a field](../guides/hide-a-field.md)).

An answer that can't be read as the route says is 502 `items_unreadable`, and nothing of it is shown
([what `detail` says](../guides/debug-a-502.md#a-list-that-cant-be-read)). Answers without content pass as they come, and so do errors and
redirects, unless they are JSON that has the list, or the fields: that is reduced like any other. The app is asked without `Range` and `Accept-Encoding`,
for GET without `If-…`, and for HEAD with GET.
""".splitlines()

BROWSERS_AND_METHODS = """\
## Preflights, methods, and what is said once

<!-- example: routes.yaml -->
```yaml
version: 1
routes:
  - &calendar
    path: /calendars/{id:int}
    resource: calendar
    id: "{path.id}"
    query: []
    cors: app
    actions: {GET: read, REPORT: read, MKCALENDAR: create}
  - {<<: *calendar, path: "/calendars/{id:int}.ics", actions: {GET: export}}
```

**Preflights.** With `cors: {origins: …}` the sidecar answers preflights of the origins in the list and marks the app's answers. With `cors: app`
the app does both. A preflight (OPTIONS with `Origin` and `Access-Control-Request-Method`) then goes to the app, without asking anybody, and
without cookies, `Authorization` and headers about a principal; the log says `preflight`. Nothing else passes that way: every other request on
the route is decided as ever, an OPTIONS that is no preflight, too. The sidecar's own refusals have no CORS headers then, so a page of
another origin sees only that the call failed. Pages of other origins can't use a session here: for that, list them with `credentials: true`.
If `cors` isn't given, OPTIONS is a method like any other, and a preflight of a route without it is 403 `cors_refused`.

**Methods.** `actions` and `methods` take every registered method (WebDAV, CalDAV, DeltaV) but CONNECT and TRACE, and other words in capitals with
a warning from `check`. A method is refused on every route that doesn't name it (405), with `defaults.access: authenticated`, too, unless it
is one of HTTP or WebDAV. `WS` is the word for a WebSocket.

**Merge keys.** `<<: *name` puts in what the mapping with the anchor `&name` has and this one doesn't say itself, also from several:
`<<: [*first, *second]`, where the first goes before the second. An error names the line where the value is written.""".splitlines()


def routes() -> str:
    """docs/reference/routes.md"""
    return "\n".join(
        [
            "# routes.yaml",
            "",
            "Your editor can use [`routes.schema.json`](routes.schema.json), which `sidecar schema` prints, too.",
            "",
            units.FORMS,
            "",
            "| name | meaning | default |",
            "| --- | --- | --- |",
            *_rows(grammar.FILE, ""),
            "",
            *ASKED,
            "",
            *LISTS,
            "",
            *PRINCIPAL,
            "",
            *TO_APP,
            "",
            *BROWSERS_AND_METHODS,
            "",
            "## Patterns of a path variable",
            "",
            "The sidecar tries them in this order, after literals and before `**`. A segment that its pattern refuses is 400.",
            "[References](references.md#patterns-of-a-path-variable) has an example of each.",
            "",
            "| pattern | accepted segments |",
            "| --- | --- |",
            *(f"| `{pattern}` | {PATTERNS[pattern]} |" for pattern in Pattern),
            "",
            "## Drafts",
            "",
            "A route with `draft: true` is read and checked as any other, and matches no request: its path is decided as if the route",
            "was not there, which is 403 `route_unmapped` unless another route or `defaults.access` says otherwise. With `draft: true` at",
            "the top every route is one; `sidecar run` does not start with such a file, and a reload leaves the running routes in force.",
            "`sidecar check` says how many routes are drafts. [`sidecar import`](../guides/import.md) writes such files.",
            "",
            "## What a route may `allow`",
            "",
            "Without `allow`, each of these is 400. Dot segments, control characters and `\\` are always 400, in every encoding.",
            "",
            "| name | accepted input |",
            "| --- | --- |",
            *(f"| `{oddity}` | {ODDITIES[oddity]} |" for oddity in Oddity),
            "",
        ]
    )


def metrics() -> str:
    """docs/reference/metrics.md"""
    aggregate = {
        "sum": "their sum",
        "max": "the largest",
        "min": "the smallest",
        "same": "whether it is the same in all",
    }
    rows = []
    for name, family in FAMILIES.items():
        shown = f"{name}_total" if family.kind == "counter" else name
        labels = ", ".join(f"`{label}`" for label in family.labels)
        rows.append(f"| `{shown}` | {family.kind} | {labels} | {family.doc} | {aggregate[family.aggregate]} |")
    lines = [
        "# Metrics",
        "",
        "On the admin port, `/metrics`, in Prometheus' format. The last column says what a metric is with",
    ]
    lines += [
        "`SIDECAR_WORKERS` of more than one: any of them shows those of all. No label's value comes from a client.",
        "",
    ]
    bounds = ", ".join(f"{bound:g}" for bound in BOUNDS)
    lines += [f"Histograms have buckets up to {bounds} seconds.", ""]
    return "\n".join(
        [*lines, "| name | type | labels | what | over several workers |", "| --- | --- | --- | --- | --- |", *rows, ""]
    )


def commands() -> str:
    """docs/reference/commands.md"""
    helps = {choice.dest: str(choice.help) for group in groups() for choice in group._choices_actions}
    parsers = {name: made for group in groups() for name, made in group.choices.items()} | {"demo": demo_parser()}
    lines = ["# Commands", "", "| command | what it does |", "| --- | --- |"]
    lines += [f"| [`sidecar {name}`](#sidecar-{name}) | {text} |" for name, text in helps.items()]
    lines += [
        "",
        "| exit code | meaning |",
        "| --- | --- |",
        "| 0 | done; for `explain`, the request would be forwarded |",
        "| 1 | an error, which stderr names; for `explain`, the request would be refused; for `check --warnings-as-errors`, a warning |",
        "| 2 | wrong usage, unless the command says otherwise below |",
        "| 3 | for `report --fail-on`, there is such a difference |",
        "",
        "`sidecar --version` prints the version, and `sidecar COMMAND --help` the flags of one command.",
        "",
    ]
    for name, made in parsers.items():
        lines += [f"## `sidecar {name}`", "", *ABOUT[name], "", *_flags_table(made)]
    rows = [
        f"| `{s.flag} VALUE` | [`{s.variable}`](settings.md#{slug(title)}) |"
        for title, group in GROUPS.items()
        for s in group
    ]
    lines += [
        "## Settings as flags",
        "",
        f"{listed(f'[`{name}`](#sidecar-{name})' for name in taking_settings())} take all of these. A flag overrides its variable.",
        "",
        *["| flag | setting |", "| --- | --- |", *rows, ""],
    ]
    return "\n".join(lines)


def groups() -> list[argparse._SubParsersAction[argparse.ArgumentParser]]:
    """The commands of the command line, as argparse keeps them."""
    return [group for group in parser()._actions if isinstance(group, argparse._SubParsersAction)]


def taking_settings() -> list[str]:
    """The commands that take every setting as a flag."""
    flags = {setting.flag for setting in SETTINGS}
    return [
        name
        for group in groups()
        for name, made in group.choices.items()
        if flags <= {flag for action in made._actions for flag in action.option_strings}
    ]


def listed(words: Iterable[str]) -> str:
    """Words as a sentence lists them."""
    *before, last = words
    return f"{', '.join(before)} and {last}"


def slug(title: str) -> str:
    """The anchor of a heading."""
    return re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-")


ABOUT = {
    "run": [
        "Serves until SIGTERM. It takes [every setting as a flag](#settings-as-flags), such as `--upstream` for `SIDECAR_UPSTREAM`.",
    ],
    "check": [
        "Starts no sidecar. It runs the Cerbos binary, which tells its version and compiles the policies; one that tells no version is started",
        "for a moment, on a socket of its own. At each host to listen on it binds a free port, and gives it back at once.",
        "It takes [every setting as a flag](#settings-as-flags). Besides errors, it prints warnings on stderr: about routes and",
        "policies that work as written, but probably let through more than you mean ([what `check` says](../guides/policies.md#what-check-says)).",
        "It reports all errors at once. If a setting or a part of `routes.yaml` has one, `check` skips what depends on it instead of using its default, and a note",
        "says what it skipped.",
        "It opens connections only with `--probe` ([check the dependencies](../guides/operate.md#check-the-dependencies)).",
    ],
    "explain": [
        "Takes [every setting as a flag](#settings-as-flags). It asks the real lookup and the real Cerbos, and forwards nothing",
        "([debug a 403](../guides/debug-a-403.md#3-ask-again-and-see-what-the-policy-was-told)).",
    ],
    "draft": [
        "Reads question logs, and writes policies with a rule for what the app itself let through often enough, and tests of them",
        "([draft policies from traffic](../guides/draft-policies.md)). It opens no connection. Exit code 1: a file cannot be read or written, or",
        "the logs say nothing of the app.",
    ],
    "report": [
        "Reads decision and question logs, compares the sidecar's verdicts with the app's own status, and says whether it is time to",
        "enforce ([read the report](../guides/read-the-report.md)). It opens no connection. Exit code 1: a file cannot be read, or has",
        "no request; 3: there is what `--fail-on` names.",
    ],
    "import": [
        "Reads OpenAPI 3 and Swagger 2, HAR, Postman collections, and access logs of nginx, Apache, Caddy, Envoy and AWS ALB, several at once;",
        "asks nothing and starts nothing ([import](../guides/import.md)). Exit codes: 0 a draft was made, 1 a file cannot be used, or has no",
        "evidence of a route, 2 wrong usage, or the file of `--out` is there already.",
    ],
    "schema": [
        "Your editor can use the schemas of `routes.yaml` ([routes](routes.md)) and of [cases](cases.md), and your tools that of the decision log."
    ],
    "test": [
        "Takes [every setting as a flag](#settings-as-flags). It runs the cases of [a file](cases.md) through the sidecar's server, gate and pages and a",
        "Cerbos of its own, in the mode `enforce`, takes no port, and asks no lookup and no app ([test cases](../guides/test-cases.md)).",
        "It ends with 0 if all cases passed, 1 if one failed, and 2 if nothing could be run.",
    ],
    "coverage": [
        "Holds what was seen of the app, the routes, the policies and their tests against each other ([guide](../guides/coverage.md)). It takes [every",
        "setting as a flag](#settings-as-flags); `SIDECAR_ROUTES`, `SIDECAR_POLICIES` and `SIDECAR_CERBOS_BINARY` matter. It opens no connection. Exit codes:",
        "0 nothing is under what `--fail-under` demands, 1 something is, 2 what it is given can't be used.",
    ],
    "replay": [
        "Forwards nothing, and asks an embedded Cerbos of its own. Read [the guide](../guides/replay.md). Exit codes: 0 all decided as before, 1 a fault,",
        "wrong usage too, 2 changed, 3 widened beyond `--allow-widening`.",
    ],
    "inject": ["Read [the guide](../guides/kubernetes.md#injection) on how to deploy it."],
    "demo": ["Run it in a checkout. It ends on Ctrl-C or SIGTERM."],
}
"""The words above each command's flags."""


def _flags_table(made: argparse.ArgumentParser) -> list[str]:
    """The arguments and flags of one command, without the settings and `--help`."""
    settings_of_run = {setting.variable for setting in SETTINGS}
    own = [
        action
        for action in made._actions
        if action.dest not in settings_of_run and not isinstance(action, argparse._HelpAction)
    ]
    if not own:
        return []
    rows = [f"| `{_usage(action)}` | {str(action.help).replace('%%', '%')} |" for action in own]
    return ["| argument or flag | meaning |", "| --- | --- |", *rows, ""]


def _usage(action: argparse.Action) -> str:
    """An argument as one types it: its name, and its value if it takes one."""
    if not action.option_strings:
        return action.dest.upper()
    flag = action.option_strings[0]
    if action.nargs == 0:
        return flag
    value = " or ".join(action.choices) if action.choices else action.metavar or action.dest.upper()
    return f"{flag} {value}"


_AT = "2026-01-31T12:00:00.250+00:00"
_ID = "8c9b1f1d4f0e4c0f9f3a6f0b5d1c2e3a"
LINES: tuple[Line, ...] = (
    Decision(
        _AT, _ID, "enforce", "refuse", Code.RESOURCE_MISSING, 403, "PUT", "app.example.com", "/contacts/9", "/contacts/{id}",
        "alice", ("staff", "user"), "contact", "9", "update", "192.0.2.7",
        {"request": 0.031, "routing": 0.004, "identity": 0.022, "lookup": 1.87}, 2.104, told=Code.DENIED_BY_POLICY,
    ),
    UnreadLine(_AT, _ID, "enforce", "refuse", Code.REQUEST_INVALID, 400, "192.0.2.7"),
    BrokenOff(_AT, _ID, Code.UPSTREAM_PARTIAL, "/contacts/{id}"),
    SignedIn(_AT, _ID, "192.0.2.7", "alice"),
    SignInFailedLine(_AT, _ID, "192.0.2.7", "wrong_password"),
    SignedOut(_AT, _ID, "192.0.2.7", "alice"),
    ConsoleAs(_AT, _ID, "alice", "bob"),
    CandidateDiffers(
        _AT, _ID, "/contacts/{id}", "contact", "9", "read", "alice", ("staff", "user"), "allow", "deny",
        "resource.contact.vdefault", "resource.contact.vdefault", "0e3d4ff12ab98c55", "946adfca825cf747",
    ),
)  # fmt: skip
"""An example of each kind of line in the decision log."""
QUESTION = QuestionLine(
    _AT, _ID, "shadow", "shadow_refuse", Code.DENIED_BY_POLICY, 200, "GET", "app.example.com", "/contacts/9", "/contacts/{id}",
    "alice", ("staff", "user"), "contact", "9", "read", 6.3, 3, True, app_status=200, app_ms=3.1,
    attributes={"owner": "bob"}, principal_attributes={}, redacted=("resource.phone",), query=("page",),
    policy="resource.contact.vdefault", revision="0e3d4ff12ab98c55",
)  # fmt: skip


def decision_log() -> str:
    """docs/reference/decision-log.md"""
    lines = [
        "# The decision log",
        "",
        "One JSON object a line, in ASCII, on stdout or in the file that `SIDECAR_DECISION_LOG` names. Every request for the app has",
        'one line with `"event": "decision"`, whatever becomes of it; a WebSocket has a second where it is decided again and refused.',
        "`event` tells the other kinds of lines apart. No line has a query, a token or a cookie in it. Ids and roles of people, paths",
        "and addresses are there: keep the log no longer than you may keep those.",
        "",
        "The fields keep their names and types. A later version may add fields, and events: let your tools pass over what they do not",
        "know, as the schema does ([`decision-log.schema.json`](decision-log.schema.json), also printed by `sidecar schema --log`).",
        "A field that is added later is optional, so that lines of an earlier version stay valid.",
        "",
    ]
    for example in LINES:
        lines += _kind_of_line(example)
    return "\n".join([*lines, WHEN_IT_CANNOT_BE_WRITTEN])


def question_log() -> str:
    """docs/reference/question-log.md"""
    return "\n".join([QUESTION_LOG, *_kind_of_line(QUESTION), HOW_QUESTIONS_ARE_KEPT])


QUESTION_LOG = """# The question log

One JSON object a line, in ASCII, in the file that `SIDECAR_QUESTION_LOG` names: what was asked about a request, what the answer was, and
what the app itself answered. `report`, `draft`, `coverage` and `replay` read it. It is off without that setting, and costs nothing then.
Its lines have the schema of the [decision log](decision-log.md), with an event of their own.
"""

HOW_QUESTIONS_ARE_KEPT = f"""## What is in it, and what is not

- Never a token, a claim, a cookie, a header, a body, or a value of the query: of the query the names alone. `*` stands for a name
  that isn't followed by `=`, since it may be a value, and for one that is no plain word.
- Attributes of the resource and of the principal only where `SIDECAR_QUESTION_LOG_ATTRIBUTES` lists them: `owner` (or `resource.owner`),
  `principal.level`. There is no wildcard. The names of all others are in `redacted`, and `owner` lists those whose value is the
  principal's id, which is how a draft finds out who owns what. A value of more than {MAX_ATTRIBUTE // 1024} KiB of JSON is left out as well.
- Ids of people and things, their roles, and paths are in it, as in the decision log: keep it no longer than you may keep those. The file
  is readable by its owner alone.

List what your policies read: `replay` cannot judge a question of which an attribute is left out that a policy reads. `sidecar check` names
them.

## Which requests

A request belongs to a cell: its route, method, kind, action, roles, mode, verdict, `status` and `app_status`, and the attributes that are
the principal's id. Of each cell the first {FIRST} requests of an hour have a line, and each of a principal who is new to the cell (of the
first {MAX_PRINCIPALS}), so that what is rare is all there. Of the others one in ever more has a line. Its `weight` says how many requests
it stands for: the sum of all weights is the number of requests, but for those that `sidecar_question_log_lost_total` counts. Each hour,
and when the sidecar ends, a cell leaves a line for its last requests. A sidecar that is killed loses those, and up to half a second.

## How large it gets

`SIDECAR_QUESTION_LOG_SIZE` bounds all of its files together. At a quarter of it the file is renamed to `FILE.1`, that one to `FILE.2`, and
so on to `FILE.3`; give the commands all of them. Several workers append to one file. A line has some 600 bytes, so that 256 MiB hold
400,000 of them.

## When it cannot be written

The sidecar never waits for it: a thread writes. Where the disk has no room, or answers an error, it says so once on stderr, and
`sidecar_question_log_stopped` is 1. Up to {MAX_WAITING // 1024**2} MiB of lines wait, further ones are lost and counted, requests go on as
ever, and after {AGAIN_AFTER:g} seconds it tries again.
"""


WHEN_IT_CANNOT_BE_WRITTEN = """## When it cannot be written

The sidecar never waits for whoever reads the log. Lines that a pipe, socket or terminal doesn't take, and lines for which the disk has no
room, wait in memory, and the sidecar writes them as soon as it can. `sidecar_decision_log_waiting_bytes` counts them, and stderr says what
is wrong. With more than 4 MiB of waiting lines, `SIDECAR_DECISION_LOG_FULL` decides:

- `refuse`, the default: every further request is refused with 503 `log_unavailable`, before anybody is asked about it, and leaves no line.
  `/readyz` is 503 with `"log": false`. Requests under way still end, and leave their lines. So no request looks as if all were well and
  leaves no line.
- `drop`: requests are decided and forwarded as ever. Their lines are lost. The mode `shadow` always does this.

`sidecar_decision_log_lost_total` counts the requests without a line in both cases. `/livez` stays 200, and SIGTERM ends the process: the
reader has two seconds for the last lines, and stderr says how many bytes were lost. Lines that wait are lost if the process is killed.
Lines on stderr don't wait for a reader either: with more than 256 KiB of them, further lines there are dropped.
Where stdout and stderr are one pipe, socket or terminal (`2>&1`), no line of one breaks a line of the other, however slowly they are read;
nor do several workers break each other's lines in one pipe. In a socket or a terminal that several workers share, a line of more than 4 KiB
may be cut by another's where the reader is slow: give workers a pipe or a file.

To rotate a file, rename it: within half a second, or at once on SIGHUP, the sidecar opens the path again and makes the file if there is
none. Several workers append to one file, and the parent passes SIGHUP on to each. `copytruncate` works, too. logrotate
needs neither that nor a `postrotate`; use `delaycompress`, since the last lines may still go to the renamed file.

The sidecar writes to a regular file directly. A disk or network file system that answers nothing holds it up: to be safe from that, log to
stdout.
"""


def _kind_of_line(example: Line) -> list[str]:
    """The section of one kind of line."""
    kind = type(example)
    event = json.loads(line.write(example))["event"]
    rows = [
        f"| `{name}` | {shape.type.name} | {f'where {shape.when}' if shape.when else 'always'} | {shape.doc} |"
        for name, shape in line.shapes_of(kind).items()
    ]
    rows.insert(1, f"| `event` | `{event}` | always | kind of the line |")
    title = f"## `{event}`, of what no gate judged" if kind is UnreadLine else f"## `{event}`"
    return [
        title, "", str(kind.__doc__), "", "| field | type | there | meaning |", "| --- | --- | --- | --- |", *rows, "",
        "```json", line.write(example).rstrip(), "```", "",
    ]  # fmt: skip


def log_schema() -> str:
    """docs/reference/decision-log.schema.json"""
    return json.dumps(line.json_schema(), indent=2) + "\n"


def schema() -> str:
    """docs/reference/routes.schema.json"""
    return json.dumps(grammar.json_schema(), indent=2) + "\n"


def cases() -> str:
    """docs/reference/cases.md"""
    rows = _rows(case_grammar.FILE, "")
    at = next(at for at, row in enumerate(rows) if "`cases[].expect.sent`" in row) + 1
    rows[at:at] = _rows(case_grammar.SENT, "cases[].expect.sent.")
    return "\n".join([*CASES, "", "| name | meaning | default |", "| --- | --- | --- |", *rows, ""])


CASES = [
    "# A file of cases",
    "",
    "The input of `sidecar test` ([guide](../guides/test-cases.md)). Your editor can use [`cases.schema.json`](cases.schema.json), which",
    "`sidecar schema --cases` prints, too. Values are JSON, written as YAML: a date needs quotes.",
]


def cases_schema() -> str:
    """docs/reference/cases.schema.json"""
    return json.dumps(case_grammar.json_schema(), indent=2) + "\n"


def headers() -> str:
    """docs/reference/headers.md, whose first table is that of the code."""
    identity = [(header.name, header.meaning) for header in IDENTITY]
    table = [
        "| header | value |", "| --- | --- |",
        *(f"| `{name.decode().title()}` | {meaning} |" for name, meaning in [*identity, *SENT]), TRACE_ROW,
    ]  # fmt: skip
    page = (FOLDER / "headers.md").read_text(encoding="utf-8")
    before, begins, rest = page.partition("<!-- written by scripts/reference.py -->\n")
    _, ends, after = rest.partition("\n<!-- end -->\n")
    return "".join([before, begins, *(f"{row}\n" for row in table), ends, after])


PAGES = {
    "settings.md": settings, "codes.md": codes, "routes.md": routes, "metrics.md": metrics, "commands.md": commands, "headers.md": headers,
    "routes.schema.json": schema, "decision-log.md": decision_log, "question-log.md": question_log, "decision-log.schema.json": log_schema,
    "cases.md": cases, "cases.schema.json": cases_schema,
}  # fmt: skip


def main() -> int:
    """Write every page."""
    for name, make in PAGES.items():
        (FOLDER / name).write_text(make(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
