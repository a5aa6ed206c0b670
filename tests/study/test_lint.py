"""`study/lint.py` and `supply.py`: each warning where it is due, and none where it is not."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sidecar.config.routes.file import RoutesFile, read_routes
from sidecar.pdp.compiling import compile_policies
from sidecar.pdp.policy_files import PolicyProblem
from sidecar.study import lint, reach
from sidecar.study.policies import parse_policies
from tests.stack import binary
from tests.study.compiled import HEAD, Together, policy, results, rule

ROUTES = """\
version: 1
principal:
  attributes: {team: "custom:team", level: {claim: "custom:level", type: number}, maybe: maybe, vip: {claim: vip, type: bool}}
  optional: [maybe]
lookups:
  doc:
    url: "http://127.0.0.1:9/{id}"
    attributes: {owner: owner, stars: "stars:int", open: open, note: note, tags: "tags:list"}
    optional: [note]
  blank: {url: "http://127.0.0.1:9/{id}", attributes: {owner: owner}, missing: empty}
routes:
  - {path: /docs, resource: doc, query: any, attributes: {of: "{query.of}", page: "{query.page:int}", sort: "{query.sort?}", fixed: list}, actions: {GET: list}}
  - {path: "/docs/{id}", resource: doc, id: "{path.id}", lookup: doc, actions: {GET: read, PUT: write}}
  - {path: "/old/{id}", resource: "doc", id: "{path.id}", lookup: blank, actions: {GET: old}}
  - {path: "/acme/{id}", resource: doc, scope: "{claims.tenant}", attributes: {code: "{path.id}"}, actions: {GET: scoped}}
  - path: /own
    resource: other
    attributes: {never: "{claims.sub}"}
    actions: {POST: {resource: doc, action: create, attributes: {size: "{body.size:int}"}, max_body: 1KiB}}
  - {path: /me, access: authenticated}
