"""Names that are ours stand in one place, and every door keeps to them."""

from __future__ import annotations

import ast
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.doors.dialects import DIALECTS
from sidecar.gate.identity import Principal
from sidecar.gate.own import (
    IDENTITY,
    IDENTITY_HEADERS,
    OWN_COOKIES,
    SESSION_COOKIE_NAME,
    SESSION_COOKIES,
    IdentityHeader,
    expired,
    header_text,
    set_cookie,
)
from sidecar.gate.request import Raw
from sidecar.gate.verdict import Forward
from sidecar.net.answer_headers import clean_headers
from sidecar.net.upstream import Handshake, handshake_headers
from tests.doors.test_ext_authz import Door, changed, question
from tests.doors.test_forward_auth import Asking
from tests.gate.test_gate import TOKEN, World
from tests.source import nodes_of

ROOT = Path(__file__).parent.parent.parent
BEARER = (b"authorization", b"Bearer " + TOKEN)
ALICE = Principal("a-1", ("user",), {}, "", 0.0, {})


@pytest.mark.parametrize(
    ("text", "value"),
    [("alice", b"alice"), ("a-1", b"a-1"), ("a,b", b"a%2Cb"), ("a%2Cb", b"a%252Cb"), ("café", b"caf%C3%A9"), ('a"b', b"a%22b"), ("٣", b"%D9%A3"),
     ("eu-west-1_X_Google", b"eu-west-1_X_Google"), ("a@b.c/d:e", b"a@b.c/d:e")],
)  # fmt: skip
def test_no_name_can_look_like_two_in_a_header(text: str, value: bytes) -> None:
    assert header_text(text) == value


def test_a_cookie_of_ours_has_every_mark() -> None:
    assert set_cookie("a", "b") == b"a=b; Path=/; Secure; HttpOnly; SameSite=Lax"
    assert set_cookie("a", "b", 60) == b"a=b; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=60"
    assert expired("a") == b"a=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0"


def test_each_piece_of_a_session_has_a_name_that_is_ours() -> None:
    assert len(set(SESSION_COOKIES)) == 4
    for name in SESSION_COOKIES:
        assert SESSION_COOKIE_NAME.fullmatch(name.encode())
        assert name.encode().startswith(OWN_COOKIES)


# --- every door ---

EACH = pytest.mark.parametrize("header", IDENTITY, ids=lambda header: header.name.decode())
EACH_NAME = pytest.mark.parametrize("name", IDENTITY_HEADERS)


def values(headers: Iterator[tuple[bytes, bytes]] | tuple[tuple[bytes, bytes], ...], name: bytes) -> list[bytes]:
    return [value for key, value in headers if key == name]


async def permit(target: bytes, *headers: tuple[bytes, bytes], websocket: bool = False) -> Forward:
    world = World()
    raw = Raw("GET", target, [(b"host", b"app.test"), *headers], "", "http", "r1", websocket)
    verdict = await world.gate().decide(raw, world.read_body)
    assert isinstance(verdict, Forward)
    return verdict


@EACH
async def test_the_gate_writes_it_in_place_of_the_clients(header: IdentityHeader) -> None:
    made = await permit(b"/docs/7", BEARER, (header.name, b"forged"))
    assert values(made.headers, header.name) == [header.value(ALICE)]


@EACH_NAME
async def test_a_public_route_takes_it_away(name: bytes) -> None:
    assert values((await permit(b"/public", (name, b"forged"))).headers, name) == []


@EACH
async def test_a_handshake_has_it(header: IdentityHeader) -> None:
    made = await permit(b"/docs/7", BEARER, (header.name, b"forged"), websocket=True)
    sent = handshake_headers(made, Handshake(b"key"))
    assert values(iter(sent), header.name) == [header.value(ALICE)]


@EACH
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_proxy_that_asks_is_given_it(dialect: str, header: IdentityHeader) -> None:
    got = await Asking(dialect).ask("/docs/7", (header.name, b"forged"))
    assert got.status == 200
    assert got.header(header.name.decode()) == header.value(ALICE).decode()


