"""Which route: against a slow and obvious reference, and case by case."""

from __future__ import annotations

import itertools
import re
import string
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.gate.ask import Ask, Operation, asks
from sidecar.gate.codes import Code
from sidecar.gate.request import Raw, Reading, Request, read
from sidecar.gate.routing import (
    Access,
    Pattern,
    Rest,
    Route,
    RouteTable,
    Variable,
    allowed_methods,
    ask_of,
    parse_path,
    path_values,
)
from sidecar.gate.target import Oddity
from sidecar.gate.verdict import Destination, Refused
from sidecar.wire.grammar import METHODS
from tests.tries import tries


def route(path: str, **more: object) -> Route:
    return Route(path, parse_path(path), Access.AUTHENTICATED, asks({"GET": ""}), **more)  # type: ignore[arg-type]


def request(target: str, method: str = "GET", body: bool = False) -> Request:
    headers = [(b"host", b"x")] + ([(b"content-length", b"1")] if body else [])
    return read(Raw(method, target.encode(), headers, "", "http", "r"), Reading())


def matched(table: RouteTable, target: str) -> str | Code:
    try:
        return table.match(request(target)).route.name
    except Refused as refused:
        return refused.code


# --- the reference: every route is tried, and the best key wins ---

SHAPES = {
    "int": r"(0|[1-9][0-9]{0,18})",
    "slug": r"([a-z0-9]|[a-z0-9][a-z0-9-]{0,126}[a-z0-9])",
    "default": r"[A-Za-z0-9._~+-]{1,128}",
    "any": r".+",
}
RANKS = ["literal", "int", "slug", "default", "any", "rest"]


def obvious(paths: list[str], segments: list[str]) -> str | None:
    best: tuple[list[int], str] | None = None
    for path in paths:
        key: list[int] = []
        parts = path[1:].split("/")
        rest = parts[-1] == "**"
        wanted = parts[:-1] if rest else parts
        if len(segments) < len(parts) if rest else len(segments) != len(parts):
            continue
        for part, segment in zip(wanted, segments, strict=False):
            kind = "literal" if not part.startswith("{") else (part[1:-1].partition(":")[2] or "default")
            if part != segment if kind == "literal" else re.fullmatch(SHAPES[kind], segment, re.DOTALL) is None:
                break
            key.append(RANKS.index(kind))
        else:
            key.extend([RANKS.index("rest")] * rest)
            if best is None or key < best[0]:
                best = key, path
    return best[1] if best else None


SEGMENTS = st.sampled_from(["a", "b", "7", "07", "a-b", "A.b", "x@y", "-"])
PARTS = st.sampled_from(["a", "b", "7", "{v}", "{v:int}", "{v:slug}", "{v:any}"])


@st.composite
def path_lists(draw: st.DrawFn) -> list[str]:
    made = []
    for parts in draw(st.lists(st.lists(PARTS, min_size=1, max_size=4), min_size=1, max_size=12)):
        named = [part.replace("v", f"v{at}") if part.startswith("{") else part for at, part in enumerate(parts)]
        made.append("/" + "/".join([*named, *(["**"] if draw(st.booleans()) else [])]))
    return list(dict.fromkeys(made))


@pytest.mark.slow
@tries(600)
@given(path_lists(), st.lists(SEGMENTS, min_size=1, max_size=5))
def test_the_tree_finds_what_trying_every_route_finds(paths: list[str], segments: list[str]) -> None:
    wanted = obvious(paths, segments)
    for order in (paths, paths[::-1]):
        found = RouteTable(map(route, order)).find(tuple(segments))
        assert (found.name if found else None) == wanted


# --- case by case ---

