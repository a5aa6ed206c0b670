"""How many checks Cerbos answers to one Python process: 32 at once over one channel of the gRPC library.

python bare.py CERBOS SECONDS
"""

from __future__ import annotations

import asyncio
import sys
import time

import grpc.aio
import uvloop
from cerbos.engine.v1 import engine_pb2
from cerbos.request.v1 import request_pb2
from cerbos.svc.v1.svc_pb2_grpc import CerbosServiceStub
from google.protobuf.struct_pb2 import Value

AT_ONCE = 32


async def main(target: str, seconds: float) -> None:
    async with grpc.aio.insecure_channel(target) as channel:
        check = CerbosServiceStub(channel).CheckResources
        principal = engine_pb2.Principal(id="alice", roles=["user"])
        resource = engine_pb2.Resource(kind="contact", id="1", attr={"owner": Value(string_value="alice")})
        entry = request_pb2.CheckResourcesRequest.ResourceEntry(actions=["read"], resource=resource)
        request = request_pb2.CheckResourcesRequest(request_id="r", principal=principal, resources=[entry])
        await check(request)
        end, done = time.perf_counter() + seconds, 0

        async def ask() -> None:
            nonlocal done
            while time.perf_counter() < end:
                await check(request)
                done += 1

        began = time.perf_counter()
        await asyncio.gather(*(ask() for _ in range(AT_ONCE)))
        print(done / (time.perf_counter() - began))


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], float(sys.argv[2])))
