"""`routes.yaml` -> routes and lookups; every fault with file, line and column."""

import pytest

from sidecar.config.routes.file import RoutesError, read_routes
from sidecar.gate.claims import Claim
from sidecar.gate.identity import PrincipalRules
from sidecar.gate.lookup import Missing, ResourceField
from sidecar.gate.routing import Access
from sidecar.gate.values import Type
from tests.config.routes.reading import WHOLE, faults, hook_of, one_route, read
from tests.stack import ROOT


def test_the_whole_grammar_is_read() -> None:
    file = read(WHOLE)
    route = file.table.find(("contacts", "7"))
    assert route is not None
    assert (route.asks["PATCH"].kind, route.asks["PATCH"].lookup, route.actions["PATCH"]) == (
        "contact",
        ("contact",),
        "update",
    )
    lookup = file.lookups["contact"]
    assert hook_of(lookup).origin == "http://127.0.0.1:9000"
    assert hook_of(lookup).target == ("/internal/contacts/", ResourceField.ID)
    assert (lookup.timeout, lookup.cache, lookup.missing, lookup.optional) == (
        0.3,
        2.0,
        Missing.DENY,
        frozenset({"tenant"}),
    )
    assert file.principal.attributes["department"] == Claim("custom:department", Type.INT)
    assert file.identities[0].client_ids == ("web", "m2m")
    assert file.lookup_marks == {"contact": (11, 10, "lookups.contact.url")}
    assert file.identity_marks == ((3, 39, "identity[0].user_pool_id"),)
    healthz = file.table.find(("healthz",))
    assert healthz is not None
    assert healthz.access is Access.PUBLIC
    assert dict(healthz.actions) == {"GET": ""}


def test_decisions_are_remembered_only_where_the_file_says_so() -> None:
    route = "{path: /x, resource: r, actions: {GET: read}}"
    assert read(one_route(route)).decisions() is None
    assert read(one_route(route, "cache: {}\n")).decisions() is None
    assert read(one_route(route, "cache: {decisions: 0s}\n")).decisions() is None
    cache = read(one_route(route, "cache: {decisions: 1500ms}\n")).decisions()
    assert cache is not None
    assert cache.seconds == 1.5


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("cache: {decisions: 61s}", "routes.yaml:2:20: cache.decisions: found '61s', expected at most 60s"),
        ("cache: {decisions: 1}", "routes.yaml:2:20: "),
        ("cache: {decisions: -1s}", "routes.yaml:2:20: "),
        ("cache: {denials: 1s}", "cache: found the name 'denials'"),
        ("cache: 1s", "routes.yaml:2:8: "),
    ],
)
def test_a_cache_that_is_none_is_refused_with_its_place(more: str, says: str) -> None:
    with pytest.raises(RoutesError) as caught:
        read(one_route("{path: /x, resource: r, actions: {GET: read}}", more + "\n"))
    assert says in str(caught.value)


def test_what_is_left_out_has_a_safe_default() -> None:
    file = read(
        one_route(
            "{path: /x, resource: r, actions: {GET: read}}",
            "lookups: {l: {url: 'http://h/{id}', attributes: {a: b}}}\n",
        )
    )
    lookup = file.lookups["l"]
    assert (lookup.timeout, lookup.cache, lookup.missing, lookup.optional, hook_of(lookup).bearer) == (
        1.0,
        0,
        "deny",
        frozenset(),
        "",
    )
    assert file.principal.id == "sub"
    assert file.principal == PrincipalRules()
    assert file.table.find(("nowhere",)) is None


