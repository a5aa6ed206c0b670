"""Who may see the console, and what it tells in Cerbos' own words. How it looks is tested with a browser."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from cerbos.request.v1.request_pb2 import CheckResourcesRequest
from google.protobuf import json_format

from sidecar.demo.cognito import LocalCognito
from sidecar.gate.decision import Question, Resource
from sidecar.gate.identity import Principal
from sidecar.pages.console import question_json
from sidecar.pdp.cerbos_messages import entries_of, message_of, principal_of
from tests.browser.conftest import ROUTES, environ_of
from tests.stack import ROOT, Got, Recorder, Sidecar, Web, running_sidecar

QUESTION = Question(
    "r1", Principal("a", ("user",), {"n": 1.5, "l": ["x", True, None]}, "i", 0.0, {}),
    (Resource("contact", "1", "read", {"owner": "a", "deep": {"x": "y"}}), Resource("contact", "2", "read", {}, (), "acme.eu")),
)  # fmt: skip


def test_what_is_shown_is_what_is_asked() -> None:
    told = CheckResourcesRequest.FromString(
        message_of(QUESTION.request_id, principal_of(QUESTION.principal), entries_of(QUESTION.resources))
    )
    shown = json_format.ParseDict(json.loads(json.dumps(question_json(QUESTION))), CheckResourcesRequest())
    assert shown == told


@pytest.fixture(scope="module")
def app() -> Iterator[Recorder]:
    upstream = Recorder()
    yield upstream
    upstream.close()


@pytest.fixture(scope="module")
def sidecar(cognito: LocalCognito, app: Recorder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    folder, environ = tmp_path_factory.mktemp("console"), environ_of(cognito, SIDECAR_CONSOLE_ADMIN="admin")
    with running_sidecar(
        folder, ROUTES, ROOT / "policies", f"http://127.0.0.1:{app.port}", environ, shared=True
    ) as running:
        yield running


LOOKING = """\
version: 1
principal: {{id: username, roles: "cognito:groups"}}
lookups:
  contact: {{url: "http://127.0.0.1:{hook}/internal/{{id}}", attributes: {{owner: owner_id}}, missing: {missing}}}
routes:
  - {{path: "/contacts/{{id}}", resource: contact, id: "{{path.id}}", lookup: contact, actions: {{GET: read, PUT: update}}}}