"""


def routes(text: str = ROUTES) -> RoutesFile:
    return read_routes(text, "routes.yaml", {})


WRITTEN = Together()
"""The policies of all tests here: what is warned of, and what is not, is of policies that Cerbos compiles."""


@pytest.fixture(scope="module", autouse=True)
def all_compile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    yield
    assert compile_policies(binary(), WRITTEN.write(tmp_path_factory.mktemp("written"))) == []


def write(folder: Path, *policies: str) -> Path:
    folder.mkdir(exist_ok=True)
    for number, text in enumerate(policies):
        (folder / f"{number}.yaml").write_text(text)
    WRITTEN.add(folder)
    return folder


def test_what_does_not_compile_among_others_is_found(tmp_path: Path) -> None:
    together = Together()
    for name, match in (("a", "R.attr.x"), ("b", "R.attr.x =="), ("c", "R.attr.x")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "doc.yaml").write_text(policy([rule(match=match)]))
        together.add(tmp_path / name)
    (problem,) = compile_policies(binary(), together.write(tmp_path / "all"))
    assert problem.startswith(f"{tmp_path}/all/2/doc.yaml:")


def warned(folder: Path, *policies: str) -> list[str]:
    """The warnings without the folder, for policies that name all actions besides."""
    every = policy([rule(actions=["list", "read", "write", "old"], roles=["nobody"])], version="2")
    said = lint.warnings(routes(), parse_policies(write(folder, *policies, every)))
    return [line.replace(f"{folder}/", "") for line in said if "question-unknown" not in line]


@pytest.mark.parametrize(
    ("action", "match", "said"),
    [
        # nothing supplies it
        ("read", "R.attr.colour == 'red'", "request.resource.attr.colour is read, and nothing supplies it: add it to `attributes` of GET /docs/{id}, or to its lookup [attribute-unsupplied]"),
        ("read", "has(R.attr.colour) && R.attr.colour == 'red'", "[attribute-unsupplied]"),
        ("read", "has(R.attr.colour)", "[attribute-unsupplied]"),
        ("read", "'colour' in R.attr", "[attribute-unsupplied]"),
        ("read", "P.attr['colour'] == 'red'", "request.principal.attr.colour is read, and nothing supplies it: add it to `principal.attributes` [attribute-unsupplied]"),
        ("list", "R.attr.owner == P.id", "[attribute-unsupplied]"),
        ("read", "request.aux_data.jwt.team == 'a'", "request.auxData.jwt.team is read, and the sidecar sends no token to Cerbos: map the claim in `principal.attributes` [attribute-unsupplied]"),
        # it is supplied sometimes
        ("*", "R.attr.owner == P.id", "request.resource.attr.owner may be absent (GET /docs does not supply it), and is read without `has(request.resource.attr.owner)` [attribute-unguarded]"),
        ("read", "R.attr.note == 'x'", "request.resource.attr.note may be absent (lookups.doc.optional names it), and is read without `has(request.resource.attr.note)` [attribute-unguarded]"),
        ("old", "R.attr.owner == P.id", "request.resource.attr.owner may be absent (lookups.blank.missing is `empty`), and is read without `has(request.resource.attr.owner)` [attribute-unguarded]"),
        ("list", "R.attr.sort == 'x'", "request.resource.attr.sort may be absent ({query.sort?} is optional), and is read without `has(request.resource.attr.sort)` [attribute-unguarded]"),
        ("list", "has(R.attr.sort) && R.attr.sort > 3", "(attributes.sort): sort: \"{query.sort:number?}\" [attribute-untyped]"),
        ("read", "P.attr.maybe == 'x'", "request.principal.attr.maybe may be absent (principal.optional names it), and is read without `has(request.principal.attr.maybe)` [attribute-unguarded]"),
        # its type is another
        ("read", "R.attr.open == true", "request.resource.attr.open is compared with a boolean, and its type is not declared (lookups.doc.attributes.open): open: \"...:bool\" [attribute-untyped]"),
        ("read", "!R.attr.open", "[attribute-untyped]"),
        ("read", "R.attr.open > 3", "request.resource.attr.open is compared with a number, and its type is not declared (lookups.doc.attributes.open): open: \"...:number\" [attribute-untyped]"),
        ("list", "R.attr.of > 3", "request.resource.attr.of is compared with a number, and it is a text (attributes.of): of: \"{query.of:number}\" [attribute-untyped]"),
        ("list", "R.attr.fixed in [1, 2]", "request.resource.attr.fixed is compared with a number, and it is a text (attributes.fixed): another value than 'list' [attribute-untyped]"),
        ("read", "P.attr.team == 5", "request.principal.attr.team is compared with a number, and its type is not declared (principal.attributes.team): team: {claim: 'custom:team', type: number} [attribute-untyped]"),
        ("read", "P.attr.level == '5'", "request.principal.attr.level is compared with a text, and it is a number (principal.attributes.level) [attribute-untyped]"),
        ("read", "P.attr.level", "request.principal.attr.level is compared with a boolean, and it is a number (principal.attributes.level): level: {claim: 'custom:level', type: bool} [attribute-untyped]"),
        # it cannot be told
        ("read", "size(R.attr) > 2", "request.resource.attr is read as a whole or by a name that is worked out: what could not be read [attribute-unread]"),
        ("read", "R.attr[P.attr.team] == 'x'", "[attribute-unread]"),
    ],
)  # fmt: skip
def test_a_condition_is_warned_of(tmp_path: Path, action: str, match: str, said: str) -> None:
    (line,) = warned(tmp_path / "p", policy([rule("DENY", [action], match)]))
    assert line.startswith("0.yaml:2:")
    assert line.endswith(said)


@pytest.mark.parametrize(
    ("action", "match"),
    [
        ("read", "R.attr.owner == P.id && R.attr.stars > 3 && P.attr.vip && P.attr.level >= 2 && P.attr.team == 'a'"),
        ("read", "has(R.attr.note) && R.attr.note == 'x'"),
        ("read", "'maybe' in P.attr ? P.attr.maybe == 'x' : true"),
        ("read", {"all": {"of": ["has(R.attr.note)", "R.attr.note == 'x'"]}}),
        ("read", "'a' in R.attr.tags && R.attr.tags.exists(t, t == 'b')"),
        ("read", "R.attr.open == R.attr.stars || int(R.attr.open) > 3 || P.attr.team in ['a', 'b']"),
        ("create", "R.attr.size < 5"),
        ("list", "R.attr.page < 5 && R.attr.of == P.id && R.attr.fixed != 'x'"),
        ("old", "has(R.attr.owner) && R.attr.owner == P.id"),
        ("*", "has(R.attr.owner) && R.attr.owner == P.id"),
        ("read", "P.id == 'a' && R.id == 'b' && 'c' in P.roles && R.scope == ''"),
        # no route asks for it: `notes` says so
        ("export", "R.attr.colour == 'red'"),
    ],
)
def test_what_is_as_it_should_be_is_not(tmp_path: Path, action: str, match: Any) -> None:
    assert warned(tmp_path / "p", policy([rule("DENY", [action], match)])) == []


def test_what_is_read_has_its_place_in_whatever_file(tmp_path: Path) -> None:
    derived = (
        f"{HEAD}derivedRoles:\n  name: people\n  definitions:\n    - name: owner\n      parentRoles: [user]\n"
        "      condition:\n        match:\n          expr: R.attr.ownr == P.id\n"
    )
    user = policy([rule(actions=["read", "write"], derivedRoles=["owner"])], importDerivedRoles=["people"])
    principal = (
        f"{HEAD}principalPolicy:\n  principal: alice\n  version: default\n  rules:\n    - resource: '*'\n      actions:\n"
        "        - {action: read, effect: EFFECT_DENY, condition: {match: {expr: P.attr.nick == 'x'}}}\n"
    )
    lines = warned(tmp_path / "p", derived, user, principal)
    assert [line.partition(": ")[0] for line in lines] == ["0.yaml:9:17", "2.yaml:8:73"]


def test_a_scoped_policy_is_asked_by_scoped_routes_alone(tmp_path: Path) -> None:
    parent = policy([rule(actions=["*"])])
    scoped = policy([rule("DENY", ["*"], "R.attr.code == 'x'")], scope="acme")
    assert warned(tmp_path / "p", parent, scoped) == []
    (line,) = warned(tmp_path / "q", policy([rule("DENY", ["*"], "R.attr.code == 'x'")]))
    assert "GET /docs does not supply it" in line


def test_a_schema_that_cerbos_holds_types_and_requires(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"open": {"type": "boolean"}, "note": {}}, "required": ["note"]}
    (tmp_path / "p" / "_schemas").mkdir(parents=True)
    (tmp_path / "p" / "_schemas" / "doc.json").write_text(json.dumps(schema))
    rules = [rule("DENY", ["read"], "R.attr.open && R.attr.note == 'x'")]
    assert warned(tmp_path / "p", policy(rules, schemas={"resourceSchema": {"ref": "cerbos:///doc.json"}})) == []
    assert len(warned(tmp_path / "q", policy(rules))) == 2


def test_each_question_is_held_against_the_rules_of_its_kind_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With as many kinds as routes, the work grows with their number and not with its square."""
    counted: list[str] = []

    def counting(glob: str, text: str) -> bool:
        counted.append(glob)
        return glob == text

    monkeypatch.setattr(lint, "matches", counting)
    monkeypatch.setattr(reach, "matches", counting)
    for size in (10, 40):
        folder = tmp_path / str(size)
        write(folder, *(policy([rule(actions=["read"], match="R.attr.a == 'x'")], kind=f"k{at}") for at in range(size)))
        paths = "".join(f"  - {{path: /{at}, resource: k{at}, actions: {{GET: read}}}}\n" for at in range(size))
        counted.clear()
        policies = parse_policies(folder)
        assert len(lint.warnings(routes(f"version: 1\nroutes:\n{paths}"), policies)) == size
        assert lint.notes(routes(f"version: 1\nroutes:\n{paths}"), policies) == []
        assert len(counted) == 3 * size


