"""docs/guides/policies.md as it stands: its tables through the whole sidecar with both Cerbos, its warnings by `check`."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from sidecar.run import checking
from sidecar.study.lint import WARNINGS
from tests import guide_commands
from tests.stack import ROOT, Recorder, Sidecar, Web, binary, older_binary, running_sidecar
from tests.study.compiled import policy, rule
from tests.tokens import CLIENT, ISSUER, claims, key_set, mint

GUIDE = (ROOT / "docs/guides/policies.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"<!-- example: (\S+) -->\n```\w+\n(.*?)```", GUIDE, re.DOTALL))
ANSWERS = {"passes": 200, "403": 403}


class Row(NamedTuple):
    """A row of the first table: what a DENY says, the claim's value, and the two answers."""

    condition: str
    claim: str | None
    strict: int
    lax: int


def rows(head: str) -> list[list[str]]:
    """The cells of a table."""
    table = GUIDE.partition(f"\n{head}\n")[2].partition("\n\n")[0]
    lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in table.splitlines()[1:]]
    return [[cell.strip().replace("\\|", "|") for cell in cells] for cells in lines]


GUARDS = [
    Row(condition.strip("`"), None if claim == "none" else claim.strip('`"'), ANSWERS[strict], ANSWERS[lax])
    for condition, claim, strict, lax in rows(
        "| condition of the `DENY` | the token's claim | strict | not strict, or Cerbos before 0.55 |"
    )
]
CONDITIONS = list(dict.fromkeys(row.condition for row in GUARDS))


def token(*roles: str, suspended: str | None = None) -> str:
    said = {"username": "ada", "cognito:groups": list(roles), "custom:suspended": suspended}
    return mint(claims(time.time(), **said)).decode()


@pytest.fixture(scope="module")
def keys() -> Iterator[Web]:
    web = Web()
    web.json("/jwks", key_set())
    yield web
    web.close()


@pytest.fixture(scope="module")
def upstream() -> Iterator[Recorder]:
    recorder = Recorder()
    yield recorder
    recorder.close()


def settings(keys: Web, program: Path) -> dict[str, str]:
    return {
        "SIDECAR_ISSUER": ISSUER, "SIDECAR_JWKS_URL": f"http://127.0.0.1:{keys.port}/jwks", "AWS_COGNITO_CLIENT_ID": CLIENT,
        "SIDECAR_CERBOS_BINARY": str(program),
    }  # fmt: skip


def kinds(folder: Path) -> tuple[str, Path]:
    """The guide's routes and policy, once more for each condition of the table as the kinds report0, report1, ..."""
    policies = folder / "policies"
    policies.mkdir(parents=True)
    document = yaml.safe_load(EXAMPLES["routes.yaml"])
    report = yaml.safe_load(EXAMPLES["policies/report.yaml"])
    (policies / "report.yaml").write_text(EXAMPLES["policies/report.yaml"])
    for number, condition in enumerate(CONDITIONS):
        document["routes"].append(
            {"path": f"/table/{number}", "resource": f"report{number}", "actions": {"DELETE": "delete"}}
        )
        report["resourcePolicy"]["resource"] = f"report{number}"
        report["resourcePolicy"]["rules"][2]["condition"]["match"]["expr"] = condition
        (policies / f"{number}.yaml").write_text(yaml.safe_dump(report))
    return yaml.safe_dump(document), policies


WAYS: list[tuple[Callable[[], Path], str, bool]] = [
    (binary, "on", True),
    (binary, "off", False),
    (older_binary, "on", False),
]


@pytest.mark.parametrize(("program", "strict", "is_strict"), WAYS, ids=["0.55", "0.55-off", "0.51"])
def test_an_optional_attribute_is_guarded_as_the_table_says(
    tmp_path: Path, keys: Web, upstream: Recorder, program: Callable[[], Path], strict: str, is_strict: bool
) -> None:
    routes, policies = kinds(tmp_path)
    environ = {**settings(keys, program()), "SIDECAR_CERBOS_STRICT": strict}
    with running_sidecar(tmp_path, routes, policies, f"http://127.0.0.1:{upstream.port}", environ) as sidecar:
        assert len(GUARDS) == 5
        for row in GUARDS:
            path = f"/table/{CONDITIONS.index(row.condition)}"
            answer = sidecar.request("DELETE", path, token("admin", suspended=row.claim))
            assert answer.status == (row.strict if is_strict else row.lax), row
        _uses_the_example(sidecar)


