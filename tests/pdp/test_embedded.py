"""`pdp/embedded.py` with the real Cerbos, and with small programs in its place where Cerbos would not misbehave."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from sidecar.gate.decision import ALLOW, DENY, Question, Resource
from sidecar.gate.identity import Principal
from sidecar.gate.verdict import Refused
from sidecar.pdp.cerbos import Cerbos
from sidecar.pdp.embedded import STOP_WITHIN, EmbeddedCerbos
from tests.fakes import environment, until
from tests.stack import ROOT, binary

POLICY = """\
apiVersion: api.cerbos.dev/v1
resourcePolicy:
  resource: doc
  version: default
  rules:
    - {{actions: [read], effect: {effect}, roles: [user]}}
"""
QUESTION = Question("r", Principal("alice", ("user",), {}, "iss", 0.0, {}), (Resource("doc", "1", "read", {}),))


def write(folder: Path, effect: str = ALLOW, name: str = "doc.yaml") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(POLICY.format(effect=effect))
    return folder


@asynccontextmanager
async def running(policies: Path, program: Path | None = None) -> AsyncIterator[EmbeddedCerbos]:
    embedded = EmbeddedCerbos(policies, binary=str(program or binary()))
    try:
        await embedded.start()
        yield embedded
    finally:
        await embedded.stop()


@asynccontextmanager
async def asking(embedded: EmbeddedCerbos) -> AsyncIterator[Callable[[], Coroutine[Any, Any, str]]]:
    cerbos = Cerbos(embedded.target, timeout=2.0, now=time.monotonic)

    async def effect() -> str:
        try:
            return (await cerbos.check(QUESTION)).results[0].effects["read"]
        except Refused as refused:
            return refused.code

    try:
        yield effect
    finally:
        await cerbos.aclose()


def pid_of(embedded: EmbeddedCerbos) -> int:
    assert embedded._process is not None
    return embedded._process.pid


def alive(pid: int) -> bool:
    """Whether a process runs; one that is dead and not yet buried does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def program(folder: Path, body: str) -> Path:
    """A program in the place of Cerbos: listens where Cerbos would, and then does what `body` says."""
    path = folder / "program"
    head = """\
        import json, os, signal, socket, sys, time
        if sys.argv[1] == "compile":
            sys.exit(0)
        if "--version" in sys.argv:
            sys.exit(print("0.55.0"))
        config = json.load(open(next(a for a in sys.argv if a.startswith("--config="))[9:]))
        server = socket.socket(socket.AF_UNIX)
        def listen():
            server.bind(config["server"]["grpcListenAddr"].removeprefix("unix:"))
            server.listen()
        def say(**line):
            print(json.dumps(line), flush=True)
        """
    path.write_text(f"#!{sys.executable}\n" + textwrap.dedent(head) + textwrap.dedent(body))
    path.chmod(0o755)
    return path


# --- running it ---


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_it_answers_once_started_and_leaves_nothing_behind(tmp_path: Path, run: Callable[..., None]) -> None:
    async def play() -> None:
        async with running(write(tmp_path / "policies")) as embedded:
            folder = Path(embedded.target.removeprefix("unix:")).parent
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
            async with asking(embedded) as effect:
                assert await effect() == ALLOW
            pid = pid_of(embedded)
            assert alive(pid)
        assert not alive(pid)
        assert not folder.exists()

    run(play())


def test_one_that_is_never_started_leaves_nothing_behind(tmp_path: Path) -> None:
    embedded = EmbeddedCerbos(write(tmp_path / "policies"), binary=str(binary()))
    assert not Path(embedded.target.removeprefix("unix:")).parent.exists()


async def test_stopping_twice_or_before_the_start_is_nothing(tmp_path: Path) -> None:
    embedded = EmbeddedCerbos(write(tmp_path / "policies"), binary=str(binary()))
    await embedded.stop()
    await embedded.start()
    await embedded.stop()
    await embedded.stop()


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="SIDECAR_POLICIES"):
        EmbeddedCerbos(tmp_path / "nowhere", binary=str(binary()))