# --- a DENY for a named role ---


@pytest.mark.parametrize(
    ("deny", "allow", "stays"),
    [
        (["guest"], ["user"], True), (["guest"], ["*"], True), (["guest", "user"], ["user", "admin"], True),
        (["user"], ["user"], False), (["*"], ["user"], False), (["guest", "*"], ["user"], False),
    ],
)  # fmt: skip
def test_a_denial_for_a_role_is_warned_of_where_another_role_is_allowed(
    tmp_path: Path, deny: list[str], allow: list[str], stays: bool
) -> None:
    """Cerbos itself tells: a principal with all the roles, and one more."""
    rules = [rule(actions=["read"], roles=allow), rule("DENY", ["read"], roles=deny)]
    lines = warned(tmp_path / "p", policy(rules))
    assert len(lines) == stays
    held = sorted({*deny, *allow, "another"} - {"*"})
    assert bool(results(binary(), tmp_path / "p", ["doc"], ["read"], roles=held)) == stays
    if stays:
        who = "another role" if allow == ["*"] else f"the role {sorted(set(allow) - set(deny))[0]}"
        assert lines[0].startswith("0.yaml:2:")
        assert (
            f"this DENY for {', '.join(sorted(deny))} does not stop a principal who also has {who}, which line 2 of"
            in lines[0]
        )
        assert lines[0].endswith('write roles: ["*"] with a condition [deny-for-role]')


