"""Certificate and key of a TLS server, read again when their files change: new handshakes get the new pair."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable
from pathlib import Path

from cryptography import x509

log = logging.getLogger("sidecar.tls")


class Certificate:
    """A pair of PEM files. `context` is the server's, with TLS 1.2 and newer and HTTP/1.1 alone; `now` gives Unix
    seconds.

    Raises ValueError, which says what is wrong with which file, when made.
    """

    def __init__(self, certificate: str, key: str, now: Callable[[], float]) -> None:
        self._paths = (certificate, key)
        self._now = now
        self._seen = _stamp(self._paths)
        self.context = _context()
        _load(self.context, certificate, key, now())

    def look(self) -> None:
        """Take a changed pair over; one that cannot be used leaves the old one in force, and is told once."""
        stamp = _stamp(self._paths)
        if not stamp or stamp == self._seen:
            return
        self._seen = stamp
        try:
            # the pair is tried on a context of its own: a failed load may leave half of it behind
            _load(_context(), *self._paths, self._now())
            _load(self.context, *self._paths, self._now())
        except ValueError as error:
            log.error("certificate not reloaded, the running one stays in force: %s", error)  # noqa: TRY400 - a user's fault
        else:
            log.info("certificate reloaded")


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    return context


def _stamp(paths: tuple[str, ...]) -> tuple[tuple[int, int, int], ...]:
    """Return a mark that tells one pair of certificate and key from another; a Secret's volume is a link that is
    swapped."""
    found = []
    for path in paths:
        try:
            stat = Path(path).stat()
        except OSError:
            return ()
        found.append((stat.st_mtime_ns, stat.st_size, stat.st_ino))
    return tuple(found)


def _load(context: ssl.SSLContext, certificate: str, key: str, now: float) -> None:
    """Use a pair of files. Raises ValueError."""
    pem, _ = (_read(path) for path in (certificate, key))
    _require_in_force(certificate, pem, now)
    try:
        context.load_cert_chain(certificate, key, _no_pass_phrase)
    except (ssl.SSLError, ValueError) as error:
        if getattr(error, "reason", "") == "KEY_VALUES_MISMATCH":
            raise ValueError(f"found in {key} the key of another certificate than {certificate}") from None
        raise ValueError(f"found no PEM key in {key}, expected one without a pass phrase") from None
    except OSError as error:
        # gone since they were read
        raise ValueError(f"cannot read {certificate} and {key}: {error.strerror}") from None


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None


def _require_in_force(path: str, pem: bytes, now: float) -> None:
    try:
        own = x509.load_pem_x509_certificates(pem)[0]
    except ValueError:
        raise ValueError(
            f"found no PEM certificate in {path}, expected the server's, then those that signed it"
        ) from None
    begins, ends = own.not_valid_before_utc, own.not_valid_after_utc
    if not begins.timestamp() <= now <= ends.timestamp():
        begin, end = (f"{at:%Y-%m-%d %H:%M} UTC" for at in (begins, ends))
        raise ValueError(f"found in {path} a certificate for {begin} to {end}, expected one that is in force now")


def _no_pass_phrase() -> str:
    raise ValueError("a pass phrase, and nobody is here to be asked for one")
