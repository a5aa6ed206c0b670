"""Drafts, as both Cerbos read them."""

from __future__ import annotations

import itertools
import json
import random
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

import yaml

from sidecar.adoption.draft import PolicyDraft, as_json, as_text, draft_of
from sidecar.adoption.evidence import Evidence
from sidecar.adoption.grants import Enough
from sidecar.record.line import QuestionLine
from tests.adoption.recorded import question
from tests.stack import ROOT, binary, older_binary

ENOUGH = Enough(2, 2)


def drafted(*lines: QuestionLine) -> PolicyDraft:
    evidence = Evidence()
    evidence.add_all(lines)
    return draft_of(evidence, ENOUGH)


def people(status: int, number: int = 2, **fields: object) -> list[QuestionLine]:
    """Return a request of each of so many principals, whom the app answers so."""
    return [question(0, status, principal=f"secret-{one}", **fields) for one in range(number)]


def compiled(draft: PolicyDraft, folder: Path, extra: str = "") -> int:
    """Compile and test a draft with both Cerbos. Returns the number of tests of the newer one."""
    folder.mkdir()
    for name, text in draft.files.items():
        (folder / name).write_text(text, encoding="utf-8")
    if extra:
        (folder / "hidden_test.yaml").write_text(extra, encoding="utf-8")
    tests = 0
    for program, flags in ((older_binary(), []), (binary(), ["--strict-evaluation"])):
        done = subprocess.run(
            [str(program), "compile", "--output=json", *flags, str(folder)], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr
        counts = json.loads(done.stdout)["summary"]["resultCounts"]
        assert [one["result"] for one in counts] == ["RESULT_PASSED"]
        tests = counts[0]["count"]
    return tests


def test_a_draft_has_its_evidence_as_comments_and_passes_its_tests(tmp_path: Path) -> None:
    draft = drafted(
        *people(200, owner=("owner",)), *people(403), *people(200, roles=("admin",)), *people(200, 1, action="delete", roles=("admin",)),
        *people(200, action="list", roles=("a", "b")),
    )  # fmt: skip
    assert sorted(draft.files) == ["contact_policy.yaml", "contact_roles.yaml", "contact_test.yaml"]
    policy = draft.files["contact_policy.yaml"]
    assert policy.startswith("# Drafted by `sidecar draft` from 9 recorded requests, 2025-12-01 to 2025-12-01.")
    assert (
        "    # read, user, own by owner: 2 requests of 2 principals, 2025-12-01 to 2025-12-01, app 200 (2)\n" in policy
    )
    assert (
        "# Not granted, decide:\n# - delete, admin: 1 request of 1 principal, 2025-12-01 to 2025-12-01, app 200 (1) (too few"
        in policy
    )
    assert "# These roles were never seen apart." in policy
    rules = yaml.safe_load(policy)["resourcePolicy"]["rules"]
    assert [(rule["actions"], rule.get("roles"), rule.get("derivedRoles")) for rule in rules] == [
        (["list"], ["a"], None), (["read"], None, ["owner"]), (["read"], ["admin"], None),
    ]  # fmt: skip
    assert "secret" not in "".join(draft.files.values())
    assert compiled(draft, tmp_path / "policies") == 4


ODD = [
    "a b",
    "a:b",
    "a?",
    "[a]",
    "{a}",
    "é",
    'a"b',
    "a\\b",
    "true",
    "1",
    "a,b",
    "~",
    "\x07",
    "a\u2028b",
    "😀",
    "x" * 200,
    "# no",
    "owner",
]
KINDS = [name for name in ODD if not set(name) & set(" ?[]{}\x07\u2028")]
"""A kind has no space (docs/reference/routes.md)."""


def test_names_of_any_kind_pass_both_cerbos(tmp_path: Path) -> None:
    lines = [line for name in ODD for line in people(200, action=name, roles=(name,))]
    lines += [line for name in ODD for line in people(200, action=f"own {name}", roles=(name,), owner=(name,))]
    lines += [
        line
        for name in ODD
        for line in people(200, action=f"both {name}", roles=tuple(sorted((name, "zz"))), owner=("in",))
    ]
    lines += [line for kind in KINDS for line in people(200, kind=kind)]
    draft = drafted(*lines)
    assert draft.granted == len(ODD) * 3 + len(KINDS)
    assert not draft.unwritable
    assert compiled(draft, tmp_path / "policies") == draft.granted


def test_no_wildcard_is_ever_written(tmp_path: Path) -> None:
    draft = drafted(
        *people(200, roles=("*",)), *people(200, action="*"), *people(200, kind="*"), *people(200, kind="a!"), *people(200, roles=("us*", "user")),
        *people(200, kind="a:b"), *people(200, kind="a/b"),
    )  # fmt: skip
    assert not [value for text in draft.files.values() for value in _values(yaml.safe_load(text)) if "*" in value]
    assert [(one.what, one.name) for one in draft.unwritable] == [
        ("action", "*"), ("kind", "*"), ("kind", "a!"), ("kind", "a:b"), ("role", "*"), ("role", "us*"),
    ]  # fmt: skip
    assert compiled(draft, tmp_path / "policies")


def _values(node: object) -> Iterable[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield str(key)
            yield from _values(value)
    elif isinstance(node, list):
        for value in node:
            yield from _values(value)
    else:
        yield str(node)


def test_owners_are_found_by_a_number_too(tmp_path: Path) -> None:
    lines = [
        question(0, 200, principal=str(one), owner=("owner_id",), attributes={"owner_id": one})
        for one in (7_000_000, 8)
    ]
    lines += [question(0, 403, principal=str(one), attributes={"owner_id": 9}) for one in (7_000_000, 8)]
    draft = drafted(*lines)
    assert draft.granted == 1
    mixed: dict[tuple[str, str, tuple[str, ...], bool], bool] = {
        ("contact", "read", ("user",), own): own for own in (True, False)
    }
    asked = suite(mixed).replace('"p0"', '"7000000"').replace('{"owner": "7000000"}', '{"owner_id": 7000000}')
    assert compiled(draft, tmp_path / "policies", asked.replace('{"owner": "else"}', '{"owner_id": "7000000"}')) == 4


def test_a_draft_without_a_rule_denies_all(tmp_path: Path) -> None:
    draft = drafted(*people(403))
    assert draft.granted == 0
    assert compiled(draft, tmp_path / "policies") == 1


def test_what_a_person_must_decide_is_in_the_text_and_the_json() -> None:
    draft = drafted(
        *people(200, action="list", roles=("a", "b"), items={"seen": 2}),
        *people(200, 1),
        *people(200, scope="acme"),
        *people(200, roles=("*",)),
    )
    text = as_text(draft)
    for part in (
        "  ? list, a and b: 2 requests", "      these roles were never seen apart", "  not granted, decide:\n  - read, *: 2 requests",
        'note: role "*": left out', "note: items of lists (/contacts/{id})", "note: 2 requests left out: they have a scope",
    ):  # fmt: skip
        assert part in text, text
    found = as_json(draft)
    assert found["kinds"][0]["rules"][0]["ambiguous"] is True
    assert [one["reason"][:7] for one in found["kinds"][0]["not_granted"]] == ["no role", "too few"]
    json.dumps(found)


# --- an app with a policy of its own, which only its answers show ---

ROLES = ("admin", "editor", "sales", "user")
ACTIONS = ("create", "delete", "list", "read")
Hidden = dict[tuple[str, str], str]
"""(action, role) -> `all` or `own`."""


def admits(hidden: Hidden, action: str, roles: Iterable[str], *, own: bool) -> bool:
    return any(hidden.get((action, role)) in (("all", "own") if own else ("all",)) for role in roles)


def test_cerbos_decides_by_the_draft_as_the_app_did(tmp_path: Path) -> None:
    # every app is a kind of its own, so that one run of Cerbos asks about all of them
    dice = random.Random(7)
    lines: list[QuestionLine] = []
    expected: dict[tuple[str, str, tuple[str, ...], bool], bool] = {}
    for kind in (f"app{number}" for number in range(20)):
        hidden: Hidden = {
            cell: dice.choice(["all", "own", "none", "none"]) for cell in itertools.product(ACTIONS, ROLES)
        }
        sets = [tuple(sorted(dice.sample(ROLES, dice.randint(1, 3)))) for _ in range(6)]
        for action, roles, own in itertools.product(ACTIONS, {*sets}, (True, False)):
            number = dice.randint(0, 4)
            admitted = admits(hidden, action, roles, own=own)
            lines += people(
                200 if admitted else 403,
                number,
                kind=kind,
                action=action,
                roles=roles,
                owner=("owner",) if own else None,
            )
            if number >= ENOUGH.principals or (number and not admitted):
                expected[kind, action, roles, own] = admitted
        seen = {(one.action, role) for one in lines if (one.kind, one.app_status) == (kind, 200) for role in one.roles}
        for action, role, own in itertools.product(ACTIONS, ROLES, (True, False)):
            if (action, role) not in seen:
                expected[kind, action, (role,), own] = False
    dice.shuffle(lines)
    assert compiled(drafted(*lines), tmp_path / "policies", suite(expected)) >= len(expected)


def suite(expected: dict[tuple[str, str, tuple[str, ...], bool], bool]) -> str:
    """The questions of a recording, with what the app said, as tests of Cerbos."""
    who = {roles: f"p{number}" for number, roles in enumerate(sorted({roles for _, _, roles, _ in expected}))}
    things = {(kind, who[roles], own): f"{kind}-{who[roles]}-{own}" for kind, _, roles, own in expected}
    tests = []
    for (kind, person, own), thing in things.items():
        actions = {
            action: f"EFFECT_{'ALLOW' if admitted else 'DENY'}"
            for (of, action, roles, mine), admitted in expected.items()
            if (of, who[roles], mine) == (kind, person, own)
        }
        tests.append(
            {
                "name": thing, "input": {"principals": [person], "resources": [thing], "actions": sorted(actions)},
                "expected": [{"principal": person, "resource": thing, "actions": actions}],
            }
        )  # fmt: skip
    resources = {
        thing: {"kind": kind, "id": "1", "attr": {"owner": person if own else "else"}}
        for (kind, person, own), thing in things.items()
    }
    principals = {name: {"id": name, "roles": list(roles)} for roles, name in who.items()}
    return json.dumps({"name": "hidden", "principals": principals, "resources": resources, "tests": tests})


# --- docs/guides/draft-policies.md ---


def guide_traffic() -> list[QuestionLine]:
    """A few days of contacts: people change their own, admins all; interns changed some once, and bots only list."""
    seen: list[QuestionLine] = []
    for day in range(12):
        owner = ("owner",)
        seen += [
            question(day, 200, principal=f"p-{day % 4}"), question(day, 200, principal=f"p-{day % 4}", action="update", owner=owner),
            question(day, 403, principal=f"p-{day % 5}", action="update"),
            question(day, 200, principal=f"a-{day % 2}", roles=("admin", "user"), action="update"),
            question(day, 200, principal=f"b-{day % 3}", roles=("bot", "machine"), action="list"),
        ]  # fmt: skip
    return [*seen, question(3, 200, principal="i-1", roles=("intern",), action="update")]


def test_the_guide_shows_what_is_drafted() -> None:
    page = (ROOT / "docs/guides/draft-policies.md").read_text(encoding="utf-8")
    shown = dict(re.findall(r"<!-- example: policies/(\S+) -->\n```yaml\n(.*?)```", page, re.DOTALL))
    evidence = Evidence()
    evidence.add_all(guide_traffic())
    assert shown == draft_of(evidence, Enough()).files
