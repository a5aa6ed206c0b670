"""The webhook asked by a real API server (kube-apiserver and etcd): what is created, changed and refused there.

`make kube-apiserver` builds the one and installs the other; that takes a quarter of an hour, so no other target does.
"""

from __future__ import annotations

import base64
import copy
import http.client
import http.server
import json
import os
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sidecar.demo.processes import Process, status_of
from sidecar.inject.patch import PORT
from tests.deploy.kube import K8S, Object, built
from tests.inject.test_server import HOST, made_certificate
from tests.stack import ROOT, free_port

APISERVER = shutil.which("kube-apiserver", path=f"{os.environ.get('PATH', '')}:{ROOT / '.tools'}")
ETCD, KUBECTL, OPENSSL = (shutil.which(name) for name in ("etcd", "kubectl", "openssl"))
pytestmark = pytest.mark.skipif(
    None in (APISERVER, ETCD, KUBECTL, OPENSSL),
    reason="NO REAL API SERVER HAS SEEN THE WEBHOOK: kube-apiserver, etcd, kubectl or openssl is not there (make kube-apiserver)",
)
TOKEN = "the-token-of-these-tests"
ISTIO = "docker.io/istio/proxyv2"


class Cluster:
    """An API server without nodes: pods stay Pending, and everything that decides of them is the real one."""

    def __init__(self, port: int, folder: Path) -> None:
        self.port = port
        self.folder = folder

    def kubectl(self, *words: str, text: str = "") -> subprocess.CompletedProcess[str]:
        """Run kubectl as a user who may do everything."""
        command = [
            str(KUBECTL), f"--server=https://127.0.0.1:{self.port}", f"--token={TOKEN}", "--insecure-skip-tls-verify",
            "--request-timeout=20s", *words,
        ]  # fmt: skip
        environ = {**os.environ, "KUBECONFIG": os.devnull, "HOME": str(self.folder)}
        return subprocess.run(
            command, input=text, env=environ, capture_output=True, text=True, check=False, timeout=60
        )  # fmt: skip

    def apply(self, *objects: Object, namespace: str = "shop") -> None:
        """Create or change objects. Fails where the server takes one of them not."""
        done = self.kubectl("apply", "-n", namespace, "-f", "-", text=_list_of(objects))
        assert done.returncode == 0, done.stderr

    def create(self, pod: Object) -> Object:
        """A pod as the server has made it."""
        done = self.kubectl("create", "-n", "shop", "-o", "json", "-f", "-", text=json.dumps(pod))
        assert done.returncode == 0, done.stderr
        made: Object = json.loads(done.stdout)
        return made

    def refusal(self, *words: str, text: str = "") -> str:
        """What kubectl says of something that the server refuses."""
        done = self.kubectl(*words, "-n", "shop", text=text)
        assert done.returncode != 0, done.stdout
        return done.stderr


def _list_of(objects: tuple[Object, ...]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})


def pod(name: str, port: int = 3000, **spec: Any) -> Object:
    """A pod of somebody who has never heard of us."""
    app = {"name": "shop", "image": "registry.example.com/shop:4.2", "ports": [{"containerPort": port}]}
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": [app], **spec},
    }  # fmt: skip


@contextmanager
def _apiserver(folder: Path) -> Iterator[Cluster]:
    etcd, peers, port = free_port(), free_port(), free_port()
    client, peer = f"http://127.0.0.1:{etcd}", f"http://127.0.0.1:{peers}"
    subprocess.run(
        [str(OPENSSL), "genpkey", "-algorithm", "RSA", "-out", str(folder / "accounts.key")],
        check=True,
        capture_output=True,
    )
    (folder / "tokens.csv").write_text(f'{TOKEN},admin,admin,"system:masters"\n')
    store = [
        str(ETCD), f"--data-dir={folder / 'etcd'}", f"--listen-client-urls={client}", f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=default={peer}",
    ]  # fmt: skip
    server = [
        str(APISERVER), f"--etcd-servers={client}", "--bind-address=127.0.0.1", f"--secure-port={port}",
        f"--cert-dir={folder / 'serving'}", f"--token-auth-file={folder / 'tokens.csv'}", "--authorization-mode=RBAC",
        "--service-cluster-ip-range=10.96.0.0/16", "--service-account-issuer=https://tests.example",
        f"--service-account-key-file={folder / 'accounts.key'}", f"--service-account-signing-key-file={folder / 'accounts.key'}",
        # no controller makes the accounts of a namespace; and what some clusters switch on
        "--disable-admission-plugins=ServiceAccount", "--enable-admission-plugins=AlwaysPullImages",
    ]  # fmt: skip
    cluster = Cluster(port, folder)
    environ = {**os.environ, "ETCD_UNSUPPORTED_ARCH": os.uname().machine}

    def ready() -> bool:
        return cluster.kubectl("get", "--raw", "/readyz").returncode == 0

    with (
        Process.start("etcd", store, folder, environ, lambda: status_of(etcd, "/health") == 200),
        Process.start("kube-apiserver", server, folder, environ, ready),
    ):
        yield cluster


