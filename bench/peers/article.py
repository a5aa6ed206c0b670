"""The article's way: Starlette with httpx and a Cerbos client made for each request, keys fetched for each request.

python article.py PORT CERBOS JWKS_URL ISSUER UPSTREAM
"""

from __future__ import annotations

import sys
from typing import Any

import httpx
import jwt
import uvicorn
from cerbos.engine.v1 import engine_pb2
from cerbos.sdk.grpc.client import AsyncCerbosClient
from google.protobuf.struct_pb2 import Value
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

PORT, CERBOS, JWKS_URL, ISSUER, UPSTREAM = sys.argv[1:]
PATIENCE = None
"""Seconds for a call: no limit. wrk alone loses patience.

The Cerbos client hands its limit to gRPC as one of the service config, and gRPC ends those 1 to 2 s too early: 1 s, and
the part of a second at which the process began (github.com/grpc/grpc/issues/34547, in 1.85 too). Of 2 s a process had
anything from 0 to 1, for as long as it lived. The other requests keep the loop busy, 73 ms of CPU each: one that had
less than they take answered 500. Starlette raises the error again after that, and uvicorn closes the connection, which
is a "read" error of wrk.
"""


async def contact(request: Request) -> Response:
    token = request.headers.get("authorization", "").removeprefix("Bearer ")
    async with httpx.AsyncClient(timeout=PATIENCE) as client:
        keys: dict[str, Any] = (await client.get(JWKS_URL)).json()
    kid = jwt.get_unverified_header(token)["kid"]
    key = next(jwt.PyJWK(one) for one in keys["keys"] if one["kid"] == kid)
    claims = jwt.decode(token, key, ["RS256"], issuer=ISSUER, options={"verify_aud": False})
    principal = engine_pb2.Principal(id=claims["username"], roles=claims["cognito:groups"])
    resource = engine_pb2.Resource(
        kind="contact", id=request.path_params["id"], attr={"owner": Value(string_value="alice")}
    )
    async with AsyncCerbosClient(CERBOS, tls_verify=False, timeout_secs=PATIENCE) as cerbos:
        if not await cerbos.is_allowed("read", principal, resource):
            return Response(status_code=403)
    async with httpx.AsyncClient(timeout=PATIENCE) as client:
        answer = await client.get(f"{UPSTREAM}{request.url.path}")
    return Response(answer.content, answer.status_code, media_type=answer.headers.get("content-type"))


if __name__ == "__main__":
    app = Starlette(routes=[Route("/contacts/{id}", contact)])
    # each connection waits seconds for its turn: uvicorn would close it, which wrk counts as a broken run
    uvicorn.run(app, host="127.0.0.1", port=int(PORT), access_log=False, log_level="error", timeout_keep_alive=60)
