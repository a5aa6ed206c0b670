"""Sockets that are listened on: where, whose they are, and what is said where they can't be."""

from __future__ import annotations

import grp
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import chdir, closing
from pathlib import Path

import pytest

from sidecar.config.parsers import Address
from sidecar.config.setting_table import Settings
from sidecar.config.settings import read_settings
from sidecar.run.errors import StartError
from sidecar.run.listening import listen, listeners, require_listeners
from tests.stack import ROOT


def settings(**given: str) -> Settings:
    return read_settings({"SIDECAR_UPSTREAM": "http://127.0.0.1:1", **given}, {})


def listening(tmp_path: Path, **given: str) -> Path:
    """The unix socket that these settings make."""
    path = tmp_path / "sidecar.sock"
    with listen(Address("", 0, str(path)), "SIDECAR_LISTEN", settings(**given)):
        return path


def test_a_unix_socket_has_the_mode_and_owner_of_the_settings(tmp_path: Path) -> None:
    group = grp.getgrgid(os.getgid()).gr_name
    path = listening(tmp_path, SIDECAR_SOCKET_MODE="0660", SIDECAR_SOCKET_OWNER=f"{os.getuid()}:{group}")
    stat = path.stat()
    assert (stat.st_mode & 0o777, stat.st_uid, stat.st_gid) == (0o660, os.getuid(), os.getgid())
    if os.getuid() == 0:
        assert listening(tmp_path, SIDECAR_SOCKET_OWNER=":65534").stat().st_gid == 65534
    with pytest.raises(StartError, match="SIDECAR_SOCKET_OWNER: found the group 'nobody-has-it', expected one of this"):
        listening(tmp_path, SIDECAR_SOCKET_OWNER=":nobody-has-it")


def test_each_listener_has_its_setting() -> None:
    given = {"SIDECAR_EXT_AUTHZ_LISTEN": "127.0.0.1:9002", "SIDECAR_EXT_PROC_LISTEN": "127.0.0.1:9003"}
    assert [variable for variable, _ in listeners(settings())] == ["SIDECAR_LISTEN", "SIDECAR_ADMIN_LISTEN"]
    assert dict(listeners(settings(**given))) == {
        "SIDECAR_LISTEN": settings().listen, "SIDECAR_ADMIN_LISTEN": settings().admin_listen,
        "SIDECAR_EXT_AUTHZ_LISTEN": Address("127.0.0.1", 9002), "SIDECAR_EXT_PROC_LISTEN": Address("127.0.0.1", 9003),
    }  # fmt: skip


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])
def test_a_port_that_is_taken_is_no_reason_before_it_is_listened_on(host: str) -> None:
    """A sidecar that runs is checked beside it."""
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        where = f"{host}:{taken.getsockname()[1]}"
        require_listeners(settings(SIDECAR_LISTEN=where))
        with pytest.raises(StartError, match=f"^SIDECAR_LISTEN: cannot listen on {where}: Address already in use$"):
            listen(settings(SIDECAR_LISTEN=where).listen, "SIDECAR_LISTEN", settings())


@pytest.mark.process
@pytest.mark.skipif(not shutil.which("unshare") or os.getuid() != 0, reason="only root makes a network of its own")
def test_a_machine_without_a_port_to_give_is_no_reason() -> None:
    """As one that has very many connections to others."""
    code = """if 1:
        import socket, sys
        from pathlib import Path
        from sidecar.config.settings import read_settings
        from sidecar.run.listening import listen, require_listeners
        Path("/proc/sys/net/ipv4/ip_local_port_range").write_text("20000 20001")
        taken = [socket.create_server(("0.0.0.0", 0)) for _ in range(2)]
        given = {"SIDECAR_LISTEN": "0.0.0.0:8080", "SIDECAR_ADMIN_LISTEN": "0.0.0.0:8081"}
        settings = read_settings({"SIDECAR_UPSTREAM": "http://127.0.0.1:1", **given}, {})
        require_listeners(settings)
        listen(settings.listen, "SIDECAR_LISTEN", settings).close()
        """
    done = subprocess.run(["unshare", "-n", sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_cannot_be_listened_on_is_told_alike_before_and_then() -> None:
    given = settings(SIDECAR_LISTEN="192.0.2.1:8080")
    with pytest.raises(StartError) as before:
        require_listeners(given)
    with pytest.raises(StartError) as then:
        listen(given.listen, "SIDECAR_LISTEN", given)
    assert str(before.value) == str(then.value)


def test_an_owner_matters_only_to_a_socket_with_a_path(tmp_path: Path) -> None:
    owner = {"SIDECAR_SOCKET_OWNER": "nosuchuser"}
    require_listeners(settings(**owner))
    with pytest.raises(StartError, match="found the user 'nosuchuser'"):
        require_listeners(settings(**owner, SIDECAR_LISTEN=f"unix:{tmp_path}/x.sock"))


@pytest.mark.skipif(sys.platform != "linux" or os.getuid() != 0, reason="only root gives up what it may")
@pytest.mark.parametrize(("owner", "may"), [("65534", True), (":65534", True), ("1:65534", False), (":1", False)])
def test_a_socket_that_may_not_be_given_away_is_told(tmp_path: Path, owner: str, may: bool) -> None:
    """A process that is nobody's gives its sockets to nobody else."""
    path = tmp_path / "x.sock"
    given = settings(SIDECAR_SOCKET_OWNER=owner, SIDECAR_LISTEN=f"unix:{path}")
    told = _of_nobody(given, tmp_path)
    says = "" if may else f"SIDECAR_SOCKET_OWNER: cannot give a socket to {owner}: Operation not permitted"
    assert told == {"before": says, "then": says}


def _of_nobody(given: Settings, folder: Path) -> Mapping[str, str]:
    """What is said to a process of nobody's, before it listens and then."""
    folder.chmod(0o777)
    given = given._replace(listen=Address("", 0, "x.sock"))
    groups = os.getgroups()
    # the folders above are root's alone: the process is in this one before it is nobody's
    with chdir(folder):
        os.setgroups([])
        os.setegid(65534)
        os.seteuid(65534)
        try:
            before = _said(lambda: require_listeners(given))
            then = _said(lambda: listen(given.listen, "SIDECAR_LISTEN", given).close())
        finally:
            os.seteuid(0)
            os.setegid(0)
            os.setgroups(groups)
    return {"before": before, "then": then}


def _said(do: Callable[[], None]) -> str:
    try:
        do()
    except StartError as error:
        return str(error)
    return ""
