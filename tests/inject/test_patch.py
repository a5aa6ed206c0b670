"""What is put into a pod, what makes it one that cannot be protected, and that nothing walks around."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from sidecar.inject.patch import PORT, InjectionTemplate, OptedOut, Uninjectable, owned, patch
from sidecar.inject.server import template_of
from tests.deploy.engine import PINS
from tests.inject.json_patch import applied
from tests.inject.pods import defaulted, pod

TEMPLATE = template_of({})
NAMES = ["authz-cerbos", "authz-sidecar"]


def injected(before: dict[str, Any], template: InjectionTemplate = TEMPLATE) -> dict[str, Any]:
    made = applied(before, patch(before, template))
    assert isinstance(made, dict)
    return made


def container(made: dict[str, Any], name: str) -> dict[str, Any]:
    found = [one for one in made["spec"]["initContainers"] if one["name"] == name]
    assert len(found) == 1
    assert isinstance(found[0], dict)
    return found[0]


def test_the_sidecars_come_in_and_nothing_else_changes() -> None:
    before = pod()
    made = injected(before)
    assert [one["name"] for one in made["spec"]["initContainers"]] == NAMES
    assert all(one["restartPolicy"] == "Always" and "startupProbe" in one for one in made["spec"]["initContainers"])
    assert made["metadata"]["labels"]["authz-sidecar/present"] == "true"
    volumes = [one["name"] for one in made["spec"]["volumes"]]
    assert volumes == ["kube-api-access-x7k2p", "authz-socket", "authz-tmp", "authz-routes", "authz-policies"]
    # taken out again, the pod is as before
    del made["spec"]["initContainers"]
    del made["metadata"]["labels"]["authz-sidecar/present"]
    made["spec"]["volumes"] = made["spec"]["volumes"][:1]
    assert made == before


def test_a_pod_with_nothing_gets_its_lists() -> None:
    bare = {"metadata": {}, "spec": {"containers": [{"name": "a", "image": "i", "ports": [{"containerPort": 80}]}]}}
    made = injected(bare)
    assert made["metadata"]["labels"] == {"authz-sidecar/present": "true"}
    assert len(made["spec"]["volumes"]) == 4
    assert len(made["spec"]["initContainers"]) == 2


@pytest.mark.parametrize("later", [lambda made: made, defaulted], ids=["as patched", "with defaults"])
def test_a_pod_that_has_it_is_left_alone(later: Any) -> None:
    assert patch(later(injected(pod())), TEMPLATE) == []


def test_init_containers_of_its_own_come_after() -> None:
    own = {"name": "migrate", "image": "registry.example.com/shop:4.2"}
    made = injected(pod(initContainers=[own]))
    assert [one["name"] for one in made["spec"]["initContainers"]] == [*NAMES, "migrate"]
    assert patch(made, TEMPLATE) == []


def test_images_are_those_of_the_operator() -> None:
    made = injected(pod(), template_of({"authz-sidecar": "mirror/sidecar@sha256:1"}))
    assert container(made, "authz-sidecar")["image"] == "mirror/sidecar@sha256:1"
    assert container(made, "authz-cerbos")["image"] == PINS["CERBOS"]


def test_annotations_choose_port_and_files() -> None:
    before = pod()
    before["metadata"]["annotations"] = {
        "authz-sidecar/upstream-port": "5000", "authz-sidecar/routes": "shop-routes", "authz-sidecar/policies": "shop-policies",
        "authz-sidecar/settings": "shop-settings", "authz-sidecar/secrets": "shop-secrets", "example.com/other": "x",
    }  # fmt: skip
    made = injected(before)
    sidecar = container(made, "authz-sidecar")
    assert {"name": "SIDECAR_UPSTREAM", "value": "http://127.0.0.1:5000"} in sidecar["env"]
    assert [next(iter(one.values()))["name"] for one in sidecar["envFrom"]] == ["shop-settings", "shop-secrets"]
    maps = {one["name"]: one["configMap"]["name"] for one in made["spec"]["volumes"] if "configMap" in one}
    assert maps == {"authz-routes": "shop-routes", "authz-policies": "shop-policies"}
    assert patch(made, TEMPLATE) == []
    assert template_of({}) == TEMPLATE  # what one pod wants does not stay for the next


def test_the_only_port_is_the_upstream() -> None:
    assert {"name": "SIDECAR_UPSTREAM", "value": "http://127.0.0.1:3000"} in container(
        injected(pod()), "authz-sidecar"
    )["env"]
    more = pod()
    more["spec"]["containers"][0]["ports"].append({"containerPort": 53, "protocol": "UDP"})
    assert {"name": "SIDECAR_UPSTREAM", "value": "http://127.0.0.1:3000"} in container(injected(more), "authz-sidecar")[
        "env"
    ]


def _at_8080(port: str = "8081") -> dict[str, Any]:
    made = pod()
    made["spec"]["containers"][0]["ports"] = [{"containerPort": 8080}]
    made["metadata"]["annotations"] = {PORT: port}
    return made


def test_an_app_on_the_sidecars_port_moves_it() -> None:
    made = injected(_at_8080())
    sidecar = container(made, "authz-sidecar")
    for name, value in (("SIDECAR_LISTEN", "0.0.0.0:8081"), ("SIDECAR_UPSTREAM", "http://127.0.0.1:8080")):
        assert {"name": name, "value": value} in sidecar["env"]
    ports = {port["name"]: port["containerPort"] for port in sidecar["ports"]}
    assert ports == {"authz": 8081, "authz-admin": 9901}
    # a NetworkPolicy finds it by this label, and the one for port 8080 does not
    assert made["metadata"]["labels"][PORT] == "8081"
    assert patch(defaulted(made), TEMPLATE) == []
    assert template_of({}) == TEMPLATE
    unlabelled = copy.deepcopy(made)
    del unlabelled["metadata"]["labels"][PORT]
    assert owned(made, TEMPLATE) != owned(unlabelled, TEMPLATE)
    assert {one["path"] for one in patch(unlabelled, TEMPLATE)} == {"/metadata/labels/authz-sidecar~1port"}


def test_the_default_port_needs_no_label() -> None:
    made = pod()
    made["metadata"]["annotations"] = {PORT: "8080"}
    assert PORT not in injected(made)["metadata"]["labels"]


def _labelled(port: str) -> dict[str, Any]:
    made = pod()
    made["metadata"]["labels"][PORT] = port
    return made


def _spec(**spec: Any) -> dict[str, Any]:
    return pod(**spec)


def _container(**fields: Any) -> dict[str, Any]:
    made = pod()
    made["spec"]["containers"].append({"name": "other", "image": "i", **fields})
    return made


def _annotated(**annotations: str) -> dict[str, Any]:
    made = pod()
    made["metadata"]["annotations"] = {
        f"authz-sidecar/{name.replace('_', '-')}": text for name, text in annotations.items()
    }
    return made


def _tampered(change: Any) -> dict[str, Any]:
    made = injected(pod())
    change(made["spec"])
    return made


def _shadow(spec: dict[str, Any]) -> None:
    spec["initContainers"][1]["env"].append({"name": "SIDECAR_MODE", "value": "shadow"})


def _other_image(spec: dict[str, Any]) -> None:
    spec["initContainers"][1]["image"] = "registry.example.com/lets-all-through:1"


def _only_one(spec: dict[str, Any]) -> None:
    del spec["initContainers"][0]


def _not_first(spec: dict[str, Any]) -> None:
    spec["initContainers"].insert(0, {"name": "first", "image": "i", "restartPolicy": "Always"})


def _other_volume(spec: dict[str, Any]) -> None:
    spec["volumes"][3]["configMap"]["name"] = "routes-that-are-public"


def _persistent_socket(spec: dict[str, Any]) -> None:
    spec["volumes"][1] = {"name": "authz-socket", "hostPath": {"path": "/run/somebody"}}


SOCKET = {"name": "authz-socket", "mountPath": "/run/authz"}
IMPOSSIBLE = {
    "the node's network": (_spec(hostNetwork=True), "hostNetwork"),
    "the node's processes": (_spec(hostPID=True), "hostPID"),
    "one process space": (_spec(shareProcessNamespace=True), "shareProcessNamespace"),
    "a port of the node": (_container(ports=[{"containerPort": 3001, "hostPort": 80}]), "hostPort"),
    "the sidecar's port": (_container(ports=[{"containerPort": 8080}]), "8080, which is the sidecar's: move .* authz-sidecar/port"),
    "the port that it is moved to": (_at_8080("3000") | {"spec": pod()["spec"]}, "the port 3000, which is the sidecar's"),
    "moved to the admin port": (_at_8080("9901"), "authz-sidecar/port: found '9901', expected a port"),
    "moved to a port of root's": (_at_8080("80"), "authz-sidecar/port: found '80', expected a port from 1024 on"),
    "moved to no port": (_at_8080("http"), "authz-sidecar/port: found 'http', expected a port"),
    "moved beyond all": (_at_8080("65536"), "authz-sidecar/port: found '65536', expected a port"),
    "a label that opens another port": (_labelled("3000"), "the label authz-sidecar/port: found '3000'"),
    "a port with the sidecar's name": (_container(ports=[{"name": "authz", "containerPort": 3001}]), "names a port authz"),
    "a port with the admin port's name": (_spec(initContainers=[{"name": "e", "ports": [{"name": "authz-admin", "containerPort": 1}]}]), "names a port"),
    "the admin port": (_container(ports=[{"containerPort": 9901}]), "9901"),
    "Cerbos' socket": (_container(volumeMounts=[SOCKET]), "mounts a volume"),
    "Cerbos' socket, early": (_spec(initContainers=[{"name": "e", "volumeMounts": [SOCKET]}]), "mounts a volume"),
    "a container of that name": (_spec(containers=[{"name": "authz-sidecar", "image": "mine"}]), "the name authz-sidecar"),
    "an init container of that name": (_spec(initContainers=[{"name": "authz-sidecar", "image": "mine"}]), "another form"),
    "shadow mode": (_tampered(_shadow), "another form"),
    "another image": (_tampered(_other_image), "another form"),
    "half of it": (_tampered(_only_one), "another form"),
    "another before it": (_tampered(_not_first), "place"),
    "other routes": (_tampered(_other_volume), "authz-routes"),
    "a socket from outside": (_tampered(_persistent_socket), "authz-socket"),
    "two ports": (_container(ports=[{"containerPort": 3001}]), "2 ports"),
    "no port": (_spec(containers=[{"name": "worker", "image": "i"}]), "0 ports"),
    "a port that is none": (_annotated(upstream_port="http"), "expected a port"),
    "a port beyond all": (_annotated(upstream_port="65536"), "expected a port"),
    "itself as upstream": (_annotated(upstream_port="8080"), "own port"),
    "a name that is none": (_annotated(routes="../etc"), "expected the name"),
    "an unknown annotation": (_annotated(upstream="3000"), "unknown"),
}  # fmt: skip


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_a_pod_that_cannot_be_protected_is_refused(case: str) -> None:
    made, said = IMPOSSIBLE[case]
    with pytest.raises(Uninjectable, match=said) as why:
        patch(made, TEMPLATE)
    assert not isinstance(why.value, OptedOut)


def test_a_pod_that_opts_out_is_told_apart() -> None:
    made = pod()
    made["metadata"]["labels"]["authz-sidecar/inject"] = "disabled"
    with pytest.raises(OptedOut, match="disabled"):
        patch(made, TEMPLATE)


@pytest.mark.parametrize(
    "made",
    [
        {}, {"metadata": {}}, {"metadata": [], "spec": {}}, {"metadata": {"labels": ["a"]}, "spec": {}},
        {"metadata": {"labels": {"a": 1}}, "spec": {}}, {"metadata": {}, "spec": {"containers": {"a": 1}}},
        {"metadata": {}, "spec": {"containers": [1]}}, {"metadata": {}, "spec": {"containers": [], "initContainers": "x"}},
        {"metadata": {}, "spec": {"containers": [{"ports": 80}]}},
    ],
)  # fmt: skip
def test_what_is_no_pod_is_a_value_error(made: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="found"):
        patch(made, TEMPLATE)


def test_an_update_is_compared_by_what_is_ours() -> None:
    made = injected(pod())
    other = copy.deepcopy(made)
    other["metadata"]["labels"]["more"] = "x"
    other["spec"]["containers"][0]["image"] = "registry.example.com/shop:4.3"
    assert owned(made, TEMPLATE) == owned(other, TEMPLATE)
    for change in (_shadow, _other_image, _other_volume):
        changed = copy.deepcopy(made)
        change(changed["spec"])
        assert owned(made, TEMPLATE) != owned(changed, TEMPLATE)
    unlabelled = copy.deepcopy(made)
    del unlabelled["metadata"]["labels"]["authz-sidecar/present"]
    assert owned(made, TEMPLATE) != owned(unlabelled, TEMPLATE)
    debugged = copy.deepcopy(made)
    debugged["spec"]["ephemeralContainers"] = [{"name": "debug", "volumeMounts": [SOCKET]}]
    assert owned(made, TEMPLATE) != owned(debugged, TEMPLATE)