TABLE = RouteTable(
    map(
        route,
        ["/a/b", "/a/{x:int}", "/a/{x:uuid}", "/a/{x}", "/a/{x}/c", "/static/**", "/", "/dir/", "/é", "/n/{x:int}"],
    )
)


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("/a/b", "/a/b"), ("/a/7", "/a/{x:int}"), ("/a/007", "/a/{x}"), ("/a/B", "/a/{x}"), ("/a/b/c", "/a/{x}/c"),
        ("/a/6b0f8b3e-2d0b-4d62-9d5c-0a3c1d2e3f40", "/a/{x:uuid}"), ("/static/x/y", "/static/**"),
        ("/static/", "/static/**"), ("/static", Code.ROUTE_UNMAPPED), ("/", "/"), ("/dir/", "/dir/"),
        ("/dir", Code.ROUTE_UNMAPPED), ("/a", Code.ROUTE_UNMAPPED), ("/a/b/", Code.ROUTE_UNMAPPED), ("/A/b", Code.ROUTE_UNMAPPED),
        ("/a/x@y", Code.SEGMENT_INVALID), ("/a/%20", Code.SEGMENT_INVALID), ("/n/x", Code.SEGMENT_INVALID),
        ("/a/" + "x" * 129, Code.SEGMENT_INVALID), ("/%C3%A9", "/é"), ("/a/b/d", Code.ROUTE_UNMAPPED),
        ("/_sidecar/console", Code.ROUTE_UNMAPPED), ("/%5fsidecar/x", Code.ROUTE_UNMAPPED),
    ],
)  # fmt: skip
def test_a_path_finds_its_route_or_its_refusal(target: str, found: str | Code) -> None:
    assert matched(TABLE, target) == found


@pytest.mark.parametrize("target", ["/_sidecar/x", "/%5Fsidecar/x", "/_sidecar"])
def test_no_route_names_a_path_of_the_sidecar_itself(target: str) -> None:
    table = RouteTable([route("/**"), route("/{a}/{b}")], Access.AUTHENTICATED)
    assert matched(table, target) is Code.ROUTE_UNMAPPED
    assert matched(table, "/_sidecars") == "/**"


def test_two_routes_for_the_same_paths_cannot_be_made_a_table() -> None:
    for first, second in (("/a/{x}", "/a/{y}"), ("/a/**", "/a/**"), ("/a", "/a")):
        with pytest.raises(ValueError, match="names the same paths"):
            RouteTable([route(first), route(second)])


def test_a_fallback_takes_whoever_is_signed_in() -> None:
    table = RouteTable([route("/a/{x:int}")], Access.AUTHENTICATED)
    assert matched(table, "/nowhere") == "(default)"
    assert matched(table, "/a/x") is Code.SEGMENT_INVALID
    found = table.match(request("/nowhere")).route
    assert found.access is Access.AUTHENTICATED
    assert set(METHODS) <= set(found.asks)


@pytest.mark.parametrize(
    ("target", "oddity"),
    [("/f/a%2fb", Oddity.ENCODED_SLASH), ("/f/a%25", Oddity.ENCODED_PERCENT), ("/f/a;b", Oddity.SEMICOLON)],
)
def test_an_oddity_is_for_the_route_that_allows_it(target: str, oddity: Oddity) -> None:
    assert matched(RouteTable([route("/f/{x:any}")]), target) is Code.TARGET_AMBIGUOUS
    assert matched(RouteTable([route("/f/{x:any}", allow=frozenset([oddity]))]), target) == "/f/{x:any}"
    others = frozenset(Oddity) - {oddity}
    assert matched(RouteTable([route("/f/{x:any}", allow=others)]), target) is Code.TARGET_AMBIGUOUS
    assert matched(RouteTable([route("/f")], Access.AUTHENTICATED), target) is Code.TARGET_AMBIGUOUS


def test_empty_segments_are_taken_only_where_they_are_allowed() -> None:
    assert matched(RouteTable([route("/f/**")]), "/f//a") is Code.TARGET_AMBIGUOUS
    assert matched(RouteTable([route("/f/**", allow=frozenset([Oddity.EMPTY_SEGMENT]))]), "/f//a") == "/f/**"


def test_a_body_on_get_is_for_the_route_that_allows_it() -> None:
    with pytest.raises(Refused) as caught:
        RouteTable([route("/f")]).match(request("/f", body=True))
    assert caught.value.code is Code.BODY_UNEXPECTED
    allowing = RouteTable([route("/f", allow=frozenset([Oddity.REQUEST_BODY]))])
    assert allowing.match(request("/f", body=True)).route.name == "/f"
    with pytest.raises(Refused) as caught:
        allowing.match(request("/g", body=True))
    assert caught.value.code is Code.ROUTE_UNMAPPED


