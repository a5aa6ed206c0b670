"""The authorizer that Envoy and nginx ask, as tight as Python's usual tools allow.

One ASGI callable on uvicorn with uvloop and httptools, a token verified once and then remembered, and Cerbos by gRPC on
one kept channel over the same unix socket.

    python authorizer.py PORT CERBOS JWKS ISSUER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import grpc.aio
import jwt
import uvicorn
from cerbos.effect.v1 import effect_pb2
from cerbos.engine.v1 import engine_pb2
from cerbos.request.v1 import request_pb2
from cerbos.svc.v1.svc_pb2_grpc import CerbosServiceStub
from google.protobuf.struct_pb2 import Value


class Authorizer:
    """200 where Cerbos allows `read` of the contact in the path, 403 where not, 401 without a good token."""

    def __init__(self, cerbos: str, keys: dict[str, Any], issuer: str) -> None:
        self._cerbos = cerbos
        self._keys = keys
        self._issuer = issuer
        self._principals: dict[bytes, engine_pb2.Principal] = {}
        self._check: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        status = await self._status(scope)
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    async def _status(self, scope: Any) -> int:
        authorization = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        principal = self._principals.get(authorization)
        if principal is None:
            try:
                principal = self._principals[authorization] = self._verified(authorization.removeprefix(b"Bearer "))
            except jwt.PyJWTError:
                return 401
        if self._check is None:
            self._check = CerbosServiceStub(grpc.aio.insecure_channel(self._cerbos)).CheckResources
        resource = engine_pb2.Resource(
            kind="contact", id=scope["path"].rpartition("/")[2], attr={"owner": Value(string_value="alice")}
        )
        entry = request_pb2.CheckResourcesRequest.ResourceEntry(actions=["read"], resource=resource)
        answer = await self._check(
            request_pb2.CheckResourcesRequest(request_id="r", principal=principal, resources=[entry]), timeout=1.0
        )
        return 200 if answer.results[0].actions["read"] == effect_pb2.EFFECT_ALLOW else 403

    def _verified(self, token: bytes) -> engine_pb2.Principal:
        key = self._keys[jwt.get_unverified_header(token)["kid"]]
        claims = jwt.decode(token, key, ["RS256"], issuer=self._issuer, options={"verify_aud": False})
        return engine_pb2.Principal(id=claims["username"], roles=claims["cognito:groups"])


if __name__ == "__main__":
    port, cerbos, keys, issuer = sys.argv[1:]
    known = {key["kid"]: jwt.PyJWK(key).key for key in json.loads(Path(keys).read_text())["keys"]}
    uvicorn.run(
        Authorizer(cerbos, known, issuer), host="127.0.0.1", port=int(port), loop="uvloop", http="httptools",
        lifespan="off", access_log=False, log_level="error", interface="asgi3",
    )  # fmt: skip
