"""A real PostgreSQL, PgBouncer before it, and a real MariaDB, each started as a user that owns nothing else. The servers
speak TLS where it is asked for."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.certificates import Files, certificates
from tests.stack import free_port, wait_for

NOBODY = 65534
USER, PASSWORD = "reader", "s3cr-t&word"
"""Who may read the table `invoices`, and nothing else."""
QUOTED = "s3cr-t%26word"
"""The password as it stands in a URL."""
OWNER = "owner"
"""Who may do everything, with the same password."""


class Server:
    """One that runs. `url` is SQLAlchemy's of a user. Its certificate is of 127.0.0.1, by the authority `ca`."""

    def __init__(
        self, scheme: str, port: int, database: str, process: subprocess.Popen[bytes], ca: Path = Path("/none")
    ) -> None:
        self.scheme = scheme
        self.port = port
        self.database = database
        self.process = process
        self.ca = ca

    def url(self, user: str = USER, password: str = QUOTED, host: str = "127.0.0.1", port: int = 0) -> str:
        return f"{self.scheme}://{user}:{password}@{host}:{port or self.port}/{self.database}"

    def stop(self) -> None:
        """End all of it at once."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def server_folder() -> Iterator[tuple[Path, dict[str, Any]]]:
    """A folder of a server, and who it runs as: it refuses to run for root. pytest closes its own folders to others."""
    with tempfile.TemporaryDirectory(prefix="database-") as folder:
        if os.getuid() != 0:
            yield Path(folder), {}
            return
        os.chown(folder, NOBODY, NOBODY)
        yield Path(folder), {"user": NOBODY, "group": NOBODY, "extra_groups": []}


def _certificates(folder: Path, who: dict[str, Any]) -> Files:
    """A certificate that the server alone can read."""
    made = certificates(folder)
    for file in made if who else ():
        os.chown(file, NOBODY, NOBODY)
    made.key.chmod(0o600)
    return made


def _program(name: str, package: str) -> str:
    # Debian keeps PostgreSQL's off PATH, and MariaDB's where only root looks
    folders = [
        os.environ["PATH"],
        "/usr/sbin",
        *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)),
    ]
    found = shutil.which(name, path=":".join(folders))
    if found is None:
        pytest.skip(f"{name} is not installed (apt-get install {package})")
    return found


def _run(command: list[str], folder: Path, who: dict[str, Any], said: str = "") -> None:
    done = subprocess.run(
        command, cwd=folder, input=said.encode(), capture_output=True, env={"PATH": os.environ["PATH"]}, **who
    )
    told = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, told
    assert "ERROR:" not in told, told


def _start(command: list[str], folder: Path, who: dict[str, Any]) -> subprocess.Popen[bytes]:
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, **who
        )


def _wait(server: Server, log: Path, word: bytes) -> None:
    def is_ready() -> bool:
        assert server.process.poll() is None, log.read_text()
        return word in log.read_bytes()

    wait_for(is_ready, what=f"{log}: {word!r}")


ROWS = """\
create table invoices (id varchar(64) primary key, number bigint unique, owner_id varchar(64), status varchar(16));
insert into invoices values ('7', 7, 'alice', 'open'), ('8', 8, 'bob', 'paid'), ('O''Neil', 9, 'carol', 'open');
create table secrets (id varchar(64) primary key, owner_id varchar(64));
"""


@contextmanager
def postgresql() -> Iterator[Server]:
    """PostgreSQL with the table `invoices` of three rows."""
    programs = [_program(name, "postgresql") for name in ("initdb", "postgres")]
    with server_folder() as (folder, who):
        _run([programs[0], "-D", "data", "-U", "postgres", "--locale=C.UTF-8", "-E", "UTF8", "--no-sync"], folder, who)
        (folder / "data/pg_hba.conf").write_text("host all all 127.0.0.1/32 scram-sha-256\n")
        made = ROWS + (
            f"create role {USER} login password '{PASSWORD}';\n"
            f"create role {OWNER} superuser login password '{PASSWORD}';\n"
            f"grant select on invoices to {USER};\n"
        )
        _run([programs[1], "--single", "-F", "-D", "data", "postgres"], folder, who, made)
        port = free_port()
        files = _certificates(folder, who)
        options = {
            "fsync": "off", "max_connections": "20", "shared_buffers": "8MB", "autovacuum": "off", "jit": "off", "ssl": "on",
            "ssl_cert_file": str(files.certificate), "ssl_key_file": str(files.key),
        }  # fmt: skip
        process = _start(
            [programs[1], "-D", "data", "-p", str(port), "-k", str(folder), "-h", "127.0.0.1",
             *(part for option in options.items() for part in ("-c", "=".join(option)))],
            folder, who,
        )  # fmt: skip
        server = Server("postgresql", port, "postgres", process, files.ca)
        try:
            _wait(server, folder / "log", b"ready to accept connections")
            yield server
        finally:
            server.stop()


@contextmanager
def pgbouncer(behind: Server) -> Iterator[Server]:
    """PgBouncer before a PostgreSQL: a session of its two is whose transaction it is."""
    program = _program("pgbouncer", "pgbouncer")
    with server_folder() as (folder, who):
        port = free_port()
        (folder / "users").write_text(f'"{USER}" "{PASSWORD}"\n')
        (folder / "pgbouncer.ini").write_text(
            f"[databases]\npostgres = host=127.0.0.1 port={behind.port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
            f"listen_port = {port}\nunix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {folder}/users\n"
            "pool_mode = transaction\ndefault_pool_size = 2\n"
        )
        process = _start([program, "pgbouncer.ini"], folder, who)
        server = Server("postgresql", port, "postgres", process)
        try:
            _wait(server, folder / "log", b"process up")
            yield server
        finally:
            server.stop()


_SYSTEM = Path("/usr/share/mysql")


@contextmanager
def mariadb() -> Iterator[Server]:
    """MariaDB with the same table. Its text is compared without case, as it is by default."""
    program = _program("mariadbd", "mariadb-server-core")
    with server_folder() as (folder, who):
        made = [
            "create database mysql;", "use mysql;", "set @auth_root_socket=NULL;",
            *((_SYSTEM / f"mysql_system_tables{part}.sql").read_text() for part in ("", "_data")),
            "flush privileges;", "create database app character set utf8mb4;", "use app;", ROWS,
            f"create user {USER}@'%' identified by '{PASSWORD}';",
            f"grant select on app.invoices to {USER}@'%';",
            f"create user {OWNER}@'%' identified by '{PASSWORD}';",
            f"grant all on *.* to {OWNER}@'%' with grant option;", "",
        ]  # fmt: skip
        small = [
            "--no-defaults",
            f"--datadir={folder}/data",
            "--innodb-buffer-pool-size=8M",
            "--innodb-log-file-size=4M",
        ]
        _run(["/bin/mkdir", "data"], folder, who)
        _run([program, *small, "--bootstrap", "--skip-log-bin"], folder, who, "\n".join(made))
        port = free_port()
        files = _certificates(folder, who)
        small += [f"--ssl-cert={files.certificate}", f"--ssl-key={files.key}"]
        process = _start(
            [program, *small, f"--port={port}", "--bind-address=127.0.0.1", f"--socket={folder}/s", "--skip-name-resolve",
             "--innodb-flush-log-at-trx-commit=0", "--skip-log-bin", "--max-connections=40"],
            folder, who,
        )  # fmt: skip
        server = Server("mysql", port, "app", process, files.ca)
        try:
            _wait(server, folder / "log", b"ready for connections")
            yield server
        finally:
            server.stop()


@contextmanager
def mysql() -> Iterator[Server]:
    """MySQL itself, with the same table, and the collation of MariaDB."""
    package = "mysql-server-core, where there is one: Debian sid, Ubuntu"
    program = _program("mysqld", package)
    # of Debian's MariaDB it is another name
    if b"MariaDB" in subprocess.run([program, "--version"], capture_output=True, check=True).stdout:
        pytest.skip(f"mysqld is MariaDB's here (apt-get install {package})")
    with server_folder() as (folder, who):
        files = _certificates(folder, who)
        (folder / "made.sql").write_text(
            "create database app character set utf8mb4 collate utf8mb4_general_ci;\nuse app;\n"
            + ROWS
            + f"create user {USER}@'%' identified by '{PASSWORD}';\n"
            f"grant select on app.invoices to {USER}@'%';\n"
            f"create user {OWNER}@'%' identified by '{PASSWORD}';\n"
            f"grant all on *.* to {OWNER}@'%' with grant option;\n"
        )
        small = ["--no-defaults", f"--datadir={folder}/data", "--innodb-buffer-pool-size=8M"]
        _run([program, *small, "--initialize-insecure"], folder, who)
        port = free_port()
        process = _start(
            [program, *small, f"--port={port}", "--bind-address=127.0.0.1", f"--socket={folder}/s", "--mysqlx=OFF", "--secure-file-priv=",
             "--innodb-flush-log-at-trx-commit=0", "--skip-log-bin", "--max-connections=40", f"--init-file={folder}/made.sql",
             f"--ssl-cert={files.certificate}", f"--ssl-key={files.key}", f"--ssl-ca={files.ca}"],
            folder, who,
        )  # fmt: skip
        server = Server("mysql", port, "app", process, files.ca)
        try:
            _wait(server, folder / "log", b"ready for connections")
            yield server
        finally:
            server.stop()