def test_a_path_that_no_socket_can_have_is_refused(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    before, tempfile.tempdir = tempfile.tempdir, None
    try:
        with environment(TMPDIR=str(deep)), pytest.raises(OSError, match="set TMPDIR to a shorter one"):
            EmbeddedCerbos(write(tmp_path / "policies"), binary=str(binary()))
    finally:
        tempfile.tempdir = before


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("apiVersion: [\n", "doc.yaml:1:13: "),
        (POLICY.format(effect=ALLOW) + "  rulez: []\n", "doc.yaml:7:3: "),
        (
            POLICY.format(effect=ALLOW).replace("roles: [user]", "condition: {match: {expr: 'a =='}}, roles: [user]"),
            "doc.yaml:6:",
        ),
    ],
)
async def test_policies_that_do_not_compile_fail_the_start_with_their_place(
    tmp_path: Path, text: str, place: str
) -> None:
    (write(tmp_path / "policies") / "doc.yaml").write_text(text)
    embedded = EmbeddedCerbos(tmp_path / "policies", binary=str(binary()))
    with pytest.raises(OSError, match="Cerbos ended with 1") as caught:
        await embedded.start()
    assert place in str(caught.value)
    assert not Path(embedded.target.removeprefix("unix:")).parent.exists()


@pytest.mark.parametrize("broken", ["empty", "schema", "no schema", "link"])
async def test_policies_that_cerbos_would_serve_without_fail_the_start(tmp_path: Path, broken: str) -> None:
    """Cerbos starts with an empty folder, and with a schema that is none: it refuses every question then."""
    policies = write(tmp_path / "policies")
    if broken == "empty":
        (policies / "doc.yaml").rename(policies / "doc_test.yaml")
    elif broken == "link":
        (policies / "sub").symlink_to(tmp_path / "nowhere")
    else:
        (policies / "_schemas").mkdir()
        (policies / "_schemas/doc.json").write_text('{"type": \n')
        text = (policies / "doc.yaml").read_text()
        schemas = "  schemas: {resourceSchema: {ref: 'cerbos:///other.json'}}\n  rules"
        (policies / "doc.yaml").write_text(text.replace("  rules", schemas))
        if broken == "no schema":
            (policies / "_schemas/doc.json").write_text("{}")
    embedded = EmbeddedCerbos(policies, binary=str(binary()))
    with pytest.raises(OSError, match=f"^{policies}") as caught:
        await embedded.start()
    place = {
        "empty": f"{policies}: found no policy", "schema": f"{policies}/_schemas/doc.json:2:1: no JSON",
        "no schema": f"{policies}/doc.yaml:5:30: ", "link": f"{policies}/sub: a link to nothing",
    }[broken]  # fmt: skip
    assert str(caught.value).startswith(place)
    assert not Path(embedded.target.removeprefix("unix:")).parent.exists()


async def test_one_that_may_have_no_policy_denies_everything(tmp_path: Path) -> None:
    (tmp_path / "policies").mkdir()
    embedded = EmbeddedCerbos(tmp_path / "policies", binary=str(binary()), empty=True)
    await embedded.start()
    try:
        async with asking(embedded) as effect:
            assert await effect() == DENY
    finally:
        await embedded.stop()


async def test_what_a_starter_has_started_is_ended_with_it(tmp_path: Path) -> None:
    """A starter that passes no signal on, as that of the npm package, and leaves what it starts with our pipe."""
    program = tmp_path / "cerbos"
    program.write_text(
        f"#!{sys.executable}\nimport subprocess, sys\n"
        f"child = subprocess.Popen([{str(binary())!r}, *sys.argv[1:]])\nsys.exit(child.wait())\n"
    )
    program.chmod(0o755)
    async with running(write(tmp_path / "policies"), program) as embedded, asking(embedded) as effect:
        assert await effect() == ALLOW
        began = time.monotonic()
    assert time.monotonic() - began < STOP_WITHIN
    found = subprocess.run(["pgrep", "-f", embedded.target.removeprefix("unix:").rpartition("/")[0]], check=False)
    assert found.returncode == 1


async def test_one_that_starts_again_reads_what_was_in_force(tmp_path: Path) -> None:
    policies = write(tmp_path / "policies")
    async with running(policies) as embedded, asking(embedded) as effect:
        (policies / "doc.yaml").write_text("apiVersion: [\n")
        os.kill(pid_of(embedded), signal.SIGKILL)
        await until(lambda: embedded.restarts == 1)
        deadline = time.monotonic() + 10
        while await effect() != ALLOW:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)


async def test_one_that_was_killed_is_started_again(tmp_path: Path) -> None:
    async with running(write(tmp_path / "policies")) as embedded, asking(embedded) as effect:
        os.kill(pid_of(embedded), signal.SIGKILL)
        await until(lambda: embedded.restarts == 1)
        deadline = time.monotonic() + 10
        while await effect() != ALLOW:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)


