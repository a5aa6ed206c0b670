"""The images run as a user without rights on a file system that cannot be written, and hold nothing that installs or builds."""

from __future__ import annotations

import http.client
import json
import os
import re
import tomllib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import pytest
from packaging.requirements import Requirement

from sidecar.demo.app import start_app
from sidecar.demo.cognito import LocalCognito
from tests.deploy.engine import Container, Engine
from tests.stack import ROOT, free_port

LOCKED_DOWN = ("--read-only", "--cap-drop=all", "--security-opt=no-new-privileges", "--tmpfs=/tmp")
POOL = (
    "--env=AWS_REGION=eu-west-1",
    "--env=AWS_COGNITO_POOL_ID=eu-west-1_AbCdEf",
    "--env=AWS_COGNITO_CLIENT_ID=web",
    "--env=SIDECAR_UPSTREAM=http://127.0.0.1:3000",
)
LIST = """
import importlib.metadata as m, json, platform, sys
print(json.dumps({d.name.lower().replace("_", "-").replace(".", "-"): d.version for d in m.distributions(path=[p for p in sys.path if p.startswith("/opt/")])}))
"""


def status(port: int, path: str, token: str = "", method: str = "GET") -> tuple[int, dict[str, str]]:
    """The answer's status and headers for a request; status 0 where nobody answers yet."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
        try:
            connection.request(method, path, headers={"Authorization": f"Bearer {token}"} if token else {})
            answer = connection.getresponse()
        except (OSError, http.client.HTTPException):
            return 0, {}
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}


@dataclass(frozen=True)
class Served:
    """The standalone image, serving on `port` of this machine, with a token of a user of its pool."""

    container: Container
    port: int
    token: str


@pytest.fixture(scope="module")
def standalone(
    engine: Engine, standalone_image: str, cognito: LocalCognito, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """On this machine's own loopback, where the pool and the app are."""
    folder, port, app = tmp_path_factory.mktemp("image"), free_port(), free_port()
    routes = folder / "routes.yaml"
    routes.write_text((ROOT / "routes.yaml").read_text().replace(":3000/", f":{app}/"))
    routes.chmod(0o644)
    environ = {
        "SIDECAR_UPSTREAM": f"http://127.0.0.1:{app}",
        "SIDECAR_LISTEN": f"127.0.0.1:{port}",
        "SIDECAR_ADMIN_LISTEN": f"127.0.0.1:{free_port()}",
        "AWS_REGION": cognito.region,
        "AWS_COGNITO_POOL_ID": cognito.pool_id,
        "AWS_COGNITO_CLIENT_ID": cognito.client_id,
        "AWS_ENDPOINT_URL_COGNITO_IDENTITY_PROVIDER": cognito.endpoint,
    }
    files = (f"--volume={routes}:/etc/sidecar/routes.yaml:ro", f"--volume={ROOT}/policies:/etc/sidecar/policies:ro")
    options = (*LOCKED_DOWN, *files, "--network=host", *(f"--env={name}={value}" for name, value in environ.items()))
    with (
        start_app(app, ROOT / "node_modules", folder, os.environ),
        engine.running(standalone_image, *options) as container,
    ):
        container.wait_until(lambda: status(port, "/contacts")[0] != 0)
        yield Served(container, port, cognito.token("alice"))