"""


@pytest.fixture(scope="module", params=["deny", "hide"])
def looking(
    cognito: LocalCognito, app: Recorder, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Sidecar]:
    """A console whose routes look resources up: contact 1 is alice's, 2 somebody else's, and 3 is none."""
    hook = Web()
    for number, owner in ((1, "alice"), (2, "somebody-else")):
        hook.json(f"/internal/{number}", {"id": number, "owner_id": owner})
    routes = LOOKING.format(hook=hook.port, missing=request.param)
    folder, environ = tmp_path_factory.mktemp("looking"), environ_of(cognito, SIDECAR_CONSOLE_ADMIN="admin")
    with running_sidecar(
        folder, routes, ROOT / "policies", f"http://127.0.0.1:{app.port}", environ, shared=True
    ) as running:
        yield running
    hook.close()


def way(sidecar: Sidecar, token: str, path: str, query: str = "") -> str:
    """The page on a PUT, in the form of its table and of its way, without the path that was typed."""
    got = sidecar.get(f"/_sidecar/console?method=PUT&path={path}&path-0={path}{query}", token)
    assert got.status == 200
    return got.body.decode().replace(path, "-")


def test_a_refused_request_tells_nothing_of_what_was_looked_up(looking: Sidecar, cognito: LocalCognito) -> None:
    """Neither whose it is, nor where it was looked up, nor what Cerbos was asked, nor whether it is there at all."""
    others, nobodys = (way(looking, cognito.token("alice"), f"/contacts/{number}") for number in (2, 3))
    for secret in (
        "somebody-else",
        "/internal/",
        "EFFECT_DENY",
        "Question to Cerbos",
        "Derived roles",
        "no such thing",
    ):
        assert secret not in others + nobodys
    assert "denied_by_policy" in others or "resource_hidden" in others
    # reading is allowed where there is something to read: only the way differs, and not by what is told of it
    verdict = re.compile(r'id="verdict".*?</dl>', re.DOTALL)
    assert verdict.search(others)[0] == verdict.search(nobodys)[0]  # type: ignore[index]


def test_an_allowed_request_tells_its_whole_way(looking: Sidecar, cognito: LocalCognito) -> None:
    own = way(looking, cognito.token("alice"), "/contacts/1")
    for told in ("/internal/1", "Question to Cerbos", "EFFECT_ALLOW", "&#34;owner&#34;: &#34;alice&#34;"):
        assert told in own


def test_an_admin_is_told_the_truth_of_another(looking: Sidecar, cognito: LocalCognito) -> None:
    admin = cognito.token("admin")
    others, nobodys = (way(looking, admin, f"/contacts/{number}", "&as=bob&roles=user") for number in (2, 3))
    assert "somebody-else" in others
    assert "EFFECT_DENY" in others
    assert "denied_by_policy" in others
    assert "no such thing" in nobodys
    assert "resource_missing" in nobodys or "resource_hidden" in nobodys


LIST = """\
version: 1
principal: {id: username, roles: "cognito:groups"}
routes:
  - path: /contacts
    resource: contact
    query: []
    actions: {GET: list}
    items: {at: "@", id: id, attributes: {owner: owner_id, visibility: visibility}, fields: {phone: view_phone}}
  - {path: /watched, resource: contact, query: [], actions: {GET: delete}, mode: shadow}
  - {path: /looked-up, resource: contact, query: [], actions: {GET: list}, items: {at: "@", id: id, lookup: contact}}
lookups:
  contact: {function: "console_owners:of", batch: true, attributes: {owner: owner, visibility: visibility}}
"""
OWNERS = """\
def of(request):
    return {one: {"owner": "alice", "visibility": "private"} for one in request.ids if one == "1"}