def test_the_fallback_allows_nothing_odd() -> None:
    table = RouteTable([route("/f")], Access.AUTHENTICATED)
    for target in ("/g;x", "/g%2fx", "/g%25", "//g"):
        assert matched(table, target) is Code.TARGET_AMBIGUOUS
    for method in ("GET", "HEAD", "DELETE", "OPTIONS"):
        with pytest.raises(Refused) as caught:
            table.match(request("/g", method, body=True))
        assert caught.value.code is Code.BODY_UNEXPECTED
    assert table.match(request("/g", "POST", body=True)).route.name == "(default)"


def test_the_texts_of_variables_are_decoded() -> None:
    found = RouteTable([route("/{a}/{b:any}")]).match(request("/x/caf%C3%A9%20y"))
    assert found.path == {"a": "x", "b": "café y"}
    assert path_values(route("/a/**"), ("a", "b", "c")) == {}


def test_head_is_decided_as_get_and_405_lists_what_there_is() -> None:
    made = Route("/x", (), Access.POLICY, asks({"GET": "read", "PUT": "update", "WS": "listen"}))
    asked = (request("/x", "HEAD"), request("/x", "PUT"), request("/x")._replace(websocket=True))
    assert [ask_of(made, one).action for one in asked] == ["read", "update", "listen"]
    # "WS" is a word of the route file, and no method that a client can send
    for method in ("POST", "OPTIONS", "WS"):
        with pytest.raises(Refused) as caught:
            ask_of(made, request("/x")._replace(method=method))
        assert (caught.value.code, caught.value.methods) == (Code.METHOD_UNMAPPED, ("GET", "HEAD", "PUT"))
    assert allowed_methods(Route("/x", (), Access.POLICY, asks({"POST": "a"}))) == ("POST",)
    with pytest.raises(Refused):
        ask_of(Route("/x", (), Access.POLICY, asks({"POST": "a"})), request("/x", "HEAD"))


def test_a_route_has_a_question_for_each_method_and_for_each_operation_of_a_body() -> None:
    class Twice:
        asks: ClassVar[dict[str, Ask]] = {"Query.a": Ask("read"), "Query.b": Ask("list")}

        def read(self, request: Request, body: bytes) -> list[Operation]:
            return []

    made = Route("/x", (), Access.POLICY, asks({"GET": "read", "POST": Ask(operations=Twice())}))
    assert [(name, ask.action) for name, ask in made.questions] == [
        ("GET", "read"),
        ("POST Query.a", "read"),
        ("POST Query.b", "list"),
    ]


@pytest.mark.parametrize(
    ("path", "segments"),
    [
        ("/", ("",)), ("/a", ("a",)), ("/a/", ("a", "")), ("/{x}", (Variable("x", Pattern.DEFAULT),)),
        ("/{x:any}/b", (Variable("x", Pattern.ANY), "b")), ("/a/**", ("a", Rest())), ("/a.b~c@d:e", ("a.b~c@d:e",)),
        ("/{x:int}.json", (Variable("x", Pattern.INT, "", ".json"),)), ("/v{x}", (Variable("x", Pattern.DEFAULT, "v"),)),
        ("/@{x:slug}:archive/b", (Variable("x", Pattern.SLUG, "@", ":archive"), "b")), ("/a:b", ("a:b",)), ("/x{y}é", (Variable("y", Pattern.DEFAULT, "x", "é"),)),
    ],
)  # fmt: skip
def test_a_path_is_parsed(path: str, segments: tuple[object, ...]) -> None:
    assert parse_path(path) == segments


def test_a_literal_is_of_the_characters_that_a_path_may_have() -> None:
    """pchar (RFC 3986 section 3.3) without escapes, "*" and ";", and what the escapes of UTF-8 stand for."""
    ascii_ones = string.ascii_letters + string.digits + "-._~!$&'()+,=:@"
    # a colon and brackets begin a variable of another framework, and dots alone are a step
    plain = [chr(code) for code in range(0x3000) if chr(code) not in ":."]

    def is_literal(character: str) -> bool:
        try:
            return parse_path(f"/{character}") == (character,)
        except ValueError:
            return False

    assert [each for each in plain if is_literal(each)] == [
        each for each in plain if each in ascii_ones or each >= "\u00a0"
    ]
    assert is_literal("\U0010ffff")


