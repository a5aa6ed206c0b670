"""TLS towards servers, with their names checked."""

from __future__ import annotations

import ssl


def tls_context(ca: str, certificate: str = "", key: str = "", *, alpn: tuple[str, ...] = ()) -> ssl.SSLContext:
    """Make the context: `ca` is a PEM file of CAs, the system's where it is ""; `certificate` and `key` are PEM files
    of our own, or ""; `alpn` are the protocols that we speak. Raises OSError, ValueError."""
    context = ssl.create_default_context(cafile=ca or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if certificate:
        # a key with a pass phrase is an error: nobody is here to be asked for one
        context.load_cert_chain(certificate, key, password="")
    return context
