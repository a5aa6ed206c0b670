"""A pod that runs under `podman play kube`, with what a kubelet does besides: the order of the end, volumes that change."""

from __future__ import annotations

import copy
import http.client
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from sidecar.demo.processes import Process
from tests import configmap, tokens
from tests.deploy.engine import Engine
from tests.deploy.kube import Object
from tests.stack import Got, wait_for

PORT, ADMIN_PORT, APP_PORT, KEYS_PORT = 8080, 9901, 3000, 9000
POD = "authz-k8s-test"


def settings() -> dict[str, str]:
    """What a user writes into the ConfigMap authz-settings; the keys are on the pod's own loopback."""
    return {
        "AWS_COGNITO_CLIENT_ID": tokens.CLIENT,
        "SIDECAR_ISSUER": tokens.ISSUER,
        "SIDECAR_CERBOS_TIMEOUT": "5s",  # a busy machine is not a lost Cerbos
        "SIDECAR_JWKS_URL": f"http://127.0.0.1:{KEYS_PORT}/jwks.json",
    }


def token(user: str = "alice", groups: tuple[str, ...] = ("user",)) -> str:
    """An access token of the pool that the pod trusts."""
    return tokens.mint(tokens.claims(time.time(), username=user, **{"cognito:groups": list(groups)})).decode()


@dataclass
class Played:
    """The running pod. `address` is its own in the pod network, `started` seconds until it was ready."""

    engine: Engine
    address: str
    started: float = 0.0
    versions: dict[str, int] = field(default_factory=dict)

    def container(self, name: str) -> str:
        """The engine's name of a container of the pod."""
        return f"{POD}-{name}"

    def get(self, path: str, bearer: str | None = None, port: int = PORT) -> Got:
        """GET from outside the pod."""
        with closing(http.client.HTTPConnection(self.address, port, timeout=10)) as connection:
            connection.request("GET", path, headers={"authorization": f"Bearer {bearer}"} if bearer else {})
            answer = connection.getresponse()
            return Got(answer.status, answer.getheaders(), answer.read())

    def ready(self) -> bool:
        """What the kubelet's readiness probe sees."""
        try:
            return self.get("/readyz", port=ADMIN_PORT).status == 200
        except OSError:
            return False

    def volume(self, name: str) -> Path:
        """Where the engine keeps a volume."""
        return Path(self.engine.inspect(name, "volume")["Mountpoint"])

    def put(self, name: str, files: Mapping[str, str]) -> None:
        """Change a ConfigMap's volume as the kubelet does."""
        self.versions[name] = self.versions.get(name, 0) + 1
        configmap.put(self.volume(name), files, self.versions[name])

    def end(self, name: str, seconds: int) -> float:
        """SIGTERM to a container, SIGKILL after `seconds`; seconds that it took."""
        began = time.monotonic()
        self.engine.call("stop", "--time", str(seconds), self.container(name))
        return time.monotonic() - began

    def state(self, name: str) -> dict[str, Any]:
        """The engine's state of a container."""
        state = self.engine.inspect(self.container(name), "container")["State"]
        assert isinstance(state, dict)
        return state

    def logs(self, name: str) -> str:
        """What a container wrote."""
        done = self.engine.call("logs", self.container(name), check=False)
        return done.stdout + done.stderr


@contextmanager
def played(engine: Engine, pod: Object, configmaps: list[Object], folder: Path) -> Iterator[Played]:
    """Run `pod`, and its keys' server in its network; wait until it is ready. Everything is removed in the end."""
    nsenter = shutil.which("nsenter")
    if not engine.is_podman or nsenter is None or os.geteuid() != 0:
        pytest.skip("a pod needs podman as root, and nsenter (apt-get install podman util-linux)")
    maps = copy.deepcopy(configmaps)
    for one in maps:
        if one["metadata"]["name"] == "authz-settings":
            one["data"] = settings()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "jwks.json").write_text(json.dumps(tokens.key_set()))
    file = folder / "pod.yaml"
    file.write_text(yaml.safe_dump_all([*maps, _with_images_of(engine, pod)]))
    # podman names a ConfigMap's volume after the ConfigMap
    volumes = [one.get("configMap", one)["name"] for one in pod["spec"]["volumes"]]
    _remove(engine, volumes)
    keys = None
    try:
        engine.call("play", "kube", "--start=false", str(file), seconds=120)
        infra = engine.call("pod", "inspect", "--format", "{{.InfraContainerID}}", POD).stdout.strip()
        engine.call("start", infra)
        found = engine.inspect(infra, "container")
        address = next(iter(found["NetworkSettings"]["Networks"].values()))["IPAddress"]
        inside = [nsenter, "--target", str(found["State"]["Pid"]), "--net"]
        command = [*inside, sys.executable, "-m", "http.server", str(KEYS_PORT), "--bind", "127.0.0.1"]
        asks = f"import urllib.request as u; u.urlopen('http://127.0.0.1:{KEYS_PORT}/jwks.json')"
        keys = Process.start(
            "keys", command, folder, dict(os.environ),
            lambda: subprocess.run([*inside, sys.executable, "-c", asks], capture_output=True, check=False).returncode == 0,
        )  # fmt: skip
        pod_here = Played(engine, address)
        began = time.monotonic()
        engine.call("pod", "start", POD)
        try:
            wait_for(pod_here.ready, 60)
        except AssertionError:
            said = {name: pod_here.logs(name) for name in ("app", "authz-cerbos", "authz-sidecar")}
            raise AssertionError(said) from None
        pod_here.started = time.monotonic() - began
        yield pod_here
    finally:
        if keys is not None:
            keys.stop()
        _remove(engine, volumes)


def _with_images_of(engine: Engine, pod: Object) -> Object:
    """The pod with the names that its images have on this machine, and without its ports: a podman before 4.7 takes each of
    them on the host too, where a kubelet takes none."""
    made = copy.deepcopy(pod)
    for container in (*made["spec"].get("initContainers", ()), *made["spec"]["containers"]):
        container.pop("ports", None)
        container["image"] = engine.image(container["image"])
    return made


def _remove(engine: Engine, volumes: list[str]) -> None:
    engine.call("pod", "rm", "--force", "--time", "0", POD, check=False)
    for name in volumes:
        engine.call("volume", "rm", "--force", name, check=False)


class Load:
    """Clients that ask without a pause, each on a connection of its own for each request; `got` are their statuses."""

    def __init__(self, pod: Played, path: str, bearer: str, clients: int = 2) -> None:
        self.got: list[int] = []
        self._stop = threading.Event()
        self._pod, self._path, self._bearer = pod, path, bearer
        self._threads = [threading.Thread(target=self._run) for _ in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Begin no more requests, and let those under way come to their end."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.got.append(self._pod.get(self._path, self._bearer).status)
            except OSError:
                self.got.append(0)
