"""Enforcing by slices, through the real process: sign-in first, route by route, for a share of the people."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.gate.codes import Code
from sidecar.gate.mode import OF_RULES, bucket_of
from sidecar.record.line import QuestionLine, read
from tests.conftest import Stack, policies
from tests.stack import ROOT, Sidecar, raw_reply, reply, running_sidecar, wait_for

GUIDE = (ROOT / "docs" / "guides" / "shadow-then-enforce.md").read_text(encoding="utf-8")
CONTACT = "resource: contact, id: '{path.id}', query: [], lookup: contact, actions: {GET: read, PUT: update}"
ROUTES = f"""\
  - {{path: "/enforced/{{id}}", {CONTACT}, mode: enforce}}
  - {{path: "/shadow/{{id}}", {CONTACT}, mode: shadow}}
  - {{path: "/some/{{id}}", {CONTACT}, mode: {{enforce: 10%}}}}
  - {{path: "/budget/{{id}}", {CONTACT}, mode: {{enforce: 100%, budget: {{refusals: 2, principals: 2}}}}}}
"""


@pytest.fixture(scope="module")
def sidecar(session_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """One that sees to it that people sign in, and leaves the policy in shadow."""
    environ = {
        **session_stack.environ, "SIDECAR_MODE": "shadow-policy", "AWS_COGNITO_DOMAIN": "https://login.test",
        "AWS_COGNITO_HOSTED_UI_CALLBACK_URL": "https://app.test/_sidecar/callback",
        "SIDECAR_SESSION_SECRET": "bFx3kRtvQ0n5m2Jp8sWz1yHc6dGe4aUo7iLqXwTfNrM=", "SIDECAR_FORWARD_AUTH": "nginx",
        "SIDECAR_TRUSTED_PROXIES": "127.0.0.1/32",
    }  # fmt: skip
    upstream = f"http://127.0.0.1:{session_stack.upstream.port}"
    folder = tmp_path_factory.mktemp("slices")
    environ["SIDECAR_QUESTION_LOG"] = str(folder / "questions.jsonl")
    with running_sidecar(folder, session_stack.routes + ROUTES, policies(), upstream, environ, shared=True) as running:
        yield running


def told(sidecar: Sidecar) -> tuple[str, str, str]:
    line = sidecar.decisions()[-1]
    return line["outcome"], line["code"], line["mode"]


def test_people_are_sent_to_sign_in_and_programs_get_401(sidecar: Sidecar, stack: Stack) -> None:
    for path in ("/contacts/1", "/nowhere"):
        page = sidecar.get(path, accept="text/html", sec_fetch_mode="navigate")
        assert (page.status, page.header("location")) == (302, f"/_sidecar/login?return_to={path}")
        assert told(sidecar) == ("refuse", "token_missing", "shadow-policy")
        refused = sidecar.get(path, "no.good.token")
        assert (refused.status, refused.code) == (401, "token_invalid")
    assert sidecar.get("/contacts/../me", stack.tokens["alice"]).code == "target_ambiguous"
    assert stack.upstream.seen == []


def test_what_the_policy_refuses_is_forwarded_and_recorded(sidecar: Sidecar, stack: Stack) -> None:
    for method, path, code in (
        ("PUT", "/contacts/2", "denied_by_policy"), ("GET", "/nowhere", "route_unmapped"),
        ("GET", "/contacts/3", "resource_missing"),
    ):  # fmt: skip
        stack.upstream.reset(reply())
        assert sidecar.request(method, path, stack.tokens["alice"]).status == 200
        assert stack.upstream.seen[0].values("x-auth-subject") == ["alice"]
        assert told(sidecar) == ("shadow_refuse", code, "shadow-policy")


def test_a_route_has_its_own_mode_and_a_share_of_the_people_another(sidecar: Sidecar, stack: Stack) -> None:
    assert (bucket_of("alice"), bucket_of("bob")) == (1, 12)
    for who, path, status, expected in (
        ("alice", "/enforced/2", 403, ("refuse", "denied_by_policy", "enforce")),
        ("alice", "/some/2", 403, ("refuse", "denied_by_policy", "enforce")),
        ("bob", "/some/1", 200, ("shadow_refuse", "denied_by_policy", "shadow-policy")),
        ("", "/some/1", 401, ("refuse", "token_missing", "shadow-policy")),
        ("", "/shadow/1", 200, ("shadow_refuse", "token_missing", "shadow")),
    ):
        stack.upstream.reset(reply())
        assert sidecar.request("PUT", path, stack.tokens.get(who)).status == status
        assert told(sidecar) == expected


def test_a_list_goes_out_as_it_is_and_the_log_says_what_would_be_left(sidecar: Sidecar, stack: Stack) -> None:
    def of_list() -> list[QuestionLine]:
        path = sidecar.folder / "questions.jsonl"
        found = [read(line) for line in path.read_bytes().splitlines()] if path.exists() else []
        return [line for line in found if isinstance(line, QuestionLine) and line.route == "/list"]

    body = json.dumps(
        [{"id": 1, "owner_id": "alice", "phone": "1"}, {"id": 2, "owner_id": "bob", "phone": "2"}]
    ).encode()
    compressed = gzip.compress(body)
    for data, encoding in ((body, b""), (compressed, b'Content-Encoding: gzip\r\nETag: "1"\r\n')):
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n" % (
            encoding,
            len(data),
        )
        stack.upstream.reset(raw_reply(head + data))
        got = sidecar.get("/list", stack.tokens["alice"], accept_encoding="gzip", if_none_match='"0"')
        assert (got.status, got.body) == (200, data)
        # the app is asked what the client asked
        assert stack.upstream.seen[0].values("if-none-match") == ['"0"']
        wait_for(lambda: sidecar.decisions()[-1]["route"] == "/list")
        line = sidecar.decisions()[-1]
        assert (line["outcome"], line["mode"]) == ("allow", "shadow-policy")
        assert line["items"] == {"seen": 2, "kept": 2, "masked": 1, "calls": 1}
        assert sidecar.get("/me", stack.tokens["alice"]).status == 200
    stack.upstream.reset(raw_reply(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"))
    assert sidecar.get("/list", stack.tokens["alice"]).body == b"{}"
    wait_for(lambda: sidecar.decisions()[-1]["route"] == "/list")
    assert told(sidecar) == ("shadow_refuse", "items_unreadable", "shadow-policy")
    # the question log has them too, for the report
    wait_for(lambda: len(of_list()) == 3)
    assert [(line.outcome, line.code, line.mode, line.items) for line in of_list()] == [
        *[("allow", "allowed", "shadow-policy", {"seen": 2, "kept": 2, "masked": 1, "calls": 1})] * 2,
        ("shadow_refuse", "items_unreadable", "shadow-policy", None),
    ]
    labels = {"route": "/list"}
    assert sidecar.metric("sidecar_items_total", **labels, result="shadow_kept") == 4
    assert sidecar.metric("sidecar_items_total", **labels, result="masked") == 0


def test_a_proxy_that_asks_is_told_by_the_same_modes(sidecar: Sidecar, stack: Stack) -> None:
    for path, who, status in (("/shadow/2", "", 200), ("/contacts/2", "alice", 200), ("/enforced/2", "alice", 403), ("/contacts/2", "", 401)):  # fmt: skip
        got = sidecar.request(
            "GET", "/_sidecar/authorize", stack.tokens.get(who), x_original_method="PUT", x_original_uri=path, x_forwarded_proto="http", x_forwarded_for="192.0.2.7"
        )  # fmt: skip
        assert got.status == status, path


def test_it_is_seen_by_whoever_operates_it(sidecar: Sidecar) -> None:
    assert "mode shadow-policy: rules and policies refuse nothing, only recorded" in sidecar.log()
    assert b'"mode":"shadow-policy"' in sidecar.admin("/readyz").body
    assert [sidecar.metric("sidecar_mode", mode=mode) for mode in ("enforce", "shadow-policy", "shadow")] == [0, 1, 0]
    shown = {route["path"]: route.get("modes") for route in json.loads(sidecar.admin("/config").body)["routes"]}
    assert (shown["/me"], shown["/shadow/{id}"]) == (None, {"GET": "shadow", "PUT": "shadow"})
    assert shown["/some/{id}"] == dict.fromkeys(["GET", "PUT"], "enforce for 10%, otherwise shadow-policy")


def test_another_mode_is_in_force_without_a_restart(sidecar: Sidecar, stack: Stack, tmp_path: Path) -> None:
    path = sidecar.folder / "routes.yaml"
    text = path.read_text()
    generation = sidecar.metric("sidecar_config_generation")
    assert sidecar.request("PUT", "/enforced/2", stack.tokens["alice"]).status == 403
    try:
        path.write_text(text.replace("mode: enforce}", "mode: shadow}"))
        wait_for(lambda: sidecar.metric("sidecar_config_generation") > generation)
        assert sidecar.request("PUT", "/enforced/2", stack.tokens["alice"]).status == 200
    finally:
        path.write_text(text)
        wait_for(lambda: sidecar.metric("sidecar_config_generation") > generation + 1)


def test_a_budget_that_is_spent_opens_its_route_until_the_routes_are_read_again(sidecar: Sidecar, stack: Stack) -> None:
    alice, bob = stack.tokens["alice"], stack.tokens["bob"]
    labels = {"route": "/budget/{id}", "method": "*"}
    assert [sidecar.request("PUT", "/budget/2", alice).status for _ in range(4)] == [403] * 4
    assert (sidecar.metric("sidecar_budget_spent", **labels), b"not_enforced" in sidecar.admin("/readyz").body) == (
        0,
        False,
    )
    assert sidecar.metric("sidecar_route_mode", **labels, mode="enforce") == 1
    assert sidecar.request("PUT", "/budget/1", bob).status == 403
    sidecar.settle()
    assert sidecar.metric("sidecar_budget_spent", **labels) == 1
    assert [sidecar.metric("sidecar_route_mode", **labels, mode=mode) for mode in ("enforce", "shadow-policy")] == [
        0,
        1,
    ]
    assert json.loads(sidecar.admin("/readyz").body)["not_enforced"] == "/budget/{id}"
    assert (
        "/budget/{id} update is not enforced any more: more than 2 refusals of 2 principals within 600 s"
        in sidecar.log()
    )
    assert sidecar.request("PUT", "/budget/2", alice).status == 200
    assert told(sidecar) == ("shadow_refuse", "denied_by_policy", "shadow-policy")
    # people have to be signed in all the same
    assert sidecar.request("PUT", "/budget/2").code == "token_missing"
    path, generation = sidecar.folder / "routes.yaml", sidecar.metric("sidecar_config_generation")
    path.write_text(path.read_text() + "# looked at\n")
    wait_for(lambda: sidecar.metric("sidecar_config_generation") > generation)
    assert sidecar.request("PUT", "/budget/2", alice).status == 403
    assert sidecar.metric("sidecar_budget_spent", **labels) == 0


def test_each_worker_has_the_same_people_in_a_share(stack: Stack, tmp_path: Path) -> None:
    upstream = f"http://127.0.0.1:{stack.upstream.port}"
    environ = {**stack.environ, "SIDECAR_WORKERS": "2"}
    with running_sidecar(tmp_path, stack.routes + ROUTES, policies(), upstream, environ, shared=True) as two:
        stack.upstream.reset(reply())
        for who, path, status in (("alice", "/some/2", 403), ("bob", "/some/1", 200)):
            # each comes by a connection of its own, which either worker takes
            assert {two.request("PUT", path, stack.tokens[who]).status for _ in range(12)} == {status}
        shown = [
            two.metric("sidecar_route_mode", route="/some/{id}", mode=mode) for mode in ("enforce", "shadow-policy")
        ]
        assert shown == [0.1, 0.9]


# --- what the guide says ---


def test_the_table_of_the_guide_has_each_code_in_its_place() -> None:
    """A name of the table that ends with … stands for all that begin so."""
    rows = [line.split(" | ") for line in GUIDE.splitlines() if line.startswith("| ")][1:]
    told: dict[Code, str] = {}
    for row in rows:
        for name in re.findall(r"`(\w+)(?:`|…`)", row[1]):
            for code in Code:
                if code == name or (name.endswith("_") and code.startswith(name)):
                    told.setdefault(code, row[-1])
    assert {code for code, effect in told.items() if effect.startswith("forwarded")} == OF_RULES


def test_the_place_of_a_person_is_what_the_shell_of_the_guide_prints() -> None:
    script = re.search(r"```sh\n\s*(id=alice; .*)\n", GUIDE)
    assert script is not None
    for name in ("alice", "bob", "Zoë"):
        done = subprocess.run(
            ["bash", "-c", script[1].replace("id=alice", f"id={name}")], check=True, capture_output=True, text=True
        )
        assert int(done.stdout) == bucket_of(name)
