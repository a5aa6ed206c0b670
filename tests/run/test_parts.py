"""What a process that serves has besides its gate: made, and not opened."""

from __future__ import annotations

import ssl
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from sidecar.config.settings import SettingsError, read_settings, understand
from sidecar.run.errors import StartError
from sidecar.run.parts import open_log, parts, prepare
from tests.certificates import certificates, pem_of, signed
from tests.net.exchanges import permit
from tests.net.hostile_upstream import upstream


def test_traces_need_what_they_are_made_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sidecar.record.tracing", None)
    monkeypatch.delattr("sidecar.record.tracing", raising=False)
    environ = {
        "SIDECAR_UPSTREAM": "http://127.0.0.1:1", "SIDECAR_TRACES": "otlp", "SIDECAR_CERBOS": "127.0.0.1:1",
        "SIDECAR_ROUTES": str(tmp_path / "routes.yaml"),
    }  # fmt: skip
    with pytest.raises(StartError, match=r"SIDECAR_TRACES: found otlp, expected OpenTelemetry: pip install"):
        parts(read_settings(environ, {}))


def test_without_the_extra_envoy_is_not_answered_and_the_start_says_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "routes.yaml").write_text("version: 1\nroutes: [{path: /public, access: public}]\n")
    settings = read_settings(
        {
            "SIDECAR_UPSTREAM": "http://127.0.0.1:1", "SIDECAR_ROUTES": str(tmp_path / "routes.yaml"),
            "SIDECAR_CERBOS": "127.0.0.1:1", "SIDECAR_EXT_AUTHZ_LISTEN": "127.0.0.1:1",
        },
        {},
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "envoy.service.auth.v3.external_auth_pb2", None)
    monkeypatch.delitem(sys.modules, "sidecar.doors.ext_authz", raising=False)
    monkeypatch.delattr("sidecar.doors.ext_authz", raising=False)
    with pytest.raises(StartError, match=r"pip install '\.\[envoy\]'"):
        parts(settings)


LEAST = {"SIDECAR_UPSTREAM": "http://127.0.0.1:1"}


def test_the_log_is_not_made_before_it_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    settings = read_settings({**LEAST, "SIDECAR_DECISION_LOG": str(path)}, {})
    parts(settings)
    assert not path.exists()
    outlet = open_log(settings)
    outlet.put(["line\n"])
    assert outlet.send()
    outlet.close()
    assert path.read_text() == "line\n"


@pytest.mark.parametrize("where", ["", "none/log"])
def test_a_log_that_cannot_be_opened_is_told_alike_before_and_then(tmp_path: Path, where: str) -> None:
    path = tmp_path / where
    settings = read_settings({**LEAST, "SIDECAR_DECISION_LOG": str(path)}, {})
    said = []
    for work in (parts, open_log):
        with pytest.raises(StartError) as caught:
            work(settings)
        said.append(str(caught.value))
    reason = "No such file or directory" if where else "Is a directory"
    assert said == [f"SIDECAR_DECISION_LOG: cannot append to {path}: {reason}"] * 2


async def test_an_app_gets_the_certificate_and_is_asked_for_the_name_of_the_settings(tmp_path: Path) -> None:
    files = certificates(tmp_path)
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    files.ca.write_bytes(signed("ca.test", ca_key, "ca.test", ca_key, None))
    files.certificate.write_bytes(signed("app", key, "ca.test", ca_key, x509.DNSName("app.test")))
    files.key.write_bytes(pem_of(key))
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(files.certificate, files.key)
    served.verify_mode = ssl.CERT_REQUIRED
    served.load_verify_locations(files.ca)
    asked: list[str] = []
    served.sni_callback = lambda tls, name, context: asked.append(name)
    async with upstream(tls=served) as server:
        environ = {
            "SIDECAR_UPSTREAM": f"https://127.0.0.1:{server.origin.port}", "SIDECAR_UPSTREAM_CA": str(files.ca),
            "SIDECAR_UPSTREAM_CERTIFICATE": str(files.certificate), "SIDECAR_UPSTREAM_KEY": str(files.key),
            "SIDECAR_UPSTREAM_SERVER_NAME": "app.test",
        }  # fmt: skip
        app = parts(read_settings(environ, {})).upstream
        response = await app.send(permit("GET", b"/mine"), None)
        assert (response.status, await response.read()) == (200, b"GET /mine")
        await app.aclose()
        assert asked == ["app.test"]


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "error.html").write_text("{% if %}")
    (tmp_path / "nothing.html").write_text("")
    (tmp_path / "sign_in.html").write_bytes(b"\xff")
    environ = {
        **LEAST, "SIDECAR_UPSTREAM": "https://app", "SIDECAR_UPSTREAM_CA": "none.pem", "SIDECAR_ASSERTION": "none.pem",
        "SIDECAR_TEMPLATES": str(tmp_path), "SIDECAR_DECISION_LOG": "none/log", "SIDECAR_LISTEN": "unix:/none/a.sock",
        "SIDECAR_ADMIN_LISTEN": "unix:/" + 120 * "a",
    }  # fmt: skip
    with pytest.raises(StartError) as caught:
        parts(read_settings(environ, {}))
    starts = [problem.partition(": ")[0].removeprefix(str(tmp_path)) for problem in caught.value.problems]
    assert starts == [
        "SIDECAR_UPSTREAM_CA", "/error.html:1", "/nothing.html", "/sign_in.html", "SIDECAR_ASSERTION",
        "SIDECAR_DECISION_LOG", "SIDECAR_LISTEN", "SIDECAR_ADMIN_LISTEN",
    ]  # fmt: skip


def test_both_halves_tell_all_of_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    binary = {"SIDECAR_CERBOS_BINARY": sys.executable}
    environ = {**LEAST, **binary, "SIDECAR_ROUTES": "none.yaml", "SIDECAR_TEMPLATES": "none", "SIDECAR_WORKERS": "many"}
    with pytest.raises(StartError) as caught:
        prepare(understand(environ, {}), environ)
    starts = [problem.partition(":")[0] for problem in caught.value.problems]
    assert starts == ["SIDECAR_WORKERS", "SIDECAR_ROUTES", "SIDECAR_POLICIES", "SIDECAR_TEMPLATES"]


def test_what_is_wrong_with_the_certificate_is_told_with_its_settings(tmp_path: Path) -> None:
    files = certificates(tmp_path)
    both = {"SIDECAR_TLS_CERTIFICATE": str(files.certificate), "SIDECAR_TLS_KEY": str(files.key)}
    made = parts(read_settings({**LEAST, **both}, {}))
    assert made.tls is not None
    files.key.unlink()
    with pytest.raises(StartError) as caught:
        parts(read_settings({**LEAST, **both}, {}))
    assert str(caught.value) == (
        f"SIDECAR_TLS_CERTIFICATE, SIDECAR_TLS_KEY: cannot read {files.key}: No such file or directory"
    )
    with pytest.raises(SettingsError, match="found one of them, expected both or none"):
        read_settings({**LEAST, "SIDECAR_TLS_KEY": "key.pem"}, {})
