#!/bin/sh
# FastAPI 0.165.0 with Starlette 1.10.0 (PyPI), seen on 2026-11-30.
#
# `FastAPI(root_path="/api")` is for an app behind a proxy that takes the prefix away: the app gets `/plain` for the
# client's `/api/plain`. Its own routes answer that. An app that is mounted below it answers no more: its routes are found
# only by a path that still has the prefix, which such a proxy never sends. The routes of the app itself answer by both
# spellings, so one resource has two paths. Who writes rules for paths, or tests an app without its proxy, sees one half work.
#
# Output seen (status by path, without and with the prefix):
#   root_path='': /plain 200, /api/plain 404, /mounted/x 200, /api/mounted/x 404
#   root_path='/api': /plain 200, /api/plain 200, /mounted/x 404, /api/mounted/x 200
#
# Exits with 0 while this is so, with 1 when it has changed. Needs python3 with venv.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check fastapi==0.165.0 starlette==1.10.0 httpx==0.28.1
cat >paths.py <<'PYTHON'
import asyncio
import warnings

import httpx
from fastapi import FastAPI

warnings.simplefilter("ignore")


def made(root_path):
    mounted = FastAPI()
    mounted.get("/x")(lambda: "x")
    app = FastAPI(root_path=root_path)
    app.get("/plain")(lambda: "plain")
    app.mount("/mounted", mounted)
    return app


async def main():
    for root_path in ("", "/api"):
        transport = httpx.ASGITransport(made(root_path))
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
            paths = ("/plain", "/api/plain", "/mounted/x", "/api/mounted/x")
            told = [f"{path} {(await client.get(path)).status_code}" for path in paths]
        print(f"root_path={root_path!r}: {', '.join(told)}")


asyncio.run(main())
PYTHON
cat >expected <<'TEXT'
root_path='': /plain 200, /api/plain 404, /mounted/x 200, /api/mounted/x 404
root_path='/api': /plain 200, /api/plain 200, /mounted/x 404, /api/mounted/x 200
TEXT
venv/bin/python paths.py | tee found
cmp -s expected found || { echo "this has changed" >&2; exit 1; }
