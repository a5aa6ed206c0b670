"""Parts of a serving process besides its gate: built but not opened, so that `check` tests them as `run` does."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING, NamedTuple

from sidecar.config.setting_table import Settings
from sidecar.config.settings import Understood
from sidecar.net.certificate import Certificate
from sidecar.net.room import Rooms, rooms
from sidecar.net.upstream import Upstream
from sidecar.pages.templates import Pages, TemplateError
from sidecar.record.metrics import Metrics
from sidecar.record.outlet import Outlet
from sidecar.record.question_log import QuestionLog
from sidecar.record.questions import VisibleAttributes
from sidecar.record.rotated_file import RotatedFile
from sidecar.run import upstreams
from sidecar.run.candidate import CandidatePolicies, candidate_policies
from sidecar.run.deciding import Deciding, deciding, wall_clock
from sidecar.run.errors import Errors, StartError, blaming, unable
from sidecar.run.listening import require_folder, require_listeners
from sidecar.run.route_file import RouteFile
from sidecar.trust.assertion import Assertions, load_key

if TYPE_CHECKING:
    from sidecar.record.tracing import Tracer


class Parts(NamedTuple):
    """None stands for what the settings switch off. `tracer` begins to run when it is called; `ext_authz` and
    `ext_proc` are the modules of Envoy's doors, which need an extra."""

    upstream: Upstream
    pages: Pages
    rooms: Rooms
    assertions: Assertions | None
    tracer: Callable[[], Tracer] | None
    ext_authz: ModuleType | None
    ext_proc: ModuleType | None
    tls: Certificate | None = None
    candidate: CandidatePolicies | None = None


def parts(
    settings: Settings, environ: Mapping[str, str] = MappingProxyType({}), *, listens: bool = True
) -> Parts:  # fmt: skip
    """Make all of it. Raises StartError with every problem, of what will be opened too. With `listens` the sockets are
    among that; else another process has opened them."""
    errors = Errors()
    upstream = errors.tried(upstreams.upstream, settings)
    pages = errors.tried(_pages, settings)
    assertions = errors.tried(_assertions, settings)
    tracer = errors.tried(_tracer, settings)
    ext_authz, ext_proc = errors.tried(_ext_authz, settings), errors.tried(_ext_proc, settings)
    tls = errors.tried(_tls, settings)
    candidate = errors.tried(candidate_policies, settings, environ, wall_clock)
    errors.tried(require_log, settings)
    errors.tried(require_questions, settings)
    if listens:
        errors.tried(require_listeners, settings)
    if errors.problems or upstream is None or pages is None:
        raise StartError(*errors.problems)
    held = rooms(settings.held_memory, settings.held_disk)
    return Parts(upstream, pages, held, assertions, tracer, ext_authz, ext_proc, tls, candidate)


class Prepared(NamedTuple):
    """Both halves of a process, with nothing of them open."""

    deciding: Deciding
    parts: Parts


def prepare(
    read: Understood, environ: Mapping[str, str], metrics: Metrics | None = None, *, stand_in: str = "",
    listens: bool = True, file: RouteFile | None = None,
) -> Prepared:  # fmt: skip
    """Make all that a process needs. Raises StartError with every problem, those of `read` included. The URL `stand_in`
    is asked in place of each app that routes name. `listens` is that of `parts`, and `file` the route file, where it
    was read before."""
    errors = Errors()
    made = errors.tried(deciding, read, environ, metrics, file)
    fitted = errors.tried(parts, read.settings, environ, listens=listens)
    if made is not None and fitted is not None:
        put_in_force = errors.tried(upstreams.make_named, fitted.upstream, made.configured.routes, stand_in)
        if put_in_force is not None:
            put_in_force()
    if made is None or fitted is None or errors.problems:
        raise StartError(*read.once(errors.problems))
    return Prepared(made, fitted)


def require_log(settings: Settings) -> None:
    """Look whether the decision log could be appended to. Raises StartError; no file is made."""
    if settings.decision_log == "stdout":
        return
    with unable("SIDECAR_DECISION_LOG", f"append to {settings.decision_log}"):
        _require_appendable(settings.decision_log)


def require_questions(settings: Settings) -> None:
    """Look whether the question log could be written and renamed. Raises StartError; no file is made."""
    if not settings.question_log:
        return
    with unable("SIDECAR_QUESTION_LOG", f"append to {settings.question_log}"):
        path = _require_appendable(settings.question_log)
        if path.exists() and not path.is_file():
            raise OSError(errno.EINVAL, "neither a file nor nothing, and it is renamed when it is full")
        # where its older files are
        require_folder(path)


def _require_appendable(name: str) -> Path:
    """Return where a file is, or would be made. Raises OSError."""
    # where a link leads to, and an error where that is nowhere
    path = Path(os.path.realpath(name))
    if path.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    if path.is_dir():
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not path.exists():
        require_folder(path)
    elif not os.access(path, os.W_OK):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))
    return path


def open_log(settings: Settings) -> Outlet:
    """Open the decision log. Raises StartError."""
    require_log(settings)
    with unable("SIDECAR_DECISION_LOG", f"append to {settings.decision_log}"):
        return Outlet.standard(1) if settings.decision_log == "stdout" else Outlet.of_file(settings.decision_log)


def question_log(settings: Settings, metrics: Metrics) -> QuestionLog | None:
    """Make the question log, None where it is off."""
    if not settings.question_log:
        return None
    file = RotatedFile(settings.question_log, settings.question_log_size)
    return QuestionLog(file, VisibleAttributes.of(settings.question_log_attributes), metrics)


def _tls(settings: Settings) -> Certificate | None:
    if not settings.tls_certificate or not settings.tls_key:
        return None
    with blaming("SIDECAR_TLS_CERTIFICATE, SIDECAR_TLS_KEY"):
        return Certificate(settings.tls_certificate, settings.tls_key, wall_clock)


def _pages(settings: Settings) -> Pages:
    pages = Pages(settings.templates)
    try:
        pages.check()
    except TemplateError as error:
        raise StartError(*str(error).splitlines()) from None
    return pages


def _assertions(settings: Settings) -> Assertions | None:
    if settings.assertion == "off":
        return None
    with blaming("SIDECAR_ASSERTION", "off, ephemeral, or a PEM file with a P-256 key"):
        return Assertions(load_key(settings.assertion), settings.upstream)


def _tracer(settings: Settings) -> Callable[[], Tracer] | None:
    if settings.traces == "off":
        return None
    try:
        from sidecar.record.tracing import Tracer
    except ImportError as error:
        raise StartError(
            f"SIDECAR_TRACES: found otlp, expected OpenTelemetry: pip install '.[otel]' ({error})"
        ) from None
    return Tracer


def _ext_authz(settings: Settings) -> ModuleType | None:
    if settings.ext_authz_listen is None:
        return None
    with _extra_of_envoy("SIDECAR_EXT_AUTHZ_LISTEN"):
        from sidecar.doors import ext_authz
    return ext_authz


def _ext_proc(settings: Settings) -> ModuleType | None:
    if settings.ext_proc_listen is None:
        return None
    with _extra_of_envoy("SIDECAR_EXT_PROC_LISTEN"):
        from sidecar.doors import ext_proc
    return ext_proc


@contextmanager
def _extra_of_envoy(variable: str) -> Iterator[None]:
    try:
        yield
    except ImportError:
        raise StartError(f"{variable}: xds-protos is not installed: pip install '.[envoy]'") from None