def test_a_denial_by_a_derived_role_is_one_for_its_parents(tmp_path: Path) -> None:
    derived = f"{HEAD}derivedRoles: {{name: d, definitions: [{{name: dr, parentRoles: [%s]}}]}}\n"
    rules = [rule(actions=["read"], roles=["user"]), rule("DENY", ["read"], derivedRoles=["dr"])]
    doc = policy(rules, importDerivedRoles=["d"])
    assert len(warned(tmp_path / "p", doc, derived % "guest")) == 1
    assert warned(tmp_path / "q", doc, derived % '"*"') == []


def test_other_actions_and_kinds_do_not_count(tmp_path: Path) -> None:
    deny = rule("DENY", ["read"], roles=["guest"])
    assert warned(tmp_path / "p", policy([rule(actions=["write"], roles=["user"]), deny])) == []
    assert warned(tmp_path / "q", policy([deny]), policy([rule(actions=["read"], roles=["user"])], kind="other")) == []
    assert len(warned(tmp_path / "r", policy([rule(actions=["r*"], roles=["user"]), deny]))) == 1


# --- silence, kinds, actions ---


def test_a_file_says_what_is_meant(tmp_path: Path) -> None:
    rules = [
        rule("DENY", ["read"], "R.attr.colour == 'x'"), rule(actions=["read"]), rule("DENY", ["read", "v?ew"], roles=["guest"])
    ]  # fmt: skip
    text = policy(rules)
    names = ("attribute-unsupplied", "deny-for-role", "action-glob")
    assert [line.rpartition(" ")[2] for line in warned(tmp_path / "p", text)] == [
        "[attribute-unsupplied]", "[action-glob]", "[deny-for-role]"
    ]  # fmt: skip
    for count in (0, 1, 3):
        accepted = names[:count]
        metadata = f"metadata: {{annotations: {{sidecar-check-accepts: '{', '.join(accepted)}'}}}}\n"
        lines = warned(tmp_path / f"p{len(accepted)}", text.replace(HEAD, HEAD + metadata))
        assert len(lines) == 3 - len(accepted)


@pytest.mark.parametrize(
    ("kind", "action", "said"),
    [
        (
            "doc",
            "read",
            "routes.yaml:12:155: routes[0].actions.GET: GET /docs asks for 'list' of 'doc', which no rule names: it is refused",
        ),
        (
            "dok",
            "*",
            "routes.yaml:12:29: routes[0].resource: GET /docs asks about the kind 'doc', which no policy names: it is refused",
        ),
    ],
)
def test_a_question_that_no_policy_answers_is_warned_of(tmp_path: Path, kind: str, action: str, said: str) -> None:
    folder = write(tmp_path / "p", policy([rule(actions=[action])], kind=kind))
    lines = lint.warnings(routes(), parse_policies(folder))
    assert f"{said} [question-unknown]" in lines


def test_what_no_route_asks_is_noted(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "p", policy([rule(actions=["read", "export", "raed*", "old*", "*"])]), policy([rule()], kind="dok"),
        policy([rule()], version="next"),
    )  # fmt: skip
    said = [line.replace(f"{folder}/", "") for line in lint.notes(routes(), parse_policies(folder))]
    assert said == [
        "0.yaml:2:90: no route asks for 'export' of 'doc'",
        "0.yaml:2:100: no route asks for 'raed*' of 'doc'",
        "1.yaml:2:30: no route asks about the kind 'dok'",
        "2.yaml:2:30: no route asks for version 'next', only for 'default'",
    ]