def test_a_draft_is_read_and_checked_but_not_in_force() -> None:
    routes = """\
routes:
  - {path: /a, access: public}
  - {path: "/{b}", draft: true, resource: b, id: "{path.b}", actions: {GET: read}}
"""
    read = read_routes(f"version: 1\n{routes}", "r.yaml", {})
    assert [route.name for route in read.table.routes] == ["/a"]
    assert [route.name for route in read.drafts] == ["/{b}"]
    assert read.table.find(("b",)) is None
    assert read.draft_mark is None
    whole = read_routes(f"version: 1\ndraft: true\n{routes}", "r.yaml", {})
    assert whole.table.routes == ()
    assert [route.name for route in whole.drafts] == ["/a", "/{b}"]
    assert whole.draft_mark is not None
    assert whole.draft_mark[:2] == (2, 8)
    not_draft = read_routes(f"version: 1\ndraft: false\n{routes.replace('true', 'false')}", "r.yaml", {})
    assert (len(not_draft.table.routes), not_draft.drafts, not_draft.draft_mark) == (2, (), None)


def test_a_fault_of_a_draft_is_told() -> None:
    text = """\
version: 1
draft: true
routes:
  - {path: /a, draft: true, resource: b, id: "{path.c}", actions: {GET: read}}
  - {path: /a, access: public}
"""
    with pytest.raises(RoutesError) as caught:
        read_routes(text, "r.yaml", {})
    assert [problem.line for problem in caught.value.problems] == [4, 5]


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("{client_ids: [a]}", "expected either region and user_pool_id, or issuer"),
        ("{region: eu-west-1, client_ids: [a]}", "expected both region and user_pool_id"),
        ("{issuer: 'https://i', client_ids: [a]}", "without jwks_url"),
        ("{issuer: 'https://i', jwks_url: 'https://k', region: eu-west-1, client_ids: [a]}", "expected either"),
        ("{issuer: 'https://i', jwks_url: 'https://k', client_ids: []}", "expected at least 1"),
        ("{issuer: 'https://i', jwks_url: 'http://k.example/jwks', client_ids: [a]}", "only a loopback host"),
        ("{issuer: 'https://i', jwks_url: 'http://127.0.0.1.evil.test/', client_ids: [a]}", "only a loopback host"),
        ("{issuer: 'https://i', jwks_url: 'https://u:p@k', client_ids: [a]}", "expected an https URL"),
        ("{issuer: 'https://i', jwks_url: 'https://k:port/', client_ids: [a]}", "expected an https URL"),
        ("{issuer: 'https://i', jwks_url: 'https://k'}", "found no 'client_ids'"),
        (
            "{region: eu-west-1, user_pool_id: eu-west-1_A, client_ids: [a], token_use: [refresh]}",
            "expected access or id",
        ),
    ],
)
def test_an_identity_must_be_whole(entry: str, says: str) -> None:
    assert says in "\n".join(faults(f"version: 1\nidentity: [{entry}]\nroutes: []\n"))


def test_default_allow_is_refused() -> None:
    (fault,) = faults("version: 1\ndefaults: {access: public}\nroutes: []\n")
    assert fault == "routes.yaml:2:20: defaults.access: found text 'public', expected deny or authenticated"
    file = read("version: 1\ndefaults: {access: authenticated, roles: guest}\nroutes: []\n")
    assert file.principal.default_roles == ("guest",)
    assert file.table.find(("x",)) is None


def test_all_faults_of_a_file_are_told_at_once_in_order() -> None:
    text = one_route("{path: x, when: y}", "wat: 1\n").replace("version: 1", "version: 2")
    lines = [fault.split(":")[1] for fault in faults(text)]
    assert lines == sorted(lines)
    assert len(lines) >= 4


LOOKED_UP = """\
version: 1
lookups:
  good: {url: "http://h/{id}", attributes: {owner: owner}}
  bad: {url: "ftp://h/{id}", attributes: {tier: tier}}
routes:
  - {path: "/a/{id}", resource: a, id: "{path.id}", lookup: good, actions: {GET: read}}
  - {path: "/b/{id}", resource: b, id: "{path.id}", lookup: [good, bad], actions: {GET: read}}
  - {path: "/c/{id}", resource: c, id: "{path.nid}", actions: {GET: read}}
  - {path: /d, draft: true, resource: d, actions: {GET: read}}
  - 7
"""


