"""No call to the protected app before the decision type-checks: what a hurried engineer would write, tried by mypy."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent

DOOR = """
from types import SimpleNamespace

from sidecar.gate.app_question import AppQuestion
from sidecar.gate.codes import Ground
from sidecar.gate.gate import Gate
from sidecar.gate.hook import Hook
from sidecar.gate.request import Raw
from sidecar.gate.verdict import Destination, Facts, Forward, Preflight, Refuse
from sidecar.lookups.asking import Lookups
from sidecar.net.app_reader import AppReader
from sidecar.net.connection import RequestBody, Response
from sidecar.net.fetch import Fetch
from sidecar.net.pool import Origin, Pool
from sidecar.net.upstream import Handshake, Upstream


async def no_body(limit: int, show: object, viewer: object) -> None:
    pass


async def handle(
    gate: Gate, upstream: Upstream, raw: Raw, body: RequestBody, reader: AppReader, question: AppQuestion
) -> None:
"""
RIGHT = """
    verdict = await gate.decide(raw, no_body)
    if isinstance(verdict, Forward):
        response: Response = await upstream.send(verdict, body)
        response.close()
        opened = await upstream.upgrade(verdict, Handshake(b"key"))
        opened.transport.abort()
"""
WRONG = {
    "the request itself": """
    await upstream.send(raw, body)  # E: arg-type
    await gate.decide(raw, no_body)
""",
    "a handshake with the request itself": """
    await upstream.upgrade(raw, Handshake(b"key"))  # E: arg-type
""",
    "a handshake with the client's own headers": """
    verdict = await gate.decide(raw, no_body)
    if isinstance(verdict, Forward):
        await upstream.upgrade(verdict, raw.headers)  # E: arg-type
""",
    "a gate of one's own": """
    class Open(Gate):  # E: misc
        pass
""",
    "a verdict that nobody looked at": """
    verdict = await gate.decide(raw, no_body)
    await upstream.send(verdict, body)  # E: arg-type
""",
    "a decision that nobody awaited": """
    await upstream.send(gate.decide(raw, no_body), body)  # E: arg-type
""",
    "a refusal": """
    verdict = await gate.decide(raw, no_body)
    if not isinstance(verdict, Forward):
        await upstream.send(verdict, body)  # E: arg-type
""",
    "an answer to a preflight": """
    match await gate.decide(raw, no_body):
        case Forward() | Preflight() as verdict:
            await upstream.send(verdict, body)  # E: arg-type
        case Refuse():
            pass
""",
    "a permit that may be none": """
    permit: Forward | None = None
    verdict = await gate.decide(raw, no_body)
    if isinstance(verdict, Forward):
        permit = verdict
    await upstream.send(permit, body)  # E: arg-type
""",
    "nothing": """
    await upstream.send(None, body)  # E: arg-type
    await upstream.send(body)  # E: call-arg arg-type
""",
    "what looks like a permit": """
    seeming = SimpleNamespace(method=b"GET", target=raw.target, headers=raw.headers)
    await upstream.send(seeming, body)  # E: arg-type
    await upstream.send((b"GET", raw.target, raw.headers), body)  # E: arg-type
""",
    "a question": """
    await upstream.get(raw.target, raw.headers, max_body=1, deadline=1.0)  # E: attr-defined
    await upstream.post(raw.target, raw.headers, b"", max_body=1, deadline=1.0)  # E: attr-defined
    await upstream.fetch(raw.target)  # E: attr-defined
    await upstream.request("GET", raw.target)  # E: attr-defined
    await upstream(raw, body)  # E: operator
""",
    "the pool behind it": """
    await upstream.pool.exchange(b"GET / HTTP/1.1", b"GET", None)  # E: attr-defined
    await upstream.exchange(b"GET / HTTP/1.1", b"GET", None)  # E: attr-defined
    await upstream.connect()  # E: attr-defined
    pool = upstream.made(Destination("app", "http://app"))
    await pool.exchange(b"GET / HTTP/1.1", b"GET", None)  # E: call-arg
    await pool.exchange(None, b"GET / HTTP/1.1", b"GET", None)  # E: arg-type
    await pool.exchange(raw, b"GET / HTTP/1.1", b"GET", None)  # E: arg-type
    await pool.connect(None)  # E: arg-type
    assert upstream._pool is not None
    await upstream._pool.exchange(raw, b"GET / HTTP/1.1", b"GET", None)  # E: arg-type
    await upstream._pool.connect(None)  # E: arg-type
""",
    "a fetch that asks by its connections": """
    await Fetch(upstream).get(b"/", (), max_body=1, deadline=1.0)  # E: arg-type
    await Fetch(upstream.made(Destination("app", "http://app"))).get(b"/", (), max_body=1, deadline=1.0)  # E: arg-type
    await Fetch(upstream.origin).get(b"/", (), max_body=1, deadline=1.0)  # E: attr-defined
""",
    "a fetch in its place": """
    await handle(gate, Fetch(Origin("http", "app", 80)), raw, body, reader, question)  # E: arg-type
    upstream = Fetch(Origin("http", "app", 80))  # E: assignment
