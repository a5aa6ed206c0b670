"""A browser without a screen: keeps cookies, follows nothing, and sends what a browser sends along."""

from __future__ import annotations

import re
from urllib.parse import urlencode

from tests.stack import Got, Sidecar


class Jar:
    """One browser before one sidecar, at an `address` of loopback. `cookies` may be tampered with."""

    def __init__(self, sidecar: Sidecar, address: str = "") -> None:
        self.sidecar = sidecar
        self.address = address
        self.cookies: dict[str, str] = {}

    def get(self, path: str, accept: str = "text/html", **headers: str) -> Got:
        """Navigate."""
        return self._sent("GET", path, None, {"accept": accept, **headers})

    def post(self, path: str, fields: dict[str, str], **headers: str) -> Got:
        """Send a form of the sidecar's own page; `origin` may be another."""
        own = {"origin": f"http://127.0.0.1:{self.sidecar.port}", "content-type": "application/x-www-form-urlencoded"}
        return self._sent("POST", path, urlencode(fields).encode(), {**own, "accept": "text/html", **headers})

    def begin(self, path: str = "/me") -> str:
        """The state of a form that was opened on the way to `path`."""
        location = self.get(path).header("location") or ""
        found = re.search(r'name="state" value="([^"]+)"', self.get(location).body.decode())
        assert found is not None
        return found[1]

    def sign_in(self, name: str = "alice", password: str = "Alice-1234", path: str = "/me") -> Got:
        """Sign in with the form."""
        return self.post("/_sidecar/login", {"state": self.begin(path), "username": name, "password": password})

    def take(self, got: Got) -> Got:
        """Keep an answer's cookies."""
        for name, value in got.headers:
            if name.lower() == "set-cookie":
                key, _, content = value.partition(";")[0].partition("=")
                if "Max-Age=0" in value:
                    self.cookies.pop(key, None)
                else:
                    self.cookies[key] = content
        return got

    def _sent(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Got:
        if self.cookies:
            headers["cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        named = {name: value for name, value in headers.items() if value}
        return self.take(self.sidecar.request(method, path, None, body, source=self.address, **named))
