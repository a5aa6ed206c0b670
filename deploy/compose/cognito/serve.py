"""A local Cognito in a container: the pool's API on port 9229, its hosted UI on 9230, until SIGTERM.

Both listen on the container's loopback, as they do on a developer's machine; a relay lets others in. The pool's ids are
the same at each start, so that deploy/compose/dev.env can name them. `PUBLIC_URL` is where browsers have the app, or
several of them, with blanks between.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path

from relay import Address, serve

from sidecar.demo.cognito import LocalCognito
from sidecar.demo.hosted_ui import HostedUIServer

API, LOGIN = 19229, 9230
"""The hosted UI's own port is that which its URL names; the API has another one inside."""


def main() -> None:
    """Start both, and relay to them."""
    public = os.environ["PUBLIC_URL"].split()
    with (
        tempfile.TemporaryDirectory() as text,
        LocalCognito(API, Path(text), os.environ, fixed_ids=True) as cognito,
        HostedUIServer(
            cognito, LOGIN, Path(text), os.environ,
            redirect_uris=[f"{url}/_sidecar/callback" for url in public],
            logout_uris=[f"{url}/_sidecar/console" for url in public],
        ),
    ):  # fmt: skip
        print(f"pool {cognito.pool_id}, client {cognito.client_id}", flush=True)
        inside, outside = "127.0.0.1", "0.0.0.0"  # noqa: S104 - the container's own
        doors = [(Address(outside, 9229), Address(inside, API)), (Address(outside, 19230), Address(inside, LOGIN))]
        asyncio.run(serve(doors))


if __name__ == "__main__":
    main()
