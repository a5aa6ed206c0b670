#!/bin/sh
# asyncio of Python 3.11 and uvloop 0.23.0 (PyPI), with OpenSSL 3.0, seen on 2026-11-30.
#
# A TLS server that refuses a handshake tells its client why in an alert (RFC 5246 section 7.2). Here a server wants a
# certificate of its client, which sends none. A server on a blocking socket sends the alert `handshake failure`. Servers of
# asyncio and of uvloop, by the same context, close the connection without it: OpenSSL has written the alert, but into a
# buffer that nobody sends any more. So the client cannot tell a missing certificate from a server that crashed, and whoever
# debugs a proxy in front of a Python app reads "unexpected end" where he expects the reason.
#
# Output seen:
#   blocking: SSLV3_ALERT_HANDSHAKE_FAILURE
#   asyncio: UNEXPECTED_EOF_WHILE_READING
#   uvloop 0.23.0: UNEXPECTED_EOF_WHILE_READING
#
# Exits with 0 while this is so, with 1 when it has changed. Needs Linux, openssl, and python3 with venv.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check uvloop==0.23.0
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout key.pem -out certificate.pem -days 1 \
    -subj /CN=localhost -addext subjectAltName=DNS:localhost 2>/dev/null
cat >alert.py <<'PYTHON'
import asyncio
import socket
import ssl
import threading

import uvloop


def context():
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain("certificate.pem", "key.pem")
    made.load_verify_locations("certificate.pem")
    made.verify_mode = ssl.CERT_REQUIRED
    # in TLS 1.3 the client learns of it after its own handshake
    made.maximum_version = ssl.TLSVersion.TLSv1_2
    return made


def ask(port):
    trusting = ssl.create_default_context(cafile="certificate.pem")
    try:
        with socket.create_connection(("127.0.0.1", port)) as plain:
            trusting.wrap_socket(plain, server_hostname="localhost").close()
    except ssl.SSLError as error:
        return error.reason
    return "connected"


def blocking():
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            accepted, _ = listener.accept()
            try:
                context().wrap_socket(accepted, server_side=True)
            except ssl.SSLError:
                pass
            accepted.close()

        thread = threading.Thread(target=serve)
        thread.start()
        told = ask(listener.getsockname()[1])
        thread.join()
    return told


async def of_a_loop():
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context())
    told = await asyncio.to_thread(ask, server.sockets[0].getsockname()[1])
    server.close()
    return told


plain, own = blocking(), asyncio.run(of_a_loop())
with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    other = runner.run(of_a_loop())
print("blocking:", plain)
print("asyncio:", own)
print(f"uvloop {uvloop.__version__}:", other)
silent = "UNEXPECTED_EOF_WHILE_READING"
raise SystemExit(0 if plain == "SSLV3_ALERT_HANDSHAKE_FAILURE" and own == other == silent else 1)
PYTHON
venv/bin/python alert.py
