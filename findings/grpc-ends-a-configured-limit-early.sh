#!/bin/sh
# grpcio 1.85.1 (PyPI), seen on 2026-11-30.
#
# A channel's service config may give each call of a method a limit of time (`methodConfig`, `timeout`); the Cerbos SDK for
# Python sets its `timeout_secs` so. A call with a limit of 4 s from there ends with DEADLINE_EXCEEDED after 2 to 3 s: a
# whole second too early, and the part of a second at which the process began on top, so that each process has a limit of its
# own and keeps it. The same 4 s as the argument `timeout` of the call are 4.0 s. A limit of 2 s may be next to nothing.
#
# Output seen (the second figure differs from process to process):
#   timeout=4 of the call: ended after 4.0 s
#   timeout 4s of the service config: ended after 2.0 2.4 2.1 2.4 2.1 s
#
# Exits with 0 while this is so, with 1 when it has changed. Needs python3 with venv.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check grpcio==1.85.1
cat >limit.py <<'PYTHON'
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import grpc


def handler(call):
    def wait(request, context):
        ended = []
        context.add_callback(lambda: ended.append(1))
        while not ended:
            time.sleep(0.05)
        return b""

    return grpc.unary_unary_rpc_method_handler(wait)


class Handlers(grpc.GenericRpcHandler):
    def service(self, call):
        return handler(call)


server = grpc.server(ThreadPoolExecutor(2))
server.add_generic_rpc_handlers((Handlers(),))
port = server.add_insecure_port("127.0.0.1:0")
server.start()
by_config = sys.argv[1] == "config"
config = {"methodConfig": [{"name": [{}], "timeout": "4s"}]}
options = [("grpc.service_config", json.dumps(config))] if by_config else []
with grpc.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
    grpc.channel_ready_future(channel).result(10)
    call = channel.unary_unary("/a.B/C")
    began = time.monotonic()
    try:
        call(b"", timeout=None if by_config else 4)
    except grpc.RpcError as error:
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    print(f"{time.monotonic() - began:.1f}")
server.stop(0)
PYTHON
argument=$(venv/bin/python limit.py argument)
echo "timeout=4 of the call: ended after $argument s"
configured=
for pause in 0.0 0.25 0.3 0.2 0.35; do
    sleep "$pause"
    configured="$configured $(venv/bin/python limit.py config)"
done
echo "timeout 4s of the service config: ended after$configured s"
# shellcheck disable=SC2086
venv/bin/python - "$argument" $configured <<'PYTHON'
import sys

argument, *configured = map(float, sys.argv[1:])
raise SystemExit(0 if argument >= 4.0 and all(1.9 <= seconds < 3.5 for seconds in configured) else 1)
PYTHON
