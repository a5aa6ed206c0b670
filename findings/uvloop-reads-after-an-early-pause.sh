#!/bin/sh
# uvloop 0.23.0 (PyPI), beside asyncio of Python 3.11, seen on 2026-11-30.
#
# A protocol may call pause_reading() as soon as it has its transport, in connection_made: the docs of asyncio say that no
# data is passed to it then until resume_reading(). asyncio keeps that. uvloop takes the pause (is_reading() is False), and
# begins to read all the same when connection_made has returned: the first data comes, and is_reading() is True again. Who
# pauses there to put another protocol in place first, for a handshake say, loses the bytes that a quick client sent.
#
# Output seen:
#   asyncio: paused, is_reading False
#   uvloop 0.23.0: paused, is_reading False; received b'hello', is_reading True
#
# Exits with 0 while this is so, with 1 when it has changed. Needs Linux and python3 with venv.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check uvloop==0.23.0
cat >early.py <<'PYTHON'
import asyncio

import uvloop


class Early(asyncio.Protocol):
    seen: list[str] = []

    def connection_made(self, transport):
        self.transport = transport
        transport.pause_reading()
        self.seen.append(f"paused, is_reading {transport.is_reading()}")

    def data_received(self, data):
        self.seen.append(f"received {data!r}, is_reading {self.transport.is_reading()}")


async def talk():
    Early.seen.clear()
    server = await asyncio.get_running_loop().create_server(Early, "127.0.0.1", 0)
    _, writer = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1])
    writer.write(b"hello")
    await writer.drain()
    await asyncio.sleep(0.5)
    writer.close()
    server.close()
    return "; ".join(Early.seen)


plain = asyncio.run(talk())
with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    other = runner.run(talk())
print("asyncio:", plain)
print(f"uvloop {uvloop.__version__}:", other)
kept = plain == "paused, is_reading False"
ignored = other == "paused, is_reading False; received b'hello', is_reading True"
raise SystemExit(0 if kept and ignored else 1)
PYTHON
venv/bin/python early.py