@EACH_NAME
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_proxy_that_asks_takes_it_away_from_a_public_route(dialect: str, name: bytes) -> None:
    got = await Asking(dialect).ask("/public", (name, b"forged"), token=False)
    assert got.status == 200
    assert name.decode() in (got.header(DIALECTS[dialect].removal.decode()) or "").split(",")


@EACH
async def test_envoy_is_given_it(header: IdentityHeader) -> None:
    answer = await Door(World().gate()).ask(question(BEARER, (header.name, b"forged")))
    assert changed(answer.ok_response.headers)[header.name.decode()][0] == header.value(ALICE).decode()


@EACH_NAME
async def test_envoy_takes_it_away_from_a_public_route(name: bytes) -> None:
    answer = await Door(World().gate()).ask(question((name, b"forged"), path="/public"))
    assert name.decode() in answer.ok_response.headers_to_remove


@EACH_NAME
def test_no_client_gets_it_from_the_app(name: bytes) -> None:
    assert clean_headers([(name, b"a"), (name.replace(b"-", b"_"), b"a")]) == []


@EACH_NAME
def test_the_reference_names_it(name: bytes) -> None:
    assert f"| `{name.decode().title()}` |" in runpy.run_path(str(ROOT / "scripts" / "reference.py"))["headers"]()


def test_a_header_that_is_added_in_one_place_is_at_every_door(tmp_path: Path) -> None:
    for folder in ("sidecar", "tests", "scripts", "docs"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    own = tmp_path / "sidecar" / "gate" / "own.py"
    text = own.read_text()
    added = """IDENTITY = (
    IdentityHeader(b"x-auth-fourth", lambda principal: b"of " + header_text(principal.id), "a fourth"),
"""
    assert text.count("IDENTITY = (\n") == 1
    own.write_text(text.replace("IDENTITY = (\n", added))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "asyncio_mode=auto",
         "-k", "fourth", "--rootdir", str(tmp_path), "tests/gate/test_own.py"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    passed = re.search(r"(\d+) passed", done.stdout)
    assert done.returncode == 0, done.stdout[-4000:]
    # one for each door and direction above: each dialect twice, and eight besides
    assert passed is not None
    assert int(passed[1]) == 2 * len(DIALECTS) + 7


# --- no second list ---

NAMES = re.compile(r"x-auth-[a-z]|__host-[a-z]|/_sidecar/[a-z]|^/_sidecar/$", re.IGNORECASE)


def texts(source: str) -> Iterator[ast.Constant]:
    """The texts and bytes of a file's code: neither its docstrings nor what is written below an assignment."""
    prose: set[ast.expr] = set()
    # a node comes after the one that holds it
    for node in nodes_of(source):
        if isinstance(node, ast.Expr):
            prose.add(node.value)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str | bytes) and node not in prose:
            yield node


def second_homes(source: str) -> list[int]:
    """Lines that write a name of ours out."""
    found = []
    for node in texts(source):
        text = node.value.decode("latin-1") if isinstance(node.value, bytes) else str(node.value)
        # a sentence may name one
        if NAMES.search(text) and "`" not in text:
            found.append(node.lineno)
    return found


def test_a_second_home_is_seen() -> None:
    assert second_homes(
        '"""`X-Auth-Roles`"""\nA = b"x-auth-roles"\nB = f"{A}/_sidecar/login"\nC = "see `/_sidecar/login`"'
    ) == [2, 3]


def test_a_name_of_ours_is_written_out_in_one_file() -> None:
    found = {
        f"{path.relative_to(ROOT)}:{line}"
        for path in sorted((ROOT / "sidecar").rglob("*.py"))
        # the demo and the webhook are other programs, which know the sidecar from outside
        if path.name != "own.py" and not {"demo", "inject"} & set(path.parts)
        for line in second_homes(path.read_text())
    }
    assert found == set()


def test_what_proxies_are_told_by_file_names_each_as_often_as_the_others() -> None:
    files = [path for path in (ROOT / "deploy").rglob("*") if path.is_file() and path.suffix != ".lock"]
    counts = {
        path: [path.read_text(encoding="utf-8").lower().count(name.decode()) for name in IDENTITY_HEADERS]
        for path in files
        if "x-auth-roles" in path.read_text(encoding="utf-8").lower()
    }
    assert counts
    for path, each in counts.items():
        assert len(set(each)) == 1, (path, each)
