"""Relays TCP connections: `relay.py FROM TO [FROM TO ...]`, each `host:port`; `relay.py --check TO` tries one.

The sidecar asks a Cognito over plain http on loopback only. In development the local Cognito is in a container of its
own: a relay in the sidecar's network brings it to the sidecar's loopback, and another lets others in at its own side.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple


class Address(NamedTuple):
    """A host and a port."""

    host: str
    port: int

    @classmethod
    def of(cls, text: str) -> Address:
        """`host:port`. Raises ValueError."""
        host, _, port = text.rpartition(":")
        return cls(host, int(port))


async def serve(pairs: Sequence[tuple[Address, Address]]) -> None:
    """Relay until SIGTERM or SIGINT."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with contextlib.AsyncExitStack() as stack:
        for here, there in pairs:
            server = await asyncio.start_server(_relay_to(there), here.host, here.port)
            stack.callback(server.close)
        await stopped.wait()


def _relay_to(there: Address) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError), contextlib.closing(writer):
            other_reader, other_writer = await asyncio.open_connection(there.host, there.port)
            with contextlib.closing(other_writer):
                await asyncio.gather(_copy(reader, other_writer), _copy(other_reader, writer))

    return relay


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.write_eof()


def check(there: Address) -> int:
    """0 where a connection is taken, else 1."""
    try:
        socket.create_connection(there, timeout=2).close()
    except OSError:
        return 1
    return 0


def main(argv: Sequence[str]) -> int:
    """Returns the exit status."""
    if argv[:1] == ["--check"]:
        return check(Address.of(argv[1]))
    addresses = [Address.of(text) for text in argv]
    asyncio.run(serve(list(zip(addresses[::2], addresses[1::2], strict=True))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
