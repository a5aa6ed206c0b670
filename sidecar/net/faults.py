"""Errors of connecting, and of TLS, as reasons."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import Iterator

from sidecar.record.reasons import Reason

# X509_V_ERR_* (OpenSSL, "X509_STORE_CTX_get_error")
_VERIFIED = {
    2: Reason.CERTIFICATE_UNKNOWN_CA,
    7: Reason.CERTIFICATE_UNKNOWN_CA,  # one of the same name, and another key
    9: Reason.CERTIFICATE_NOT_YET_VALID,
    10: Reason.CERTIFICATE_EXPIRED,
    18: Reason.CERTIFICATE_UNKNOWN_CA,
    19: Reason.CERTIFICATE_UNKNOWN_CA,
    20: Reason.CERTIFICATE_UNKNOWN_CA,
    21: Reason.CERTIFICATE_UNKNOWN_CA,
    62: Reason.CERTIFICATE_NAME,
    64: Reason.CERTIFICATE_NAME,
}
_TLS = {
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": Reason.CERTIFICATE_REQUIRED,
    "SSLV3_ALERT_NO_CERTIFICATE": Reason.CERTIFICATE_REQUIRED,
    "SSLV3_ALERT_BAD_CERTIFICATE": Reason.CERTIFICATE_REFUSED,
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": Reason.CERTIFICATE_REFUSED,
    "SSLV3_ALERT_CERTIFICATE_REVOKED": Reason.CERTIFICATE_REFUSED,
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": Reason.CERTIFICATE_REFUSED,
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": Reason.CERTIFICATE_REFUSED,
    "TLSV1_ALERT_UNKNOWN_CA": Reason.CERTIFICATE_REFUSED,
    "TLSV1_ALERT_ACCESS_DENIED": Reason.CERTIFICATE_REFUSED,
    "TLSV1_ALERT_DECRYPT_ERROR": Reason.CERTIFICATE_REFUSED,
    "WRONG_VERSION_NUMBER": Reason.NOT_TLS,
    "HTTP_REQUEST": Reason.NOT_TLS,
    "PACKET_LENGTH_TOO_LONG": Reason.NOT_TLS,
    "RECORD_LAYER_FAILURE": Reason.NOT_TLS,
}
"""Reasons of OpenSSL. An alert is the server's word about us."""
_SYSTEM = {
    errno.ECONNREFUSED: Reason.CONNECTION_REFUSED,
    errno.ECONNRESET: Reason.CONNECTION_TERMINATED,
    errno.ECONNABORTED: Reason.CONNECTION_TERMINATED,
    errno.EPIPE: Reason.CONNECTION_TERMINATED,
    errno.ETIMEDOUT: Reason.CONNECTION_TIMEOUT,
    errno.EHOSTUNREACH: Reason.DESTINATION_IP_UNROUTABLE,
    errno.ENETUNREACH: Reason.DESTINATION_IP_UNROUTABLE,
    errno.ENETDOWN: Reason.DESTINATION_IP_UNROUTABLE,
    errno.EADDRNOTAVAIL: Reason.DESTINATION_IP_UNROUTABLE,
    errno.ENOENT: Reason.NO_SOCKET,
    errno.ENOTDIR: Reason.NO_SOCKET,
    errno.EACCES: Reason.SOCKET_DENIED,
    errno.EPERM: Reason.SOCKET_DENIED,
}
_NO_SUCH_NAME = frozenset((socket.EAI_NONAME, socket.EAI_NODATA, socket.EAI_ADDRFAMILY))


def reason_of(error: BaseException) -> Reason:
    """Return the reason of an error, or of what caused it: libraries wrap the system's errors in their own."""
    return next((reason for each in _causes(error) if (reason := _reason(each))), Reason.CONNECTION_FAILED)


def said_by(error: BaseException) -> str:
    """Return what an error says, whatever event loop raised it."""
    plain = isinstance(error, OSError) and not isinstance(error, ssl.SSLError | socket.gaierror)
    number = error.errno if plain and isinstance(error, OSError) else None
    return os.strerror(number) if number else str(error) or type(error).__name__


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        inner = error.exceptions[0] if isinstance(error, BaseExceptionGroup) else None
        error = inner or error.__cause__ or error.__context__


def _reason(error: BaseException) -> Reason | None:
    known = getattr(error, "reason", None)
    if isinstance(known, Reason):
        return known
    if isinstance(error, ssl.SSLError):
        return _reason_of_tls(error)
    if isinstance(error, socket.gaierror):
        return Reason.NAME_NOT_FOUND if error.errno in _NO_SUCH_NAME else Reason.DNS_ERROR
    if isinstance(error, OSError) and error.errno is not None:
        return _SYSTEM.get(error.errno)
    # UnicodeError: no name of DNS; and the loop's own, for a connection that ends in the handshake, or does not come
    reasons = {
        UnicodeError: Reason.NAME_NOT_FOUND,
        ConnectionError: Reason.CONNECTION_TERMINATED,
        TimeoutError: Reason.CONNECTION_TIMEOUT,
    }
    return next((reason for kind, reason in reasons.items() if isinstance(error, kind)), None)


def _reason_of_tls(error: ssl.SSLError) -> Reason:
    if isinstance(error, ssl.SSLCertVerificationError):
        return _VERIFIED.get(error.verify_code, Reason.CERTIFICATE_INVALID)
    if isinstance(error, ssl.SSLEOFError):
        return Reason.CONNECTION_TERMINATED
    name = error.reason or ""
    alert = name.startswith(("TLSV1", "SSLV3_ALERT"))
    return _TLS.get(name, Reason.TLS_ALERT_RECEIVED if alert else Reason.TLS_PROTOCOL_ERROR)
