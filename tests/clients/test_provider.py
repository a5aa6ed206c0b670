"""The app client's secrets: sent as AWS and the RFC say, and never shown."""

from __future__ import annotations

from sidecar.clients.provider import AppClient, Grant


def test_a_secret_is_sent_and_never_shown() -> None:
    client = AppClient("web", "s3cret")
    assert client.basic() == "Basic d2ViOnMzY3JldA=="
    assert "s3cret" not in repr(client)
    assert "token" not in repr(Grant("token", "token", "token"))