def test_what_could_not_be_read_is_left_out_at_a_line_of_which_a_problem_is_told(tmp_path: Path) -> None:
    folder, unsound = tmp_path / "p", rule(actions=["*"], match="R.attr.a ==")
    folder.mkdir()
    # not by `write`: Cerbos does not compile it
    schemas = {"resourceSchema": {"ref": "cerbos:///no.json"}}
    (folder / "0.yaml").write_text(policy([unsound], schemas=schemas).replace(', "rules"', '\n  ,"rules"'))

    def told(*problems: PolicyProblem) -> list[str]:
        return [line for line in lint.warnings(routes(), parse_policies(folder), told=problems)]

    file = str(folder / "0.yaml")
    schema, expression = told()
    assert schema.startswith(f"{file}:2:")
    assert expression.startswith(f"{file}:3:")
    assert told(PolicyProblem(file, "no such schema", 2, 1)) == [expression]
    assert told(PolicyProblem(file, "invalid expression", 3, 1)) == [schema]
    assert told(PolicyProblem(file, "no such derived role", 4, 1)) == [schema, expression]
    assert told(PolicyProblem("else.yaml", "invalid expression", 3, 1)) == [schema, expression]


def test_a_schema_that_several_policies_name_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "_schemas").mkdir()
    (tmp_path / "_schemas/x.json").write_text("{")
    for name in ("a", "b"):
        text = policy([rule(actions=["*"])], kind=name, schemas={"resourceSchema": {"ref": "cerbos:///x.json"}})
        (tmp_path / f"{name}.yaml").write_text(text)
    assert [line for line in lint.warnings(routes(), parse_policies(tmp_path)) if "x.json" in line] == [
        f"{tmp_path}/_schemas/x.json:1:2: could not be read: Expecting property name enclosed in double quotes"
    ]


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("a: [\n", False),
        ("- a\n", False),
        (HEAD + "futurePolicy: {}\n", False),
        (policy([rule("PERHAPS", ["list"])]), False),
        ("# nothing yet\n", True),
        (policy([rule()], kind="last"), True),
    ],
)
def test_what_no_policy_names_is_not_known_while_a_file_cannot_be_understood(
    tmp_path: Path, text: str, known: bool
) -> None:
    unnamed = write(tmp_path / "p", policy([rule()], kind="other"))

    def unknown(*told: PolicyProblem) -> bool:
        return any("question-unknown" in line for line in lint.warnings(routes(), parse_policies(unnamed), told=told))

    assert unknown()
    assert unknown(PolicyProblem(f"{unnamed}/x.yaml", "invalid expression", 1, 1))
    assert not unknown(PolicyProblem(f"{unnamed}/x.yaml", "no YAML", 1, 1, opaque=True))
    (unnamed / "x.yaml").write_text(text)
    assert unknown() == known


