"""Random policies (by a seed), with all that a plan may make another thing of: presence, maps, several roles, scopes."""

from __future__ import annotations

from random import Random
from typing import Any

from sidecar.gate.identity import Principal

Json = dict[str, Any]
_VALUES = ['"a"', '"b"', '"alice"', "1", "2.0", "true", "null", "5u", "0.5", "9007199254740993"]
_ORDERED = ["1", "2.0", "0.5", "5u", '"b"', "P.attr.level", "P.attr.absent"]
_OURS = ["R.attr.owner", "R.attr.n", "R.attr.ok", "R.attr.note", "request.resource.attr.owner", "R.attr.account.tenant"]
_THEIRS = ["P.id", "P.attr.team", "P.attr.level", "P.attr.absent", "P.attr.teams", "P.attr.m.a"]
_FIXED = [
    "R.attr.ok", 'R.id == "alice"', 'R.id != "a"', "R.id in P.attr.teams", "R.id == P.id", "R.attr.owner == R.id",
    "P.attr.level > 1.0", "P.attr.absent == 1", 'P.id == "alice"', '"x" in P.roles', "has(P.attr.absent)",
    'R.attr["owner"] == P.id', '"owner" in R.attr', 'R.attr.owner.contains("l")', "R.attr.k in P.attr.m",
    'R.attr.k in {"a": 1, "b": 2}', 'has(P.attr.m) && R.attr.k == "a"', '{"a": 1}[R.attr.k] == 1',
    "has(R.attr.owner) && R.attr.owner == P.id", "V.v1", "V.v2", "size(R.attr.tags) > 1", "R.attr.n + 1 > 2.0",
]  # fmt: skip
ACME = "acme"
PRINCIPALS = [("alice", ("user",)), ("alice", ("user", "editor")), ("bob", ("editor", "admin")), ("ann", ("user",))]
ATTRIBUTES = {"team": "a", "level": 2, "teams": ["a", "alice"], "m": {"a": 3, "b": 7}}


def principal(id_: str, roles: tuple[str, ...]) -> Principal:
    return Principal(id_, roles, ATTRIBUTES, "iss", 2.0**40, {})


class Policies:
    """Policies for `kinds`, by the names of their files, and rows of these kinds."""

    def __init__(self, seed: int, kinds: int) -> None:
        self._random = Random(seed)
        self.kinds = [f"k{number}" for number in range(kinds)]
        self.files: dict[str, Json] = {}
        for kind in self.kinds:
            self._add(kind)
        self._file("ann", principalPolicy={
            "principal": "ann", "version": "default",
            "rules": [{"resource": kind, "actions": [self._action()]} for kind in self.kinds[::2]],
        })  # fmt: skip

    def rows(self, number: int) -> list[Json]:
        """Rows with values of all types, and without some."""
        return [self._row(at) for at in range(number)]

    def _row(self, at: int) -> Json:
        pick, maybe = self._random.choice, self._random.random
        texts = ["a", "b", "alice", "", "x"]
        row: Json = {
            "id": pick(["alice", "a", f"r{at}"]), "owner": pick(texts), "n": pick([-1, 0, 1, 2, 5, "5"]), "ok": maybe() < 0.5,
            "note": pick([*texts, 1, 2.0, True]), "tags": self._random.sample(["a", "b", 1, True, "alice"], 2),
            "k": pick(["a", "b", "c", 1]), "account": pick([{}, {"tenant": "a"}, {"tenant": 1}]),
        }  # fmt: skip
        return {name: value for name, value in row.items() if name == "id" or maybe() < 0.75}

    def _file(self, name: str, **body: Json) -> None:
        self.files[f"{name}.json"] = {"apiVersion": "api.cerbos.dev/v1", **body}

    def _add(self, kind: str) -> None:
        derived: list[str] = []
        if self._random.random() < 0.4:
            derived = [f"{kind}d"]
            parents = self._random.choice([["user"], ["editor"], ["*"]])
            definitions = [{"name": derived[0], "parentRoles": parents, "condition": {"match": self._match(0)}}]
            self._file(f"{kind}-derived", derivedRoles={
                "name": f"{kind}s", "variables": self._variables(), "definitions": definitions,
            })  # fmt: skip
        for scope in ("", ACME) if self._random.random() < 0.25 else ("",):
            rules = [self._rule(derived) for _ in range(self._random.randrange(1, 4))]
            body = {"resource": kind, "version": "default", "rules": rules, "variables": self._variables()}
            body |= {"importDerivedRoles": [f"{kind}s"]} if derived else {}
            self._file(f"{kind}-{scope}", resourcePolicy=body | ({"scope": scope} if scope else {}))

    def _variables(self) -> Json:
        return {"local": {"v1": self._comparison(), "v2": self._comparison()}}

    def _action(self) -> Json:
        effect = self._random.choice(["EFFECT_ALLOW", "EFFECT_DENY"])
        return {"action": "read", "effect": effect, "condition": {"match": {"expr": self._comparison()}}}

    def _rule(self, derived: list[str]) -> Json:
        pick = self._random.choice
        rule: Json = {
            "actions": [pick(["read", "read", "*", "re*"])],
            "effect": pick(["EFFECT_ALLOW", "EFFECT_ALLOW", "EFFECT_ALLOW", "EFFECT_DENY"]),
        }
        if derived and self._random.random() < 0.3:
            rule["derivedRoles"] = derived
        else:
            rule["roles"] = pick([["user"], ["user"], ["editor"], ["*"], ["user", "editor"], ["admin"]])
        return rule | ({"condition": {"match": self._match(0)}} if self._random.random() < 0.85 else {})

    def _match(self, depth: int) -> Json:
        if depth > 1 or self._random.random() < 0.65:
            return {"expr": self._expression(depth)}
        kind = self._random.choice(["all", "any", "none"])
        return {kind: {"of": [self._match(depth + 1) for _ in range(self._random.randrange(1, 3))]}}

    def _expression(self, depth: int) -> str:
        choice = self._random.randrange(10)
        if depth > 2 or choice < 5:
            return self._random.choice([self._comparison(), self._random.choice(_FIXED), self._odd()])
        if choice == 9:
            return f"!({self._expression(depth + 1)})"
        return f"({self._expression(depth + 1)} {'&&' if choice < 7 else '||'} {self._expression(depth + 1)})"

    def _comparison(self) -> str:
        pick = self._random.choice
        mine = pick(_OURS)
        return pick([
            f"{mine} {pick(['==', '!='])} {pick(_VALUES + _THEIRS)}", f"{mine} {pick(['<', '<=', '>', '>='])} {pick(_ORDERED)}",
            f"{pick(_ORDERED)} {pick(['<', '==', '!=', '>='])} {mine}", f"{mine} == {pick(_OURS)}",
            f"{mine} in [{', '.join(self._random.sample(_VALUES, self._random.randrange(3)))}]",
            f"{mine} in P.attr.teams", f"{pick(_VALUES)} in R.attr.tags",
        ])  # fmt: skip

    def _odd(self) -> str:
        pick = self._random.choice
        mine = pick(_OURS)
        return pick([
            f"has({pick(_OURS[:4])})", f"R.attr.owner.startsWith({pick(['P.id', 'P.attr.absent'])})",
            f"P.attr.teams.exists(t, t == {mine})", f"P.attr.teams.all(t, t != {mine})",
            f"P.attr.m[R.attr.k] {pick(['<', '==', '>'])} 5.0", f"({mine} == {pick(_VALUES)} ? true : R.attr.ok)",
            f"R.attr.tags.exists(t, t == {pick(['P.id', 'P.attr.team'])})",
        ])  # fmt: skip