def test_what_has_no_fault_of_its_own_is_read_all_the_same() -> None:
    """Neither a route with a fault, nor one whose lookup has one, is told of again by who looks further."""
    with pytest.raises(RoutesError) as caught:
        read_routes(LOOKED_UP, "r.yaml", {})
    assert [problem.line for problem in caught.value.problems] == [4, 8, 10]
    sound = caught.value.sound
    assert sound is not None
    assert [route.name for route in sound.table.routes] == ["/a/{id}"]
    assert [route.name for route in sound.drafts] == ["/d"]
    assert (set(sound.lookups), set(sound.lookup_marks), set(sound.route_marks)) == ({"good"}, {"good"}, {"/a/{id}"})


@pytest.mark.parametrize(
    "more", ["wat: 1\n", "rotues: []\n", "draft: yes\n", "routes: []\n", "<<: 5\n", "'routes[0]': 5\n"]
)
def test_where_it_is_open_which_routes_there_are_nothing_is_called_sound(more: str) -> None:
    with pytest.raises(RoutesError) as caught:
        read_routes(one_route("{path: /x, access: public}", more), "r.yaml", {})
    assert caught.value.sound is None
    assert not caught.value.doubtful.isdisjoint(("routes", "draft"))


@pytest.mark.parametrize(
    ("more", "doubtful"),
    [
        ("principal: {id: 7}\n", {"principal"}),
        ("identity: 1\n", {"identity"}),
        ("identity: [{issuer: 'https://i'}]\nmcp_clients: [7]\n", {"identity", "mcp_clients"}),
        ("upstreams: {a: 5}\n", {"upstreams"}),
        ("to_app: {headers: 7}\ncache: 5\n", {"to_app", "cache"}),
        ("defaults: {acess: deny}\n", {"defaults"}),
        ("principals: {id: username}\n", {"principal"}),
        ("cache: {decisions: 1s}\ncache: {decisions: 2s}\n", {"cache"}),
        # a name that is like none may mean each that is not given
        ("draft: false\ncache: {decisions: 1s}\nwat: 1\n", {"upstreams", "identity", "principal", "to_app", "lookups", "mcp_clients", "defaults"}),
        # a lookup that is there twice is one with a fault
        ("lookups: {good: {url: 'http://h'}, good: {url: 'http://h'}}\n", set()),
    ],
)  # fmt: skip
def test_the_routes_are_sound_beside_a_fault_elsewhere_and_what_it_is_about_is_doubtful(
    more: str, doubtful: set[str]
) -> None:
    with pytest.raises(RoutesError) as caught:
        read_routes(one_route("{path: /x, access: public}", more), "r.yaml", {})
    sound = caught.value.sound
    assert sound is not None
    assert [route.name for route in sound.table.routes] == ["/x"]
    assert caught.value.doubtful == doubtful


def test_no_route_that_asks_a_lookup_is_sound_where_it_is_open_which_there_are() -> None:
    text = LOOKED_UP.replace(
        "version: 1", "version: 1\nlookup: {good: {url: 'http://other/{id}', attributes: {owner: id}}}"
    )
    with pytest.raises(RoutesError) as caught:
        read_routes(text, "r.yaml", {})
    sound = caught.value.sound
    assert sound is not None
    assert (sound.table.routes, [route.name for route in sound.drafts], sound.lookups) == ((), ["/d"], {})


def test_nothing_is_said_of_an_app_while_a_route_that_may_lead_to_it_cannot_be_read() -> None:
    apps = "upstreams: {crm: 'http://crm'}\n"
    for route, told in (("{path: /x, access: public}", 1), ("{path: /x, access: public, upstream: 5}", 0)):
        with pytest.raises(RoutesError) as caught:
            read_routes(one_route(route, apps + "cache: 5\n"), "r.yaml", {})
        sound = caught.value.sound
        assert sound is not None
        assert len(sound.warnings) == told


def test_what_is_not_a_mapping_is_a_fault() -> None:
    assert faults("- a") == ["routes.yaml:1:1: found a list, expected a mapping"]


def test_the_routes_of_the_demo_have_no_fault() -> None:
    assert read((ROOT / "routes.yaml").read_text()).lookups
