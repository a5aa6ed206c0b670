"""The flags of `sidecar inject`."""

from __future__ import annotations

import pytest

from sidecar.cli import parser
from sidecar.inject.review import AdmissionPolicy
from sidecar.inject.settings import settings_of


def test_without_flags_everything_is_refused_that_stays_without() -> None:
    settings = settings_of(parser().parse_args(["inject"]))
    assert (settings.host, settings.port) == ("0.0.0.0", 8443)
    assert settings.policy == AdmissionPolicy(admit_uninjectable=False, admit_opted_out=False)
    assert settings.images == {}


def test_each_flag_is_heard() -> None:
    said = "inject --listen [::1]:9443 --certificate c --key k --image a --cerbos-image b --uninjectable admit --opt-out admit"
    more = "--image-mirror m.example:5000 --image-mirror m.example/hub --before docker.io/istio/proxyv2"
    settings = settings_of(parser().parse_args([*said.split(), *more.split()]))
    assert (settings.mirrors, settings.before) == (("m.example:5000", "m.example/hub"), ("docker.io/istio/proxyv2",))
    assert (settings.host, settings.port, settings.certificate, settings.key) == ("::1", 9443, "c", "k")
    assert settings.images == {"authz-sidecar": "a", "authz-cerbos": "b"}
    assert settings.policy == AdmissionPolicy(admit_uninjectable=True, admit_opted_out=True)


@pytest.mark.parametrize(
    "said",
    [
        "--before docker.io/istio/proxyv2:1.27",
        "--image-mirror https://m.example",
        "--listen 8443",
        "--listen a:70000",
        "--uninjectable ignore",
        "--opt-out yes",
    ],
)
def test_what_is_none_is_wrong_usage(said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parser().parse_args(["inject", *said.split()])
    assert ended.value.code == 2
    assert "expected" in (told := capsys.readouterr().err) or "choice" in told