""",
    "a pool in its place": """
    shared: Pool[Forward] = Pool(Origin("http", "app", 80))
    await handle(gate, shared, raw, body, reader, question)  # E: arg-type
    asks: Pool[None] = shared  # E: assignment
    Upstream(asks)  # E: arg-type
""",
    "a permit by hand": """
    await upstream.send(Forward(b"GET", b"/", (), Ground.PUBLIC, Facts("r", "GET", "/")), body)  # E: abstract
""",
    "a permit of one's own": """
    class Permit(Forward):
        pass

    await upstream.send(Permit(b"GET", b"/", (), Ground.PUBLIC, Facts("r", "GET", "/")), body)  # E: abstract
""",
    "a permit of the fields of one": """
    await upstream.send(Forward._make((b"GET", b"/", (), Ground.PUBLIC, Facts("r", "GET", "/"))), body)  # E: misc
    verdict = await gate.decide(raw, no_body)
    if isinstance(verdict, Forward):
        await upstream.send(verdict._replace(target=raw.target), body)  # E: misc
        await upstream.send((*verdict[:1], raw.target, *verdict[2:]), body)  # E: arg-type
""",
    "a lookup's warrant by hand": """
    await reader.get(AppQuestion(b"/", (), b"", None), max_body=1, deadline=1.0)  # E: abstract
""",
    "a lookup of one's own": """
    await reader.get(b"/", max_body=1, deadline=1.0)  # E: arg-type
    await reader.get(raw, max_body=1, deadline=1.0)  # E: arg-type
    await reader.post(b"/", b"", max_body=1, deadline=1.0)  # E: attr-defined
    await reader._pools[None].exchange(None, b"GET / HTTP/1.1", b"GET", None)  # E: arg-type
""",
    "a lookup's warrant in a permit's place": """
    await upstream.send(question, body)  # E: arg-type
    verdict = await gate.decide(raw, no_body)
    if isinstance(verdict, Forward):
        await reader.get(verdict, max_body=1, deadline=1.0)  # E: arg-type
""",
    "a lookup that changes something": """
    await reader.get(question, max_body=1, deadline=1.0, method=b"DELETE")  # E: call-arg
    question.target = raw.target  # E: misc
""",
    "a permit for another target": """
    verdict = await gate.decide(raw, no_body)
    if isinstance(verdict, Forward):
        verdict.target = raw.target  # E: misc
        verdict.upstream = Destination("another", "http://another")  # E: misc
        verdict.headers.append((b"x-auth-roles", b"admin"))  # E: attr-defined
""",
    "a lookup that asks the app": """
    Lookups({Hook: upstream}, now=lambda: 0.0)  # E: dict-item
""",
    "another way to send": """
    class Eager(Upstream):  # E: misc
        pass

    class Lax(Fetch):  # E: misc
        pass
""",
}
REACHES_IN = """
    for connection in upstream._pool.connections:
        connection.transport.write(b"GET / HTTP/1.1")
"""


def errors(folder: Path, programs: dict[str, str]) -> dict[str, set[tuple[int, str]]]:
    """What mypy says of programs, as (line, code); one run for all of them, with the cache of the project's own."""
    names = {f"program{number}": name for number, name in enumerate(programs)}
    files = [folder / f"{file}.py" for file in names]
    for file, text in zip(files, programs.values(), strict=True):
        file.write_text(text)
    command = [sys.executable, "-m", "mypy", "--config-file", "pyproject.toml", "--no-error-summary", *map(str, files)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=170, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found: dict[str, set[tuple[int, str]]] = {name: set() for name in programs}
    for line in done.stdout.splitlines():
        said = re.fullmatch(r".*?(program\d+)\.py:(\d+): error: .*\[([a-z-]+)\]", line)
        if said is not None:
            found[names[said[1]]].add((int(said[2]), said[3]))
        else:
            assert ": note: " in line, line
    return found


def expected(program: str) -> set[tuple[int, str]]:
    """The errors that the comments `# E: code` of a program ask for."""
    marks = [(number, line.partition("# E: ")[2].split()) for number, line in enumerate(program.splitlines(), 1)]
    return {(number, code) for number, codes in marks for code in codes}


def test_a_call_to_the_app_before_the_decision_does_not_type_check(tmp_path: Path) -> None:
    programs = {"right": DOOR + RIGHT} | {name: DOOR + lines for name, lines in WRONG.items()}
    found = errors(tmp_path, programs)
    assert found == {name: expected(program) for name, program in programs.items()}
    assert found["right"] == set()
    assert all(found[name] for name in WRONG)


@pytest.mark.parametrize(("lines", "codes"), [(RIGHT, set()), (REACHES_IN, {"SLF001"})], ids=["right", "reaches in"])
def test_to_reach_behind_the_upstream_does_not_lint(lines: str, codes: set[str]) -> None:
    command = [sys.executable, "-m", "ruff", "check", "--output-format=concise", "--ignore=F401,I001,INP001"]
    done = subprocess.run(
        [*command, "--stdin-filename", "sidecar/doors/tried.py", "-"], cwd=ROOT, input=DOOR.strip() + "\n" + lines,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert set(re.findall(r": ([A-Z]+\d+) ", done.stdout)) == codes, done.stdout + done.stderr
