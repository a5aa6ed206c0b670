"""The webhook as a process, asked over TLS as the API server asks; certificates made by the openssl lines of the docs."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sidecar.demo.processes import Process
from tests import configmap
from tests.inject.pods import pod, review
from tests.stack import ROOT, free_port, wait_for

HOST = "authz-injector.authz-sidecar.svc"


def made_certificate(folder: Path, names: str = f"DNS:{HOST}") -> dict[str, str]:
    """CA, certificate and key by the lines of deploy/k8s/README.md, for these names."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not on PATH (apt-get install openssl)")
    text = (ROOT / "deploy/k8s/README.md").read_text(encoding="utf-8")
    found = re.search(r"<!-- run by: tests/inject/test_server.py -->\n```sh\n(.*?)```", text, re.DOTALL)
    assert found is not None
    assert f"DNS:{HOST}" in found[1]
    folder.mkdir()
    lines = found[1].replace(f"DNS:{HOST}", names)
    subprocess.run(["sh", "-e", "-c", lines], cwd=folder, check=True, capture_output=True)
    return {name: (folder / name).read_text() for name in ("ca.crt", "tls.crt", "tls.key")}


class Webhook:
    """A running one."""

    def __init__(self, port: int, tls: Path, log: Path) -> None:
        self.port = port
        self.tls = tls
        self.log = log

    def ask(
        self, path: str, body: bytes, kind: str = "application/json", ca: str = "", method: str = "POST"
    ) -> tuple[int, bytes]:
        """One request to the Service's name, with the CA that the configuration has in `caBundle`."""
        trusted = ssl.create_default_context(cadata=ca or (self.tls / "ca.crt").read_text())
        connection = _To(self.port, trusted)
        with closing(connection):
            connection.request(method, path, body, {"content-type": kind})
            answer = connection.getresponse()
            return answer.status, answer.read()

    def review(self, document: Any, path: str = "/inject") -> dict[str, Any]:
        """The response to a review."""
        status, body = self.ask(path, json.dumps(document).encode())
        assert status == 200, body
        response = json.loads(body)["response"]
        assert isinstance(response, dict)
        return response


class _To(http.client.HTTPSConnection):
    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        super().__init__("127.0.0.1", port, context=context, timeout=10)
        self._trusted = context

    def connect(self) -> None:
        http.client.HTTPConnection.connect(self)
        self.sock = self._trusted.wrap_socket(self.sock, server_hostname=HOST)


@pytest.fixture(scope="module")
def webhook(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Webhook]:
    folder = tmp_path_factory.mktemp("webhook")
    configmap.put(folder / "tls", made_certificate(folder / "made"), 1)
    port = free_port()
    command = [
        sys.executable, "-m", "sidecar.cli", "inject", "--listen", f"127.0.0.1:{port}",
        "--certificate", str(folder / "tls/tls.crt"), "--key", str(folder / "tls/tls.key"),
    ]  # fmt: skip
    hook = Webhook(port, folder / "tls", folder / "inject.log")

    def ready() -> bool:
        try:
            return hook.ask("/livez", b"", method="GET")[0] == 200
        except OSError:
            return False

    process = Process.start("inject", command, folder, dict(os.environ), ready)
    yield hook
    process.stop()


def test_a_pod_is_injected_and_then_valid(webhook: Webhook) -> None:
    response = webhook.review(review(pod()))
    assert response["allowed"] is True
    assert response["patchType"] == "JSONPatch"
    assert webhook.review(review(pod()), "/validate")["allowed"] is False


@pytest.mark.parametrize(
    ("path", "body", "kind", "status"),
    [
        ("/inject", b"{", "application/json", 400),
        ("/inject", json.dumps(review(pod(), kind={"kind": "Deployment"})).encode(), "application/json", 400),
        ("/validate", b"[]", "application/json", 400),
        ("/inject", b"{}", "text/plain", 415),
        ("/inject", b" " * (8 * 1024 * 1024 + 1), "application/json", 413),
        ("/inject/", b"{}", "application/json", 404),
        ("/other", b"{}", "application/json", 404),
    ],
)
def test_what_is_no_review_is_a_client_error(webhook: Webhook, path: str, body: bytes, kind: str, status: int) -> None:
    assert webhook.ask(path, body, kind)[0] == status


def test_another_method_is_405(webhook: Webhook) -> None:
    assert webhook.ask("/inject", b"", method="GET")[0] == 405


def test_the_log_has_the_pod_and_nothing_of_what_is_in_it(webhook: Webhook) -> None:
    secret = pod()
    secret["spec"]["containers"][0]["env"] = [{"name": "PASSWORD", "value": "hunter2-hunter2"}]
    webhook.review(review(secret))
    webhook.review(review(pod(hostNetwork=True)))
    text = webhook.log.read_text()
    assert "shop/shop-7c9d8b5f6d-" in text
    assert "hostNetwork" in text
    assert "hunter2" not in text


def test_a_rotated_certificate_is_taken_over_and_a_broken_one_is_not(webhook: Webhook, tmp_path: Path) -> None:
    old, new = (webhook.tls / "ca.crt").read_text(), made_certificate(tmp_path / "new")
    assert new["ca.crt"] != old
    configmap.put(webhook.tls, {**new, "tls.key": "broken"}, 2)
    wait_for(lambda: "certificate not reloaded" in webhook.log.read_text())
    assert webhook.ask("/livez", b"", ca=old, method="GET")[0] == 200
    configmap.put(webhook.tls, new, 3)
    wait_for(lambda: "certificate reloaded" in webhook.log.read_text())
    assert webhook.review(review(pod()))["allowed"] is True  # it trusts the new CA alone
    with pytest.raises(ssl.SSLCertVerificationError):
        webhook.ask("/livez", b"", ca=old, method="GET")


def test_without_a_certificate_it_does_not_start(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sidecar.cli", "inject", "--certificate", str(tmp_path / "none"), "--key", "none"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert "cannot use the certificate" in done.stderr