"""
CONTACTS = [
    {"id": 1, "owner_id": "alice", "visibility": "private", "phone": "1"},
    {"id": 2, "owner_id": "bob", "visibility": "team", "phone": "2"},
    {"id": 3, "owner_id": "bob", "visibility": "private", "phone": "3"},
]


@pytest.fixture(scope="module")
def listing(cognito: LocalCognito, app: Recorder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    folder, environ = tmp_path_factory.mktemp("listing"), environ_of(cognito, SIDECAR_CONSOLE_ADMIN="admin")
    (folder / "console_owners.py").write_text(OWNERS)
    with running_sidecar(
        folder, LIST, ROOT / "policies", f"http://127.0.0.1:{app.port}", environ, shared=True
    ) as running:
        yield running


def judged(sidecar: Sidecar, token: str, answer: str, path: str = "/contacts") -> Got:
    fields = {"as": "alice", "roles": "user", "method": "GET", "path": path, "answer": answer}
    body, kind = urlencode(fields).encode(), "application/x-www-form-urlencoded"
    return sidecar.request("POST", "/_sidecar/console", token, body, content_type=kind)


def test_an_admin_judges_an_answer_item_by_item(listing: Sidecar, cognito: LocalCognito, app: Recorder) -> None:
    before = len(app.seen)
    admin = cognito.token("admin")
    page = judged(listing, admin, json.dumps(CONTACTS)).body.decode()
    assert "2 of 3 items are shown, 1 without fields" in page
    rows = re.findall(r"<tr><td><code>(\d)</code>.*?(kept|dropped)</span></td><td>(\w*)</td>", page)
    assert rows == [("1", "kept", ""), ("2", "kept", "phone"), ("3", "dropped", "")]
    broken = judged(listing, admin, '[{"id": 1}]').body.decode()
    assert "items_unreadable" in broken
    assert "attributes.owner: found nothing" in broken
    assert len(app.seen) == before


def test_an_item_that_a_lookup_does_not_have_is_told_as_such(listing: Sidecar, cognito: LocalCognito) -> None:
    admin = cognito.token("admin")
    page = judged(listing, admin, '[{"id": 1}, {"id": 2}]', "/looked-up").body.decode()
    assert "1 of 2 items are shown" in page
    rows = re.findall(r"<tr><td><code>(\d)</code>.*?(kept|dropped)</span>.*?<td>([^<]*)</td></tr>", page)
    assert rows[-1] == ("2", "dropped", "a lookup does not have it")
    page = judged(listing, admin, '[{"id": 2}]', "/looked-up").body.decode()
    assert "0 of 1 items are shown" in page


def test_an_admin_is_told_in_which_mode_a_request_is(listing: Sidecar, cognito: LocalCognito) -> None:
    told = "<dt>Mode</dt><dd>shadow, which forwards it and records the refusal</dd>"
    page = "/_sidecar/console?method=GET&path=/watched"
    for who, query, is_told in (("admin", "&as=bob&roles=user", True), ("alice", "", False)):
        got = listing.get(page + query, cognito.token(who)).body.decode()
        assert ("denied_by_policy" in got, told in got) == (True, is_told)
    assert (
        "<dt>Mode</dt>"
        not in listing.get("/_sidecar/console?method=GET&path=/contacts", cognito.token("admin")).body.decode()
    )


def test_nobody_else_may_judge_items_that_they_make_up(listing: Sidecar, cognito: LocalCognito) -> None:
    got = judged(listing, cognito.token("alice"), json.dumps(CONTACTS))
    assert (got.status, got.code) == (403, "denied_by_policy")
    page = listing.get("/_sidecar/console?method=GET&path=/contacts", cognito.token("alice")).body.decode()
    assert "Judge this answer" not in page
    assert (
        "Judge this answer"
        in listing.get("/_sidecar/console?method=GET&path=/contacts", cognito.token("admin")).body.decode()
    )


def test_nobody_who_is_not_signed_in_sees_it(sidecar: Sidecar) -> None:
    got = sidecar.get("/_sidecar/console", accept="text/html")
    assert (got.status, got.header("location")) == (302, "/_sidecar/login?return_to=/_sidecar/console")
    assert sidecar.get("/_sidecar/console").status == 401


@pytest.mark.parametrize(
    ("query", "user", "status"),
    [
        ("", "alice", 200), ("?as=bob&roles=user", "alice", 403), ("?as=bob&roles=user", "admin", 200),
        ("?as=bob&attributes=[]", "admin", 400), ("?as=bob&attributes={", "admin", 400), ("?path=/x&path=/y", "alice", 400),
        ("?method=TRACE&path=/me", "alice", 200), ("?method=GET&path=/..%252f", "alice", 200), ("?path-4=//", "alice", 200),
    ],
)  # fmt: skip
def test_what_may_be_asked(
    sidecar: Sidecar, app: Recorder, cognito: LocalCognito, query: str, user: str, status: int
) -> None:
    before = len(app.seen)
    got = sidecar.get(f"/_sidecar/console{query.replace('{', '%7B').replace('[]', '%5B%5D')}", cognito.token(user))
    assert got.status == status
    assert len(app.seen) == before


def test_no_token_is_in_it(sidecar: Sidecar, cognito: LocalCognito) -> None:
    token = cognito.token("alice")
    got = sidecar.get("/_sidecar/console?path=/me", token).body.decode()
    assert token.split(".")[2] not in got
    assert "&#34;username&#34;: &#34;alice&#34;" in got


def test_it_can_be_switched_off(cognito: LocalCognito, app: Recorder, tmp_path: Path) -> None:
    environ = environ_of(cognito, SIDECAR_CONSOLE="off")
    with running_sidecar(
        tmp_path, ROUTES, ROOT / "policies", f"http://127.0.0.1:{app.port}", environ, shared=True
    ) as sidecar:
        assert sidecar.get("/_sidecar/console", cognito.token("alice")).code == "route_unmapped"
