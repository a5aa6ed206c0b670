"""The pod of deploy/k8s/overlays/sidecar under podman: traffic, a lost Cerbos, changed ConfigMaps, the end in order.

`tests/deploy/k8s/podman` moves the two native sidecars into `containers`, and test_k8s_manifests holds that it does
nothing else. What a kubelet does beyond podman 4.3 is done here, from what the manifests say: probes, preStop, the order
of the end, restarts of a container.
"""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.deploy.engine import Engine
from tests.deploy.kube import Object, built, named, pod_of
from tests.deploy.played import APP_PORT, POD, PORT, Load, Played, played, token
from tests.deploy.test_k8s_manifests import PODMAN, SIDECAR
from tests.stack import wait_for

ROUTES = """\
version: 1
principal: {id: username, roles: "cognito:groups"}
routes:
  - {path: "/contacts/{id}", resource: contact, id: "{path.id}", actions: {GET: read}}
  - {path: /contacts/, access: authenticated}
"""
BIG = 24 * 1024 * 1024


@pytest.fixture(scope="module")
def pod(engine: Engine, manifests_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    objects = built(PODMAN)
    maps = [one for one in objects if one["kind"] == "ConfigMap"]
    made = pod_of(named(objects, "Deployment", "app"), POD)
    with played(engine, made, maps, tmp_path_factory.mktemp("pod")) as running:
        print(f"pod ready after {running.started:.2f} s")
        yield running


def test_traffic_goes_through_the_sidecar(pod: Played) -> None:
    answer = pod.get("/contacts/ada", token())
    assert answer.status == 200
    assert b"Ada Lovelace" in answer.body
    assert pod.get("/contacts/ada").status == 401
    assert pod.get("/contacts/ada", token(groups=("guest",))).code == "denied_by_policy"
    assert pod.get("/", token()).code == "route_unmapped"


def _ask(connection: http.client.HTTPConnection) -> int:
    connection.request("GET", "/contacts/ada")
    return connection.getresponse().status


def test_nobody_walks_around_the_sidecar(pod: Played) -> None:
    """From outside the pod: its own address, and this machine's, where podman publishes every containerPort."""
    inside = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:3000/contacts/ada').status)"
    assert (
        pod.engine.call("exec", pod.container("app"), "/usr/local/bin/python3", "-c", inside).stdout == "200\n"
    )  # the app is there
    for host in (pod.address, "127.0.0.1"):
        with (
            closing(http.client.HTTPConnection(host, APP_PORT, timeout=3)) as connection,
            pytest.raises(ConnectionError),
        ):
            _ask(connection)
    listening = "import socket\nfor p in (3592, 3593): print(socket.socket().connect_ex(('127.0.0.1', p)) != 0)"
    assert (
        pod.engine.call("exec", pod.container("app"), "/usr/local/bin/python3", "-c", listening).stdout
        == "True\nTrue\n"
    )
    assert pod.engine.call("exec", pod.container("app"), "/bin/ls", "/run/authz", check=False).returncode != 0


def test_the_containers_are_locked_down(pod: Played) -> None:
    for name in ("app", "authz-sidecar"):
        written = pod.engine.call("exec", pod.container(name), "/bin/touch", "/written", check=False)
        assert "Read-only file system" in written.stderr
        status = pod.engine.call("exec", pod.container(name), "/bin/cat", "/proc/self/status").stdout
        assert "CapEff:\t0000000000000000" in status
        assert "NoNewPrivs:\t1" in status
        assert "Uid:\t0" not in status


def test_without_cerbos_nothing_passes_and_with_it_all_is_as_before(pod: Played) -> None:
    bearer = token()
    began = time.monotonic()
    with Load(pod, "/contacts/ada", bearer) as load:
        wait_for(lambda: len(load.got) > 10)
        pod.engine.call("kill", "--signal=KILL", pod.container("authz-cerbos"))
        wait_for(lambda: 503 in load.got)
        wait_for(lambda: not pod.ready())
        if not pod.state("authz-cerbos")["Running"]:
            pod.engine.call("start", pod.container("authz-cerbos"))  # as the kubelet does: restartPolicy is Always
        wait_for(pod.ready, 20)
        # the breaker asks again every 2 s
        wait_for(lambda: load.got[-1] == 200, 20)
    print(f"{load.got.count(503)} of {len(load.got)} refused, away and back in {time.monotonic() - began:.2f} s")
    assert set(load.got) == {200, 503}
    assert pod.get("/contacts/ada", bearer).status == 200


def test_changed_routes_and_policies_come_into_force_in_place(pod: Played) -> None:
    bearer = token()
    before = {name: pod.state(name)["Pid"] for name in ("authz-sidecar", "authz-cerbos")}
    files = {one["metadata"]["name"]: one["data"] for one in built(PODMAN) if one["kind"] == "ConfigMap"}
    assert pod.get("/contacts/", bearer).code == "route_unmapped"
    with Load(pod, "/contacts/ada", bearer) as load:
        began = time.monotonic()
        pod.put("authz-routes", {"routes.yaml": "broken: ["})
        wait_for(lambda: "routes not reloaded" in pod.logs("authz-sidecar"))
        pod.put("authz-routes", {"routes.yaml": ROUTES})
        wait_for(lambda: pod.get("/contacts/", bearer).status == 200)
        routes_after = time.monotonic() - began
        strict = files["authz-policies"]["contact.yaml"].replace("roles: [user]", "roles: [clerk]")
        assert pod.get("/contacts/ada", token(groups=("clerk",))).status == 403
    assert set(load.got) == {200}
    began = time.monotonic()
    pod.put("authz-policies", {**files["authz-policies"], "contact.yaml": strict})
    wait_for(lambda: pod.get("/contacts/ada", bearer).status == 403)
    assert pod.get("/contacts/ada", token(groups=("clerk",))).status == 200
    print(f"routes (one broken, one good) after {routes_after:.2f} s, policies after {time.monotonic() - began:.2f} s")
    pod.put("authz-policies", files["authz-policies"])
    pod.put("authz-routes", files["authz-routes"])
    wait_for(lambda: pod.get("/contacts/ada", bearer).status == 200)
    wait_for(lambda: pod.get("/contacts/", bearer).status != 200)
    assert {name: pod.state(name)["Pid"] for name in before} == before  # nothing was restarted


def _download(pod: Played, bearer: str, got: list[int], begun: threading.Event) -> None:
    """A client that takes a big answer slowly: some 4 MiB a second."""
    size = 0
    with closing(http.client.HTTPConnection(pod.address, PORT, timeout=30)) as connection:
        connection.request("GET", "/contacts/big", headers={"authorization": f"Bearer {bearer}"})
        answer = connection.getresponse()
        while piece := answer.read(1024 * 1024):
            begun.set()
            size += len(piece)
            time.sleep(0.25)
    got.append(size)


def test_it_ends_in_order_and_no_request_fails(pod: Played) -> None:
    plain: Object = named(built(SIDECAR), "Deployment", "app")["spec"]["template"]["spec"]
    # as the kubelet has it: containers first, then native sidecars, the last one started first
    order = [one["name"] for one in plain["containers"]] + [one["name"] for one in reversed(plain["initContainers"])]
    assert order == ["app", "authz-sidecar", "authz-cerbos"]
    wait = plain["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    (pod.volume("app-contacts") / "big").write_bytes(bytes(BIG))
    bearer, got, begun = token(), list[int](), threading.Event()
    slow = threading.Thread(target=_download, args=(pod, bearer, got, begun))
    with Load(pod, "/contacts/ada", bearer) as load:
        slow.start()
        assert begun.wait(10)
        began = time.monotonic()
        hook = threading.Thread(target=pod.engine.call, args=("exec", pod.container("app"), *wait))
        hook.start()
        wait_for(lambda: time.monotonic() - began > 2)  # what the endpoint's removal takes to reach every node
        assert pod.ready()
    hook.join()
    took = {name: pod.end(name, plain["terminationGracePeriodSeconds"]) for name in order}
    slow.join()
    print(f"{len(load.got)} requests, preStop {wait[1]} s, then {', '.join(f'{k} {v:.2f} s' for k, v in took.items())}")
    assert set(load.got) == {200}
    assert got == [BIG]
    states = [pod.state(name) for name in order]
    ends = [state["FinishedAt"] for state in states]
    assert ends == sorted(ends)
    assert [state["ExitCode"] for state in states] == [0, 0, 0]
    assert "Traceback" not in pod.logs("authz-sidecar")