class Tls:
    """Certificate and key for servers at 127.0.0.1, as the lines of the docs make them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "tls"
        made = made_certificate(self.folder, f"DNS:{HOST},IP:127.0.0.1")
        self.certificate, self.key = str(self.folder / "tls.crt"), str(self.folder / "tls.key")
        self.ca = made["ca.crt"]

    @property
    def bundle(self) -> str:
        """The CA as `caBundle` has it."""
        return base64.b64encode(self.ca.encode()).decode()


def _webhooks(port: int, tls: Tls) -> list[Object]:
    """deploy/k8s/injector's configurations, with a server of this machine in place of the Service."""
    found = [one for one in built(K8S / "injector") if one["kind"].endswith("WebhookConfiguration")]
    assert len(found) == 2
    for one in found:
        for hook in one["webhooks"]:
            path = hook["clientConfig"].pop("service")["path"]
            hook["clientConfig"] = {"url": f"https://127.0.0.1:{port}{path}", "caBundle": tls.bundle}
    return found


@contextmanager
def _injector(folder: Path, tls: Tls, *more: str) -> Iterator[int]:
    port = free_port()
    folder.mkdir()
    command = [
        sys.executable, "-m", "sidecar.cli", "inject", "--listen", f"127.0.0.1:{port}", "--certificate", tls.certificate,
        "--key", tls.key, *more,
    ]  # fmt: skip

    def listens() -> bool:
        context = ssl.create_default_context(cadata=tls.ca)
        connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=2)
        try:
            connection.request("GET", "/livez")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    with Process.start("inject", command, folder, environ, listens):
        yield port


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    return Tls(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The API server, with a namespace that has the label and what deploy/k8s/authz puts into it."""
    with _apiserver(tmp_path_factory.mktemp("cluster")) as cluster:
        labels = {"authz-sidecar/inject": "enabled"}
        cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "labels": labels}})
        cluster.apply(*(one for one in built(K8S / "injector") if one["kind"] == "Namespace"))
        cluster.apply(*built(K8S / "authz"))
        yield cluster


@pytest.fixture(scope="module")
def cluster(server: Cluster, tls: Tls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The same, asking the webhook as the manifests say."""
    with _injector(tmp_path_factory.mktemp("hook") / "usual", tls) as port:
        server.apply(*_webhooks(port, tls))
        yield server


def names(made: Object) -> list[str]:
    return [one["name"] for one in made["spec"]["initContainers"]]


def sidecar_of(made: Object) -> Object:
    (found,) = [one for one in made["spec"]["initContainers"] if one["name"] == "authz-sidecar"]
    assert isinstance(found, dict)
    return found


def test_a_pod_is_injected_and_passes_the_second_look(cluster: Cluster) -> None:
    made = cluster.create(pod("plain"))
    assert names(made) == ["authz-cerbos", "authz-sidecar"]
    # AlwaysPullImages has been at work between the two
    assert {one["imagePullPolicy"] for one in made["spec"]["initContainers"]} == {"Always"}
    assert made["metadata"]["labels"]["authz-sidecar/present"] == "true"
    assert {one["name"]: one["value"] for one in sidecar_of(made)["env"]}["SIDECAR_UPSTREAM"] == "http://127.0.0.1:3000"


def test_an_app_on_port_8080_is_injected(cluster: Cluster) -> None:
    made = pod("at-8080", 8080)
    assert "move the sidecar's traffic port" in cluster.refusal("create", "-f", "-", text=json.dumps(made))
    made["metadata"]["annotations"] = {PORT: "8081"}
    made = cluster.create(made)
    assert made["metadata"]["labels"][PORT] == "8081"
    assert [port["containerPort"] for port in sidecar_of(made)["ports"]] == [8081, 9901]


def test_a_pod_that_cannot_be_protected_is_refused_with_the_reason(cluster: Cluster) -> None:
    said = cluster.refusal("create", "-f", "-", text=json.dumps(pod("host", hostNetwork=True)))
    assert "authorization sidecar: spec.hostNetwork is true" in said


def test_an_update_takes_nothing_of_ours_away(cluster: Cluster) -> None:
    cluster.create(pod("kept"))
    assert cluster.kubectl("label", "pod", "kept", "-n", "shop", "team=a").returncode == 0
    assert "an update may not change the labels" in cluster.refusal("label", "pod", "kept", "authz-sidecar/present-")
    assert "an update may not change" in cluster.refusal("label", "pod", "kept", f"{PORT}=3000")
    image = "authz-sidecar=registry.example.com/other:1"
    assert "an update may not change the sidecar's containers" in cluster.refusal("set", "image", "pod/kept", image)
    debug = ("debug", "kept", "--image=busybox", "--profile=general")
    assert "targetContainerName" in cluster.refusal(*debug, "--target=authz-sidecar")
    assert cluster.kubectl(*debug, "--target=shop", "-n", "shop").returncode == 0


class Mesh:
    """A webhook that does what Istio's does with native sidecars: its own containers first. Asked after ours."""

    def __init__(self, tls: Tls) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                review = json.loads(self.rfile.read(int(self.headers["content-length"])))
                there = review["request"]["object"]["spec"].get("initContainers", [])
                answer: Object = {"uid": review["request"]["uid"], "allowed": True}
                if not any(one["name"] == "istio-proxy" for one in there):
                    answer |= {"patchType": "JSONPatch", "patch": _encoded(_MESH)}
                body = json.dumps({**review, "request": None, "response": answer}).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls.certificate, tls.key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        self.configuration = copy.deepcopy(_webhooks(self._server.server_address[1], tls)[0])
        assert self.configuration["kind"] == "MutatingWebhookConfiguration"
        # the names are in the order in which the server asks
        self.configuration["metadata"] = {"name": "istio-sidecar-injector"}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


_MESH = [
    {"op": "add", "path": "/spec/initContainers/0", "value": {"name": "istio-init", "image": f"{ISTIO}:1.27.1"}},
    {
        "op": "add", "path": "/spec/initContainers/1",
        "value": {
            "name": "istio-proxy", "image": f"{ISTIO}:1.27.1", "restartPolicy": "Always", "ports": [{"containerPort": 15090}],
        },
    },
]  # fmt: skip


def _encoded(patch: list[Object]) -> str:
    return base64.b64encode(json.dumps(patch).encode()).decode()


def test_a_meshs_native_sidecar_is_let_in_where_the_operator_says_so(
    cluster: Cluster, tls: Tls, tmp_path: Path
) -> None:
    usual = _usual(cluster)
    mesh = Mesh(tls)
    try:
        cluster.apply(mesh.configuration)
        said = cluster.refusal("create", "-f", "-", text=json.dumps(pod("meshed")))
        assert "found istio-init, istio-proxy, expected authz-cerbos, authz-sidecar first" in said
        with _injector(tmp_path / "meshed", tls, "--before", ISTIO) as port:
            cluster.apply(*_webhooks(port, tls))
            made = cluster.create(pod("meshed"))
            assert names(made) == ["istio-init", "istio-proxy", "authz-cerbos", "authz-sidecar"]
    finally:
        cluster.kubectl("delete", "mutatingwebhookconfiguration", "istio-sidecar-injector")
        cluster.apply(*usual)
        mesh.close()


def _usual(cluster: Cluster) -> list[Object]:
    """The configurations as they are, to be put back."""
    done = cluster.kubectl(
        "get", "mutatingwebhookconfiguration,validatingwebhookconfiguration", "authz-injector", "-o", "json"
    )
    items: list[Object] = json.loads(done.stdout)["items"]
    for one in items:
        one["metadata"] = {"name": one["metadata"]["name"]}
    return items


@pytest.mark.parametrize("folder", ["app", "authz", "injector", "overlays/sidecar", "overlays/front-door"])
def test_the_server_takes_every_manifest(server: Cluster, folder: str) -> None:
    done = server.kubectl("apply", "--dry-run=server", "-f", "-", text=_list_of(tuple(built(K8S / folder))))
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