def test_what_could_not_be_read_is_among_the_warnings(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("- a\n")
    (tmp_path / "y.yaml").write_text(policy([rule(actions=["*"], match="R.attr.a ==")]))
    lines = lint.warnings(routes(), parse_policies(tmp_path))
    assert [line.rpartition("/")[2] for line in lines] == [
        "x.yaml:1:1: could not be read: found no mapping",
        "y.yaml:2:162: could not be read: column 12: found 'the end', expected a name [expression-unread]",
    ]


LISTS = """\
version: 1
lookups:
  doc: {url: "http://127.0.0.1:9/{id}", attributes: {owner: owner, stars: "stars:int", note: note}, optional: [note]}
routes:
  - path: /docs
    resource: doc
    actions: {GET: list}
    items: {at: "@", id: id, attributes: {owner: owner, stars: stars, note: note}, fields: {phone: call}}
  - {path: "/docs/{id}", resource: doc, id: "{path.id}", lookup: doc, fields: {phone: call}, actions: {GET: read}}
"""


def of_lists(folder: Path, *rules: dict[str, Any]) -> list[str]:
    """The warnings for a route with `items`, and a single read of the same kind."""
    every = rule(actions=["list", "read", "call"])
    said = lint.warnings(routes(LISTS), parse_policies(write(folder, policy([*rules, every]))))
    return [line.replace(f"{folder}/", "") for line in said]


@pytest.mark.parametrize(
    ("match", "said"),
    [
        ("R.attr.owner == P.id && has(R.attr.note) && R.attr.note == 'x'", [
            "request.resource.attr.note is required (without a type) for GET /docs (items) and optional (without a type) for GET /docs/{id}, which may then be decided otherwise: supply it alike in both [list-differs]",
        ]),
        ("has(R.attr.stars) && R.attr.stars != 'x'", ["request.resource.attr.stars is required (without a type) for GET /docs (items) and required (number) for GET /docs/{id}"]),
        ("R.attr.colour == 'red'", ["request.resource.attr.colour is read, and nothing supplies it: add it to `items.attributes` of GET /docs"]),
    ],
)  # fmt: skip
def test_a_list_and_its_single_read_are_held_together(tmp_path: Path, match: str, said: list[str]) -> None:
    lines = [
        line
        for line in of_lists(tmp_path / "p", rule("DENY", ["read"], match))
        if "attribute-un" not in line or "colour" in line
    ]
    assert len(lines) == len(said), lines
    assert all(text in line for text, line in zip(said, lines, strict=True))


def test_an_attribute_that_only_one_of_them_has(tmp_path: Path) -> None:
    text = LISTS.replace("owner: owner, stars: stars", "stars: stars")
    rules = [
        rule("DENY", ["read"], "has(R.attr.owner) && R.attr.owner != P.id"),
        rule(actions=["list", "read", "call"]),
    ]
    (line,) = lint.warnings(routes(text), parse_policies(write(tmp_path / "p", policy(rules))))
    assert (
        "request.resource.attr.owner is not supplied for GET /docs (items) and required (without a type) for "
        "GET /docs/{id}, which may then be decided otherwise: supply it alike in both [list-differs]"
    ) in line
    # no single read has that action
    rules = [
        rule("DENY", ["call"], "has(R.attr.owner) && R.attr.owner != P.id"),
        rule(actions=["list", "read", "call"]),
    ]
    (line,) = lint.warnings(routes(text), parse_policies(write(tmp_path / "q", policy(rules))))
    assert "for GET /docs (items) and required (without a type) for GET /docs/{id} (fields)" in line


def test_a_list_whose_items_are_looked_up_is_like_its_single_read(tmp_path: Path) -> None:
    text = LISTS.replace('/{id}", attributes', '/?id={ids}", batch: true, attributes')
    text = text.replace("attributes: {owner: owner, stars: stars, note: note}, f", "lookup: doc, f")
    rules = [
        rule("DENY", ["read"], "R.attr.stars < 3 && R.attr.owner != P.id && has(R.attr.note) && R.attr.note == 'x'"),
        rule(actions=["list", "read", "call"]),
    ]
    assert lint.warnings(routes(text), parse_policies(write(tmp_path / "p", policy(rules)))) == []


def test_actions_of_items_and_fields_are_asked(tmp_path: Path) -> None:
    folder = write(tmp_path / "p", policy([rule(actions=["list", "calls"])]))
    said = lint.warnings(routes(LISTS), parse_policies(folder))
    assert all(re.match(r"routes\.yaml:\d+:\d+: ", line) for line in said)
    assert [line.partition(",")[0].split(": ", 1)[1] for line in said] == [
        "routes[0].items: GET /docs (items) asks for 'read' of 'doc'",
        "routes[0].items: GET /docs (items) asks for 'call' of 'doc'",
        "routes[1].actions.GET: GET /docs/{id} asks for 'read' of 'doc'",
        "routes[1].actions.GET: GET /docs/{id} (fields) asks for 'call' of 'doc'",
    ]
    assert "did you mean 'calls'" in said[1]
    everything = write(tmp_path / "q", policy([rule(actions=["list", "read", "call"])]))
    assert lint.notes(routes(LISTS), parse_policies(everything)) == []


def test_the_attributes_that_policies_read_and_routes_give_are_found(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "p",
        policy(
            [
                rule(match="R.attr.owner == P.id && P.attr.level > 1.0"),
                rule(actions=["write"], match="R.attr.owner == 'x' && R.attr.nowhere == 1"),
                rule(actions=["list"], match="R.attr.of == P.attr.team"),
                rule(actions=["nobody-asks"], match="R.attr.fixed == 'x'"),
            ]
        ),
    )
    found = lint.attributes_read(routes(), parse_policies(folder))
    assert [*found] == ["resource.owner", "principal.level", "resource.of", "principal.team"]
    assert found["resource.owner"].file == str(folder / "0.yaml")
    (folder / "0.yaml").write_text(policy([rule(actions=["create"], match="size(R.attr) > 0")]))
    # what is read as a whole is all that is told
    assert [*lint.attributes_read(routes(), parse_policies(folder))] == ["resource.size"]
