#!/bin/sh
# CPython 3.11.7 (multiprocessing.connection.Listener, subprocess), Linux 6.18, seen on 2026-12-01. No package is needed.
#
# `Listener.close()` does not end an `accept()` that another thread waits in. The next Listener gets the number of the closed
# socket, and once any process has been started the old `accept()` returns a connection of the new Listener, which the new one
# never sees. `subprocess` blocks signals in the thread that starts a child; where the child ends before they are let through
# again, the kernel gives SIGCHLD to the thread that waits, nobody has asked for that signal, and the kernel begins the call
# anew: by the socket's number, not by the socket. So a server that has been closed answers in the place of another one, once.
#
# Output seen (the number of processes is another one each time, mostly below 100):
#   the number is the same: True; the old accept() still waits: True
#   it returned a connection of the new listener: True
#
# Exits with 0 while this is so, with 1 when it has changed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
cat >listeners.py <<'PYTHON'
import os
import socket
import subprocess
import sys
import threading
import time
from multiprocessing.connection import Listener

returned = []
old = Listener(("127.0.0.1", 0))
number = old._listener._socket.fileno()
waiting = threading.Thread(target=lambda: returned.append(old.accept()), daemon=True)
waiting.start()
time.sleep(0.5)
old.close()
new = Listener(("127.0.0.1", 0))
same = new._listener._socket.fileno() == number
print(f"the number is the same: {same}; the old accept() still waits: {waiting.is_alive()}")
connections = []
for count in range(1, 2001):
    subprocess.run(["true"], check=True)
    if count % 100 == 0:
        connections.append(socket.create_connection(new.address))
        waiting.join(0.5)
        if returned:
            print(f"{count} processes", file=sys.stderr)
            break
theirs = socket.socket(fileno=os.dup(returned[0].fileno())).getsockname() if returned else None
print(f"it returned a connection of the new listener: {theirs == new.address}")
PYTHON
python3 --version >&2
python3 listeners.py | tee found
cat >expected <<'TEXT'
the number is the same: True; the old accept() still waits: True
it returned a connection of the new listener: True
TEXT
cmp -s found expected
