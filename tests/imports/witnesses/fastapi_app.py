"""An app of FastAPI with the traps that its specs have: root_path, a mount, `{x:path}`, and the first declared path served.

python -m tests.imports.witnesses.fastapi_app spec | serve PORT
"""

from __future__ import annotations

import json
import sys
from typing import Any

import uvicorn
from fastapi import FastAPI, WebSocket
from pydantic import BaseModel

app = FastAPI(title="crm")
admin = FastAPI()
ROOT_PATH = "/crm"


class Contact(BaseModel):
    """A contact."""

    id: int
    name: str
    owner_id: str
    tenant: str = "t"


ONE: dict[str, Any] = {"id": 7, "name": "a", "owner_id": "alice"}


@app.get("/contacts", tags=["contacts"])
def list_contacts(page: int = 1, q: str = "") -> list[Contact]:
    """List."""
    return [Contact(**ONE)]


@app.post("/contacts", tags=["contacts"], status_code=201)
def create_contact() -> Contact:
    """Create."""
    return Contact(**ONE)


@app.get("/contacts/{contact_id}", tags=["contacts"])
def read_contact(contact_id: int) -> Contact:
    """Read."""
    return Contact(**ONE)


@app.put("/contacts/{contact_id}", tags=["contacts"])
def update_contact(contact_id: int) -> Contact:
    """Update."""
    return Contact(**ONE)


@app.delete("/contacts/{contact_id}", tags=["contacts"], status_code=204)
def delete_contact(contact_id: int) -> None:
    """Delete."""


@app.post("/contacts/{contact_id}/archive", tags=["contacts"])
def archive_contact(contact_id: int) -> dict[str, Any]:
    """Archive."""
    return {}


@app.get("/contacts/{contact_id}/notes", tags=["notes"])
def list_notes(contact_id: int) -> list[dict[str, Any]]:
    """List."""
    return []


@app.get("/contacts/{contact_id}/notes/{note_id}", tags=["notes"])
def read_note(contact_id: int, note_id: int) -> dict[str, Any]:
    """Read."""
    return {}


@app.get("/users/{name}", tags=["users"])
def read_user(name: str) -> dict[str, Any]:
    """Read; it stands before the next one."""
    return {}


@app.get("/users/me", tags=["users"])
def read_me() -> dict[str, Any]:
    """Never served."""
    return {}


@app.get("/files/{path:path}")
def read_file(path: str) -> dict[str, Any]:
    """Read a file in folders."""
    return {}


@app.get("/healthz")
def health() -> dict[str, Any]:
    """Health."""
    return {}


@app.websocket("/ws")
async def changes(websocket: WebSocket) -> None:
    """Accept, and close."""
    await websocket.accept()
    await websocket.close()


@admin.get("/jobs/{job_id}")
def read_job(job_id: int) -> dict[str, Any]:
    """Read, in a mounted app, which the spec leaves out."""
    return {}


app.mount("/admin", admin)

if __name__ == "__main__":
    if sys.argv[1] == "spec":
        # as the app serves it: `servers` has the root_path there alone
        print(json.dumps(app.openapi() | {"servers": [{"url": ROOT_PATH}]}))
    else:
        uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), root_path=ROOT_PATH, log_level="warning")
