"""Takes whole bodies and answers 200: what a large upload ends in. `python sink.py PORT`"""

from __future__ import annotations

import re
import socket
import sys
import threading


def serve(connection: socket.socket) -> None:
    buffer = memoryview(bytearray(1 << 20))
    with connection:
        while True:
            head = b""
            while b"\r\n\r\n" not in head:
                data = connection.recv(65536)
                if not data:
                    return
                head += data
            head, _, rest = head.partition(b"\r\n\r\n")
            length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
            left = (int(length[1]) if length else 0) - len(rest)
            while left > 0:
                got = connection.recv_into(buffer[: min(left, len(buffer))])
                if not got:
                    return
                left -= got
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


if __name__ == "__main__":
    listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=128)
    while True:
        threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