def test_it_dies_with_us_even_if_we_are_killed(tmp_path: Path) -> None:
    """SIGKILL leaves nobody who could stop it."""
    code = """\
        import asyncio, sys
        from pathlib import Path
        from sidecar.pdp.embedded import EmbeddedCerbos
        async def main():
            embedded = EmbeddedCerbos(Path(sys.argv[1]), binary=sys.argv[2])
            await embedded.start()
            print(embedded._process.pid, flush=True)
            await asyncio.Event().wait()
        asyncio.run(main())
        """
    command = [sys.executable, "-c", textwrap.dedent(code), str(write(tmp_path / "policies")), str(binary())]
    # nobody removes the folder of one who was killed; and pytest's own has a path too long for a socket
    with tempfile.TemporaryDirectory(prefix="sidecar-test-") as folder:
        variables = {**os.environ, "TMPDIR": folder}
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=variables, cwd=ROOT) as parent:
            assert parent.stdout is not None
            pid = int(parent.stdout.readline())
            assert alive(pid)
            parent.kill()
    deadline = time.monotonic() + 5
    while alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)


# --- its words, and programs that behave otherwise ---


async def test_its_log_lines_become_ours_with_level_and_fields(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    body = """\
        say(**{"log.level": "warn", "message": "a warning", "log.logger": "cerbos.x", "file": "a.yaml"})
        say(**{"log.level": "error", "message": "an error", "error": "its reason"})
        say(**{"log.level": "debug", "message": "%s and %d"})
        print("plain words", flush=True)
        print("[1]", flush=True)
        listen()
        time.sleep(60)
        """
    caplog.set_level(logging.DEBUG, "sidecar.cerbos")
    async with running(write(tmp_path / "policies"), program(tmp_path, body)):
        await until(lambda: len(caplog.records) >= 5)
    found = [(record.levelname, record.message) for record in caplog.records[:5]]
    assert found == [
        ("WARNING", "a warning"), ("ERROR", "an error"), ("DEBUG", "%s and %d"), ("INFO", "plain words"), ("INFO", "[1]"),
    ]  # fmt: skip
    assert getattr(caplog.records[0], "fields") == {"cerbos": {"log.logger": "cerbos.x", "file": "a.yaml"}}  # noqa: B009
    assert {record.name for record in caplog.records} == {"sidecar.cerbos"}


async def test_a_line_without_end_is_dropped_and_those_after_it_are_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Otherwise a full pipe would stop Cerbos in the middle of an answer."""
    body = """\
        listen()
        for _ in range(3):
            print("x" * 3_000_000, flush=True)
        say(message="still here")
        time.sleep(60)
        """
    caplog.set_level(logging.INFO, "sidecar.cerbos")
    async with running(write(tmp_path / "policies"), program(tmp_path, body)):
        await until(lambda: "still here" in caplog.messages)


async def test_it_gets_nothing_of_our_environment_that_it_does_not_need(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    body = """\
        say(message=json.dumps(dict(os.environ)))
        listen()
        time.sleep(60)
        """
    caplog.set_level(logging.INFO, "sidecar.cerbos")
    secrets = {"AWS_COGNITO_CLIENT_SECRET": "s", "SIDECAR_SESSION_SECRET": "s", "HTTPS_PROXY": "http://proxy.invalid"}
    with environment(**secrets):
        async with running(write(tmp_path / "policies"), program(tmp_path, body)):
            await until(lambda: caplog.records)
    got = json.loads(caplog.messages[0])
    assert not got.keys() & secrets.keys()
    assert {"PATH", "GOGC", "CERBOS_NO_TELEMETRY"} <= got.keys()


async def test_one_that_does_not_stop_when_asked_is_killed(tmp_path: Path) -> None:
    body = """\
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        listen()
        time.sleep(60)
        """
    async with running(write(tmp_path / "policies"), program(tmp_path, body)) as embedded:
        pid = pid_of(embedded)
        started = time.monotonic()
    assert not alive(pid)
    assert 2.5 < time.monotonic() - started < 10


async def test_one_that_keeps_ending_is_started_ever_later(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    body = """\
        listen()
        time.sleep(0.2)
        """
    async with running(write(tmp_path / "policies"), program(tmp_path, body)) as embedded:
        await until(lambda: embedded.restarts >= 2)
    said = [record.message for record in caplog.records if "starting it again" in record.message]
    assert [words.rpartition(" in ")[2] for words in said[:2]] == ["0.2 s", "0.4 s"]