@pytest.mark.parametrize("target", ["sidecar_image", "standalone_image"])
def test_what_an_image_says_of_itself(engine: Engine, target: str, request: pytest.FixtureRequest) -> None:
    found = engine.inspect(request.getfixturevalue(target))
    config = found["Config"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    labels = {name.removeprefix("org.opencontainers.image."): value for name, value in config["Labels"].items()}
    assert config["User"] == "65532:65532"
    assert config["StopSignal"] in ("SIGTERM", "15")
    assert config["Entrypoint"] == ["sidecar"]
    assert config["Cmd"] == ["run"]
    assert list(config["ExposedPorts"]) == ["8080/tcp"]
    health = config.get("Healthcheck") or found["Healthcheck"]
    assert health["Test"] == ["CMD", "python", "-I", "-m", "sidecar.health"]
    expected = {"version": project["version"], "licenses": project["license"], "description": project["description"]}
    assert expected.items() <= labels.items()
    cerbos = "embedded" if target == "standalone_image" else "127.0.0.1:3593"
    assert f"SIDECAR_CERBOS={cerbos}" in config["Env"]


def test_it_becomes_healthy_and_decides_with_its_own_cerbos(standalone: Served) -> None:
    standalone.container.wait_until(standalone.container.healthy)
    refused, headers = status(standalone.port, "/contacts")
    assert refused == 401
    assert headers["www-authenticate"].startswith("Bearer")
    assert status(standalone.port, "/contacts/1", standalone.token)[0] == 200
    assert status(standalone.port, "/contacts/1", standalone.token, "OPTIONS")[0] == 405
    ready = json.loads(standalone.container.run("python", "-m", "sidecar.health").stdout)
    assert ready["ready"] is True


def test_it_is_nobody_and_can_write_nowhere(standalone: Served) -> None:
    run = standalone.container.run
    assert run("id", "-u").stdout == "65532\n"
    assert run("touch", "/etc/sidecar/new", check=False).returncode != 0
    capabilities = dict(
        re.findall(r"^(Cap\w+|NoNewPrivs):\s+(\S+)$", run("cat", "/proc/self/status").stdout, re.MULTILINE)
    )
    assert {int(capabilities[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd")} == {0}
    assert capabilities["NoNewPrivs"] == "1"
    # /usr/bin/find: nothing on the image's own file system is this user's, and no program gives its rights to who starts it
    own = run("find", "/", "-xdev", "(", "-user", "65532", "-o", "-writable", "-type", "f", ")", "-print", check=False)
    assert own.stdout.split() == []


def test_nothing_that_installs_or_builds_is_inside(standalone: Served) -> None:
    run = standalone.container.run
    found = run("sh", "-c", "command -v pip pip3 gcc cc make npm git curl wget; true").stdout
    assert found.split() == []
    for module in ("pip", "setuptools", "ensurepip", "wheel", "grpc_tools", "hatchling", "moto", "pytest"):
        assert run("python", "-c", f"import {module}", check=False).returncode == 1, module


def test_what_is_inside_is_what_the_lock_says(standalone: Served) -> None:
    inside = json.loads(standalone.container.run("python", "-c", LIST).stdout)
    version = standalone.container.run(
        "python", "-c", "import platform; print(platform.python_version())"
    ).stdout.strip()
    lines = re.findall(r"^([a-z0-9-]+==\S+(?: ; [^\n]+?)?) \\$", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    locked = [Requirement(line) for line in lines]
    here = {
        "python_full_version": version,
        "python_version": "3.11",
        "sys_platform": "linux",
        "platform_system": "Linux",
    }
    expected = {
        one.name: str(one.specifier).removeprefix("==")
        for one in locked
        if one.marker is None or one.marker.evaluate(here)
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert inside == {**expected, project["name"]: project["version"]}


@pytest.mark.parametrize(
    "module",
    [
        "pycognito.aws_srp",
        "opentelemetry.exporter.otlp.proto.http.trace_exporter",
        "envoy.service.auth.v3.external_auth_pb2",
    ],
)
def test_every_extra_that_a_setting_asks_for_is_inside(standalone: Served, module: str) -> None:
    standalone.container.run("python", "-c", f"import {module}")


def test_sigterm_ends_it_in_order(standalone: Served) -> None:
    """The last test of this container."""
    standalone.container.engine.call("stop", "--time", "20", standalone.container.name)
    state = standalone.container.state
    assert (state["Running"], state["ExitCode"]) == (False, 0)


def test_without_what_it_needs_it_says_so_and_ends(engine: Engine, sidecar_image: str) -> None:
    done = engine.call("run", "--rm", "--read-only", sidecar_image, check=False)
    assert done.returncode == 1
    assert "SIDECAR_UPSTREAM: not set" in done.stderr
    done = engine.call("run", "--rm", "--read-only", *POOL, sidecar_image, check=False)
    assert done.returncode == 1
    assert "/etc/sidecar/routes.yaml" in done.stderr
