"""Reasons why a server that the sidecar asks gave no answer that can be used, each with its meaning and a remedy.

No client is told one: they are in the decision log, in a metric, and on stderr.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from sidecar.gate.codes import Dependency


class FaultKind(StrEnum):
    """How a server failed to answer: what decides the code."""

    UNAVAILABLE = "unavailable"
    TIMEOUT = "timeout"
    PROTOCOL = "protocol"
    PARTIAL = "partial"
    OPEN = "open"
    BUSY = "busy"
    AUTH = "auth"


class Reason(StrEnum):
    """Why there is no answer. The names are those of RFC 9209 section 2.3 (Proxy-Status) where it has one."""

    kind: FaultKind
    meaning: str
    remedy: str

    def __new__(cls, value: str, kind: FaultKind, meaning: str, remedy: str) -> Reason:
        """Make one reason; one that lacks a part does not start."""
        reason = str.__new__(cls, value)
        reason._value_ = value
        reason.kind, reason.meaning, reason.remedy = kind, meaning, remedy
        return reason

    # fmt: off
    # the app of a request
    DESTINATION_NOT_FOUND = ("destination_not_found", FaultKind.UNAVAILABLE,
        "the request leads to no app: no route names one for it, and `SIDECAR_UPSTREAM` is not set",
        "set `SIDECAR_UPSTREAM`, or give the hosts of the request a route with `upstream`")
    # the name
    NAME_NOT_FOUND = ("name_not_found", FaultKind.UNAVAILABLE,
        "the host's name does not exist",
        "mend the host in the address; in compose and Kubernetes it is the service's name")
    DNS_ERROR = ("dns_error", FaultKind.UNAVAILABLE,
        "the name server failed or cannot be reached",
        "look at the name server in `/etc/resolv.conf` where the sidecar runs")
    DNS_TIMEOUT = ("dns_timeout", FaultKind.TIMEOUT,
        "the name server did not answer in time",
        "look at the name server in `/etc/resolv.conf` where the sidecar runs")
    # the connection
    CONNECTION_REFUSED = ("connection_refused", FaultKind.UNAVAILABLE,
        "nobody listens at this address and port, or at this socket",
        "start the server, or mend the port; a server in another container must listen on `0.0.0.0`, not on `127.0.0.1`")
    CONNECTION_TIMEOUT = ("connection_timeout", FaultKind.TIMEOUT,
        "no connection in time: nothing answers at this address, or the TLS handshake stopped",
        "look at firewalls, security groups and network policies between; with `https://`, see that the server speaks TLS on this port")
    DESTINATION_IP_UNROUTABLE = ("destination_ip_unroutable", FaultKind.UNAVAILABLE,
        "there is no route to this address",
        "mend the address, or the network of the sidecar")
    CONNECTION_TERMINATED = ("connection_terminated", FaultKind.UNAVAILABLE,
        "the server closed the connection before it answered",
        "look at the server's own log: it may have crashed; a server that expects TLS may do so, too: then its address begins with `https://`. A server on asyncio (uvicorn with Python 3.11, uvloop 0.23) does so if it wants a certificate of its client")
    CONNECTION_FAILED = ("connection_failed", FaultKind.UNAVAILABLE,
        "the system made no connection",
        "`detail` has the system's error")
    NO_SOCKET = ("no_socket", FaultKind.UNAVAILABLE,
        "there is no unix socket at this path",
        "start the server, or mend the path; both containers need the same volume")
    SOCKET_DENIED = ("socket_denied", FaultKind.UNAVAILABLE,
        "the sidecar's user may not open this unix socket",
        "give the sidecar's user or group the right to write to the socket, and to enter its folders")
    # TLS
    CERTIFICATE_UNKNOWN_CA = ("certificate_unknown_ca", FaultKind.UNAVAILABLE,
        "the server's certificate is signed by a CA that is not trusted, or by itself",
        "name a PEM file with its CA: `SIDECAR_UPSTREAM_CA` for the app; the server must send its intermediate certificates, too")
    CERTIFICATE_NAME = ("certificate_name", FaultKind.UNAVAILABLE,
        "the server's certificate is for another name",
        "use a name of the certificate in the address; for the app, `SIDECAR_UPSTREAM_SERVER_NAME` can say it instead")
    CERTIFICATE_EXPIRED = ("certificate_expired", FaultKind.UNAVAILABLE,
        "the server's certificate has expired",
        "renew it, and let the server load it; look at the clock of the sidecar's machine")
    CERTIFICATE_NOT_YET_VALID = ("certificate_not_yet_valid", FaultKind.UNAVAILABLE,
        "the server's certificate is not valid yet",
        "look at the clock of the sidecar's machine")
    CERTIFICATE_INVALID = ("certificate_invalid", FaultKind.UNAVAILABLE,
        "the server's certificate cannot be taken for another reason",
        "`detail` has the reason of OpenSSL")
    CERTIFICATE_REQUIRED = ("certificate_required", FaultKind.UNAVAILABLE,
        "the server wants a certificate of its client",
        "set `SIDECAR_UPSTREAM_CERTIFICATE` and `SIDECAR_UPSTREAM_KEY` for the app")
    CERTIFICATE_REFUSED = ("certificate_refused", FaultKind.UNAVAILABLE,
        "the server does not take the sidecar's certificate",
        "let a CA that the server trusts sign the certificate, and see that it is in date")
    NOT_TLS = ("not_tls", FaultKind.UNAVAILABLE,
        "the server does not speak TLS on this port",
        "write `http://` in the address, or name the port for TLS")
    TLS_EXPECTED = ("tls_expected", FaultKind.PROTOCOL,
        "the server speaks TLS on this port, and was asked without",
        "write `https://` in the address, or name the port without TLS")
    TLS_ALERT_RECEIVED = ("tls_alert_received", FaultKind.UNAVAILABLE,
        "the server ended the TLS handshake",
        "`detail` has its alert: a `handshake failure` is often a client certificate that it wants, an `unrecognized name` another server name")
    TLS_PROTOCOL_ERROR = ("tls_protocol_error", FaultKind.UNAVAILABLE,
        "the TLS handshake failed",
        "`detail` has the reason of OpenSSL; the server must speak TLS 1.2 or newer")
    # limits of ours
    CONNECTION_LIMIT_REACHED = ("connection_limit_reached", FaultKind.BUSY,
        "all connections to the server are in use, or this client's share of them",
        "make the server faster, or run more of it")
    BREAKER_OPEN = ("breaker_open", FaultKind.OPEN,
        "connections to each address failed five times in a row; one is tried every 2 s",
        "mend what the lines before say")
    SHUTTING_DOWN = ("shutting_down", FaultKind.UNAVAILABLE,
        "the sidecar stops",
        "nothing: the request came after the time for running requests")
    # the exchange
    HTTP_RESPONSE_TIMEOUT = ("http_response_timeout", FaultKind.TIMEOUT,
        "no whole head of an answer in time; of a lookup or a PDP no whole answer, the connection included",
        "make the server faster, or raise its time-out: `SIDECAR_UPSTREAM_HEAD_TIMEOUT` for the app, `timeout` for a lookup")
    CONNECTION_READ_TIMEOUT = ("connection_read_timeout", FaultKind.TIMEOUT,
        "the body of the answer stopped",
        "look at the server's own log; for the app, raise `SIDECAR_UPSTREAM_IDLE_TIMEOUT` where it is silent for longer on purpose")
    HTTP_RESPONSE_INCOMPLETE = ("http_response_incomplete", FaultKind.PARTIAL,
        "the connection ended in the middle of the answer",
        "look at the server's own log: it may have crashed, or told a `Content-Length` that is too large")
    HTTP_REQUEST_INCOMPLETE = ("http_request_incomplete", FaultKind.PARTIAL,
        "the request's body ended early, or the server closed while it came",
        "look at the client's connection, and at the limits of the server")
    # the answer
    NOT_HTTP = ("not_http", FaultKind.PROTOCOL,
        "the answer is not HTTP/1.1",
        "see what listens on this port: HTTP/2 without an upgrade, gRPC and databases do not speak HTTP/1.1")
    STATUS_LINE_INVALID = ("status_line_invalid", FaultKind.PROTOCOL,
        "the first line of the answer is not a status line of HTTP/1.1",
        "mend the server: `detail` has the line")
    HEADER_INVALID = ("header_invalid", FaultKind.PROTOCOL,
        "a line of the answer's head is not a header",
        "mend the server: a header is a name of letters, digits and `-`, a colon, and text without control characters")
    HEADER_FOLDED = ("header_folded", FaultKind.PROTOCOL,
        "a header of the answer goes on in a second line, which RFC 9112 section 5.2 forbids",
        "write the header in one line: often it is a certificate, a policy or a mail address in a header")
    HTTP_RESPONSE_HEADER_SECTION_SIZE = ("http_response_header_section_size", FaultKind.PROTOCOL,
        "the head of the answer is over 64 KiB or 256 headers",
        "send fewer or shorter headers")
    LENGTH_REPEATED = ("length_repeated", FaultKind.PROTOCOL,
        "the answer has `Content-Length` twice",
        "mend the server, or the middleware that adds the second one")
    LENGTH_INVALID = ("length_invalid", FaultKind.PROTOCOL,
        "the answer's `Content-Length` is not one number",
        "mend the server")
    HTTP_RESPONSE_TRANSFER_CODING = ("http_response_transfer_coding", FaultKind.PROTOCOL,
        "the answer's `Transfer-Encoding` is not exactly `chunked`, or stands beside a `Content-Length`",
        "let the server's framework choose the framing: one of the two headers is set by hand")
    CHUNK_INVALID = ("chunk_invalid", FaultKind.PROTOCOL,
        "a chunk of the answer's body is not as RFC 9112 section 7.1 says",
        "mend the server: `detail` says which part")
    INTERIM_LIMIT_REACHED = ("interim_limit_reached", FaultKind.PROTOCOL,
        "more than 16 interim answers (1xx) came before the answer",
        "mend the server")
    UPGRADE_UNEXPECTED = ("upgrade_unexpected", FaultKind.PROTOCOL,
        "the server switched protocols (101), and nobody asked for it",
        "mend the server")
    HTTP_UPGRADE_FAILED = ("http_upgrade_failed", FaultKind.PROTOCOL,
        "the server's answer to a WebSocket handshake is not one of RFC 6455",
        "mend the server: it must answer our key, choose an offered subprotocol, and no extension")
    HTTP_RESPONSE_CONTENT_CODING = ("http_response_content_coding", FaultKind.PROTOCOL,
        "the answer is compressed, and was asked for without",
        "let the server send the answer as it is")
    HTTP_RESPONSE_BODY_SIZE = ("http_response_body_size", FaultKind.PROTOCOL,
        "the answer's body is larger than may be read",
        "send less: `detail` has the limit")
    # a function of the user's
    FUNCTION_RAISED = ("function_raised", FaultKind.UNAVAILABLE,
        "the function of a lookup raised an exception",
        "`detail` has its type and the line; its text is not logged, since it may hold a secret: catch it in the function, and log what helps")
    FUNCTION_TIMEOUT = ("function_timeout", FaultKind.TIMEOUT,
        "the function of a lookup did not return in time; a plain one goes on in its thread",
        "give what the function calls a time-out that is shorter than the lookup's `timeout`")
    FUNCTION_PLACES = ("function_places", FaultKind.TIMEOUT,
        "no thread of a function came free in time: calls whose time is over still run in them",
        "give what the function calls a time-out that is shorter than the lookup's `timeout`")
    FUNCTION_RESULT = ("function_result", FaultKind.PROTOCOL,
        "the function of a lookup returned neither a dict of JSON values nor None",
        "`detail` has the type that was found: make a `float` or a `str` of a `Decimal` or a date")
    # the database
    DATABASE_AUTH = ("database_auth", FaultKind.AUTH,
        "the database refuses the sidecar's user, or its password",
        "mend user and password of the URL in the lookup's variable; of PostgreSQL, see that `pg_hba.conf` takes this user from here")
    DATABASE_PRIVILEGE = ("database_privilege", FaultKind.AUTH,
        "the sidecar's user lacks a right that the statement needs",
        "grant that user SELECT on what the statement reads, and on nothing else")
    DATABASE_NOT_FOUND = ("database_not_found", FaultKind.UNAVAILABLE,
        "the server has no database of this name",
        "mend the name at the end of the URL in the lookup's variable, or create the database")
    DATABASE_FULL = ("database_full", FaultKind.BUSY,
        "the database takes no more connections, or is locked",
        "lower `SIDECAR_SQL_CONNECTIONS`, or raise the limit of the server or of that user")
    DATABASE_UNAVAILABLE = ("database_unavailable", FaultKind.UNAVAILABLE,
        "the database is starting, stopping or broken, or its file cannot be opened",
        "look at the database's own log; of SQLite, at the path and the rights of the file")
    DATABASE_TIMEOUT = ("database_timeout", FaultKind.TIMEOUT,
        "no row within the lookup's `timeout`",
        "add an index for what the statement compares, see what locks the table, or raise `timeout`")
    STATEMENT_INVALID = ("statement_invalid", FaultKind.PROTOCOL,
        "the database cannot run the statement: a name is unknown there, or a parameter's type does not fit",
        "`detail` has the database's error; `sidecar check --probe` shows it before the first request")
    ROW_INVALID = ("row_invalid", FaultKind.PROTOCOL,
        "there is more than one row, or a row with a value that JSON does not have",
        "let the statement give one row, and cast in it what `detail` names")
    # fmt: on


ReportFault = Callable[[Dependency, str, Reason, str], None]
"""Port: told of a fault. (Whose it is, the place in the configuration and the address, the reason, and more on it)"""


def report_nothing(dependency: Dependency, place: str, reason: Reason, detail: str) -> None:
    """A ReportFault that nobody listens to."""