@pytest.mark.parametrize(
    "path",
    ["", "a", "/a//b", "/**/a", "/{x", "/{1x}", "/{x:float}", "/{x:default}", "/{x}{y}", "/{x}.{y}", "/a{x", "/a{x}b}", "/a{x}?", "/{x}a b", "/{a}/{a}", "/.", "/a/..",
     "/a b", "/a?b", "/a#b", "/a%2fb", "/a*", "/a;b", "/a\\b"],
)  # fmt: skip
def test_a_path_that_cannot_be_meant_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="found"):
        parse_path(path)


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/users/:id", "/users/{id}"), ("/:org/repos/:repo_name", "/{org}/repos/{repo_name}"), ("/users/<id>", "/users/{id}"),
        ("/users/<int:id>/x", "/users/{id:int}/x"), ("/users/<uuid:id>", "/users/{id:uuid}"), ("/users/<string:name>", "/users/{name}"), ("/users/[id]", "/users/{id}"),
    ],
)  # fmt: skip
def test_a_variable_as_another_framework_writes_it_is_named_with_what_is_meant(path: str, meant: str) -> None:
    with pytest.raises(ValueError, match="did you mean") as caught:
        parse_path(path)
    assert str(caught.value).endswith(f" in {path!r}, did you mean {meant!r}?")


@pytest.mark.parametrize(
    "order", list(itertools.permutations(["/d/{x}", "/d/{x}.json", "/d/v{x}", "/d/v{x:int}.json"]))
)
def test_a_variable_with_literal_texts_goes_before_one_without_and_the_most_text_first(order: tuple[str, ...]) -> None:
    table = RouteTable(route(path) for path in order)
    for target, name, value in [
        ("/d/7", "/d/{x}", "7"), ("/d/7.json", "/d/{x}.json", "7"), ("/d/v7", "/d/v{x}", "7"), ("/d/v7.json", "/d/v{x:int}.json", "7"),
        ("/d/vx.json", "/d/{x}.json", "vx"), ("/d/.json", "/d/{x}", ".json"), ("/d/v", "/d/{x}", "v"), ("/d/7.JSON", "/d/{x}", "7.JSON"),
        ("/d/a.json.json", "/d/{x}.json", "a.json"),
    ]:  # fmt: skip
        found = table.match(request(target))
        assert (found.route.name, found.path) == (name, {"x": value}), target


def test_of_two_with_as_much_text_the_one_with_more_before_goes_first_and_a_narrow_one_before_a_wide_one() -> None:
    paths = ["/{x}bb", "/aa{x}", "/a{x}b", "/{x:int}cc", "/{x:any}cc"]
    for order in (paths, paths[::-1]):
        table = RouteTable(route(path) for path in order)
        assert [table.match(request(target)).route.name for target in ("/aaxbb", "/axbb", "/7cc", "/xcc")] == [
            "/aa{x}", "/a{x}b", "/{x:int}cc", "/{x:any}cc",
        ]  # fmt: skip


def test_a_text_between_literal_ones_is_held_to_its_pattern() -> None:
    table = RouteTable([route("/d/{x:int}.json"), route("/e/{x:any}.json/z")])
    for target in ("/d/07.json", "/d/x.json", "/d/7%20.json"):
        assert matched(table, target) is Code.SEGMENT_INVALID
    for target in ("/d/7", "/d/.json", "/d/7.jso", "/d/7.json/"):
        assert matched(table, target) is Code.ROUTE_UNMAPPED
    assert table.match(request("/e/a%20b.json/z")).path == {"x": "a b"}


@pytest.mark.parametrize(("one", "other"), [("/{x}.json", "/{y}.json"), ("/a{x:int}b/c", "/a{z:int}b/c")])
def test_two_that_take_the_same_paths_are_refused(one: str, other: str) -> None:
    with pytest.raises(ValueError, match="names the same paths"):
        RouteTable([route(one), route(other)])