def _uses_the_example(sidecar: Sidecar) -> None:
    """The guide's own policy, which is the same everywhere."""
    for roles, suspended, status in ((("admin",), None, 200), (("admin",), "true", 403), (("user",), None, 403)):
        assert sidecar.request("DELETE", "/reports/1", token(*roles, suspended=suspended)).status == status
    assert sidecar.get("/reports", token("user", suspended="true")).status == 200
    assert sidecar.get("/reports/1", token("user", suspended="yes")).code == "claim_invalid"


def test_a_denial_for_a_role_stops_nobody_with_another(tmp_path: Path, keys: Web, upstream: Recorder) -> None:
    said = rows("| rule | roles of the principal | answer |")
    assert len(said) == 3
    named, every = tmp_path / "named", tmp_path / "every"
    allow = rule(actions=["read"], roles=["admin"])
    for folder, deny in ((named, rule("DENY", roles=["user"])), (every, rule("DENY", match="P.id == 'ada'"))):
        folder.mkdir()
        (folder / "report.yaml").write_text(policy([allow, deny], kind="report"))
    where, environ = f"http://127.0.0.1:{upstream.port}", settings(keys, binary())
    for folder, lines in ((named, said[:2]), (every, [["", "`admin`", "403"], ["", "`user`, `admin`", "403"]])):
        with running_sidecar(
            tmp_path / f"run-{folder.name}", EXAMPLES["routes.yaml"], folder, where, environ
        ) as sidecar:
            for _, roles, answer in lines:
                assert sidecar.get("/reports/1", token(*re.findall(r"\w+", roles))).status == ANSWERS[answer]


def check(folder: Path, keys: Web, *flags: str) -> subprocess.CompletedProcess[str]:
    return guide_commands.sidecar(folder, "check", *flags, environ=settings(keys, binary()))


WRONG = """\
apiVersion: api.cerbos.dev/v1
resourcePolicy:
  resource: report
  version: default
  rules:
    - {actions: [list, read], effect: EFFECT_ALLOW, roles: [user, admin]}
    - {actions: [delete], effect: EFFECT_ALLOW, roles: [admin]}
    - {actions: [delete], effect: EFFECT_DENY, roles: ["*"], condition: {match: {expr: P.attr.suspended == true}}}
    - {actions: [delete], effect: EFFECT_DENY, roles: [user]}
    - {actions: [delete], effect: EFFECT_DENY, roles: ["*"], condition: {match: {expr: R.attr.owner != P.id}}}
"""


def test_check_warns_as_the_guide_shows(tmp_path: Path, keys: Web) -> None:
    (tmp_path / "policies").mkdir()
    (tmp_path / "routes.yaml").write_text(EXAMPLES["routes.yaml"])
    file = tmp_path / "policies" / "report.yaml"
    file.write_text(EXAMPLES["policies/report.yaml"])
    right = check(tmp_path, keys, "--warnings-as-errors")
    assert "policies/" not in right.stderr
    file.write_text(WRONG)
    wrong = check(tmp_path, keys)
    of_policies = [line for line in wrong.stderr.splitlines() if line.startswith("warning: policies/")]
    assert (wrong.returncode, of_policies) == (0, EXAMPLES["warnings.txt"].splitlines())
    assert check(tmp_path, keys, "--warnings-as-errors").returncode == 1
    file.write_text(EXAMPLES["accepted.yaml"] + WRONG)
    accepted = check(tmp_path, keys)
    assert [line.rpartition(" ")[2] for line in accepted.stderr.splitlines() if "policies/" in line] == [
        "[attribute-unsupplied]"
    ]  # fmt: skip


def test_every_warning_has_its_row() -> None:
    assert {name.strip("`") for name, _ in rows("| name | meaning |")} == WARNINGS


def test_a_cerbos_elsewhere_is_told_the_same_by_check() -> None:
    assert checking.EXTERNAL.splitlines()[1:] == [f"  {line}" for line in EXAMPLES["cerbos.yaml"].splitlines()]
