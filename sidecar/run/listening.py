"""Listening sockets of the settings: tries them as `check` may, and opens them as `run` does."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from sidecar.config.parsers import Address
from sidecar.config.setting_table import Settings
from sidecar.run.errors import Errors, StartError, unable

MAX_SOCKET_PATH = 107
"""Bytes of a unix socket's path (unix(7))."""
MAX_OWNER = 2**32 - 2
"""The largest number of a user or a group: one more stands for none (chown(2))."""
BACKLOG = 2048
UNSENT = 64 * 1024
"""Bytes of answers that the kernel holds for a client besides those that are on their way."""


def listeners(settings: Settings) -> Iterator[tuple[str, Address]]:
    """Yield each setting that says where to listen, with its address."""
    yield "SIDECAR_LISTEN", settings.listen
    yield "SIDECAR_ADMIN_LISTEN", settings.admin_listen
    if settings.ext_authz_listen is not None:
        yield "SIDECAR_EXT_AUTHZ_LISTEN", settings.ext_authz_listen
    if settings.ext_proc_listen is not None:
        yield "SIDECAR_EXT_PROC_LISTEN", settings.ext_proc_listen


def require_listeners(settings: Settings) -> None:
    """Look whether everything of the settings could be listened on. Raises StartError with every problem. Whether a
    port is free, only listening can tell."""
    errors = Errors()
    for variable, address in listeners(settings):
        errors.tried(_require_path if address.path else _require_host, address, variable)
    if any(address.path for _, address in listeners(settings)):
        errors.tried(_require_owner, settings)
    if errors.problems:
        raise StartError(*errors.problems)


def _require_path(address: Address, variable: str) -> None:
    """Look whether a unix socket could be made. Raises StartError."""
    path = Path(address.path)
    if len(os.fsencode(path)) > MAX_SOCKET_PATH:
        raise StartError(f"{variable}: found {address}, expected a path of {MAX_SOCKET_PATH} bytes at most")
    with unable(variable, f"listen on {address}"):
        require_folder(path)
    # what an earlier run left there is replaced, and nothing else is taken away
    if path.is_symlink() or (path.exists() and not path.is_socket()):
        raise StartError(f"{variable}: found another file at {address}, expected nothing or a socket")


def require_folder(path: Path) -> None:
    """Look whether a file can be made at `path`. Raises OSError."""
    folder = path.parent
    if not folder.is_dir():
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))


def _require_host(address: Address, variable: str) -> None:
    """Bind to a host's port that nobody else has, and give it back. Raises StartError."""
    try:
        _bound(address, variable, port=0).close()
    except StartError as error:
        # a machine may have no port left to give to who asks for any, and that of the setting is free all the same
        if not isinstance(error.__context__, OSError) or error.__context__.errno != errno.EADDRINUSE:
            raise


def _bound(address: Address, variable: str, port: int) -> socket.socket:
    """Return a socket that is bound to a host's `port`. Raises StartError that names the setting and the address."""
    try:
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        return _made(family, lambda sock: _bind(sock, address, port))
    except socket.gaierror as error:
        raise StartError(
            f"{variable}: cannot listen on {address}: the host {address.host!r} does not resolve ({error.strerror}), "
            "expected an address of this machine, such as 0.0.0.0 for all, or a name of one"
        ) from None
    except OSError as error:
        if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            raise StartError(f"{variable}: cannot listen on {address}: {error.strerror or error}") from None
        raise StartError(
            f"{variable}: cannot listen on {address}: {address.host} is no address of this machine, expected one that "
            "is, such as 0.0.0.0 for all, or a name of one"
        ) from None


def _bind(sock: socket.socket, address: Address, port: int) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # a client that takes nothing holds little of the kernel's memory, and its pace is seen
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)
    sock.bind((address.host, port))


def _made(family: socket.AddressFamily, prepare: Callable[[socket.socket], None]) -> socket.socket:
    """Return a socket that is closed again where `prepare` raises something."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        prepare(sock)
    except BaseException:
        sock.close()
        raise
    return sock


def _require_owner(settings: Settings) -> None:
    """Give a socket that has no path to the owner of the settings. Raises StartError."""
    owner = _owner(settings)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock, unable("SIDECAR_SOCKET_OWNER", _giving(settings)):
        try:
            os.fchown(sock.fileno(), *owner)
        except OSError as error:
            # elsewhere than on Linux such a socket has no owner
            if error.errno == errno.EPERM:
                raise


def _giving(settings: Settings) -> str:
    return f"give a socket to {':'.join(settings.socket_owner)}"


def _owner(settings: Settings) -> tuple[int, int]:
    """Return the numbers of the user and the group that a unix socket is given to, -1 where it stays as it is. Raises
    StartError."""
    user, group = settings.socket_owner
    errors = Errors()
    found = (
        errors.tried(_number, "user", user, lambda name: pwd.getpwnam(name).pw_uid),
        errors.tried(_number, "group", group, lambda name: grp.getgrnam(name).gr_gid),
    )
    if found[0] is None or found[1] is None:
        raise StartError(*errors.problems)
    return found[0], found[1]


def _number(kind: str, name: str, known: Callable[[str], int]) -> int:
    if not name:
        return -1
    try:
        number = int(name) if name.isdecimal() else known(name)
    except KeyError:
        raise StartError(
            f"SIDECAR_SOCKET_OWNER: found the {kind} {name!r}, expected one of this system, or a number: make the "
            f"{kind}, or name another"
        ) from None
    if number > MAX_OWNER:
        raise StartError(f"SIDECAR_SOCKET_OWNER: found the {kind} {name}, expected a number of {MAX_OWNER} at most")
    return number


def listen(address: Address, variable: str, settings: Settings) -> socket.socket:
    """Open a listening socket. Raises StartError that names the setting and the address."""
    if address.path:
        _require_path(address, variable)
        with unable(variable, f"listen on {address}"):
            sock = _made(socket.AF_UNIX, lambda sock: _take_path(sock, address.path, settings))
    else:
        sock = _bound(address, variable, address.port)
    # whoever comes while the rest still starts waits, and is not turned away
    sock.listen(BACKLOG)
    sock.setblocking(False)
    return sock


def _take_path(sock: socket.socket, path: str, settings: Settings) -> None:
    Path(path).unlink(missing_ok=True)
    sock.bind(path)
    _hand_over(path, settings)


def _hand_over(path: str, settings: Settings) -> None:
    """Let those connect that the settings name; nobody can before it is listened on. Raises StartError."""
    owner = _owner(settings)
    if owner != (-1, -1):
        with unable("SIDECAR_SOCKET_OWNER", _giving(settings)):
            os.chown(path, *owner)
    if settings.socket_mode >= 0:
        with unable("SIDECAR_SOCKET_MODE", f"change the mode of {path}"):
            Path(path).chmod(settings.socket_mode)