@pytest.mark.slow
def test_a_table_of_ten_thousand_is_no_deeper_than_one_of_ten() -> None:
    """A match looks at one node per segment, however many routes there are."""
    small, large = (RouteTable([route(f"/r{n}/{{id}}") for n in range(count)]) for count in (10, 10_000))
    for table in (small, large):
        assert len(table._root.variables) == 0
        assert table._root.literals["r7"].variables[0][1].route is table.find(("r7", "x"))


# --- hosts ---

NAMES = ["a.test", "b.test", "a.test:1", "*.test", "*.test:1", "x.a.test", ""]
ASKED = ["a.test", "a.test:1", "a.test:2", "b.test", "c.test", "c.test:1", "x.a.test", "y.a.test", "a.test.", "test"]


def stands_for(name: str, host: str) -> bool:
    """The obvious reading of an entry."""
    name, _, port = name.partition(":")
    host, _, asked_port = host.partition(":")
    if port and port != asked_port:
        return False
    return host.partition(".")[2] == name[2:] if name.startswith("*.") else host == name


def precedence(name: str) -> tuple[bool, bool, bool]:
    return (not name, name.startswith("*."), ":" not in name)


@given(
    st.lists(
        st.tuples(st.sampled_from(NAMES), st.sampled_from(["/a", "/{x}", "/{x:int}", "/**", "/a/b"])), unique=True,
        max_size=12,
    ),
    st.sampled_from(ASKED), st.lists(st.sampled_from(["a", "b", "7", "a-b"]), min_size=1, max_size=2),
)  # fmt: skip
@tries(400)
def test_the_host_goes_before_the_path(entries: list[tuple[str, str]], host: str, segments: list[str]) -> None:
    table = RouteTable(route(path)._replace(name=name + path, hosts=(name,) if name else ()) for name, path in entries)
    # the most specific name of the host that has a route for the path
    expected = next(
        (
            name + found
            for name in sorted({name for name, _ in entries}, key=precedence)
            if not name or stands_for(name, host)
            if (found := obvious([path for other, path in entries if other == name], segments)) is not None
        ),
        None,
    )
    matched = table.find(tuple(segments), host)
    assert (matched.name if matched is not None else None) == expected


def test_a_route_is_at_its_hosts() -> None:
    at = route("/a", hosts=("crm.test", "*.wiki.test"))
    hosts = ["crm.test", "crm.test:1", "x.wiki.test", "wiki.test", "x.test", ""]
    assert [at.is_at(host) for host in hosts] == [True, True, True, False, False, False]
    assert route("/a").is_at("x.test")


def test_a_path_without_a_route_leads_to_the_one_app_of_its_host() -> None:
    crm, wiki = Destination("crm", "http://crm"), Destination("wiki", "http://wiki")
    table = RouteTable(
        [
            route("/a", hosts=("crm.test", "both.test"), upstream=crm), route("/b", hosts=("crm.test",), upstream=crm),
            route("/b", hosts=("both.test", "*.wiki.test"), upstream=wiki), route("/c", hosts=("plain.test",)),
        ],
        Access.AUTHENTICATED,
    )  # fmt: skip
    homes = {
        "crm.test": crm,
        "crm.test:8080": crm,
        "a.wiki.test": wiki,
        "both.test": None,
        "plain.test": None,
        "": None,
    }
    assert {host: table.home(host) for host in homes} == homes
    found = table.match(request("/nowhere")._replace(host="crm.test")).route
    assert (found.name, found.upstream) == ("(default)", crm)
    assert table.upstreams == (crm, wiki)


def test_a_segment_that_a_host_refuses_may_be_what_all_hosts_take() -> None:
    table = RouteTable([route("/{x:int}", hosts=("a.test",)), route("/b")])
    asked = request("/b")
    assert table.match(asked._replace(host="a.test")).route.path == "/b"
    for host, code in (("a.test", Code.SEGMENT_INVALID), ("b.test", Code.ROUTE_UNMAPPED)):
        with pytest.raises(Refused) as caught:
            table.match(request("/x")._replace(host=host))
        assert caught.value.code is code
