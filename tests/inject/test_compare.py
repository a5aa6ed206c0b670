"""Pods as other webhooks leave them: what only adds is let in, anything else is refused with its field."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from sidecar.inject.compare import difference, is_of
from sidecar.inject.patch import Uninjectable, owned, patch
from sidecar.inject.server import template_of
from tests.inject.json_patch import applied
from tests.inject.pods import defaulted, pod

TEMPLATE = template_of({})
Change = Callable[[dict[str, Any]], object]


def changed(*changes: Change) -> dict[str, Any]:
    """An injected pod, with each of our containers changed."""
    before = pod()
    made = defaulted(applied(before, patch(before, TEMPLATE)))
    for container in made["spec"]["initContainers"]:
        for change in changes:
            change(container)
    return made


def env(name: str, value: str = "x") -> Change:
    return lambda one: one.setdefault("env", []).append({"name": name, "value": value})


def mount(path: str, name: str = "other") -> Change:
    return lambda one: one["volumeMounts"].append({"name": name, "mountPath": path, "readOnly": True})


def probes(one: dict[str, Any]) -> None:
    for name, word in (("startupProbe", "startupz"), ("readinessProbe", "readyz"), ("livenessProbe", "livez")):
        if "httpGet" in one.get(name, ()):
            one[name]["httpGet"] = {"path": f"/app-health/{one['name']}/{word}", "port": 15020, "scheme": "HTTP"}


LET_IN: dict[str, tuple[Change, ...]] = {
    "IRSA": (
        env("AWS_REGION"), env("AWS_ROLE_ARN"), env("AWS_WEB_IDENTITY_TOKEN_FILE"),
        mount("/var/run/secrets/eks.amazonaws.com/serviceaccount", "aws-iam-token"),
    ),
    "AlwaysPullImages": (lambda one: one.update(imagePullPolicy="Always"),),
    "VPA": (lambda one: one.update(resources={"requests": {"cpu": "15m"}}),),
    "Datadog": (env("DD_AGENT_HOST"), env("DD_ENTITY_ID"), mount("/var/run/datadog")),
    "OpenTelemetry": (env("OTEL_RESOURCE_ATTRIBUTES"), env("OTEL_NODE_IP")),
    "Istio's probes": (probes,),
}  # fmt: skip


@pytest.mark.parametrize("case", LET_IN)
def test_what_only_adds_is_let_in(case: str) -> None:
    assert patch(changed(*LET_IN[case]), TEMPLATE) == []


REFUSED: dict[str, tuple[Change, str]] = {
    **{
        name: (env(name), rf"spec\.initContainers\[0\]\.env\[\d\]: found '{name}', expected")
        for name in (
            "LD_PRELOAD", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONSTARTUP", "SSL_CERT_FILE", "SSLKEYLOGFILE", "HTTPS_PROXY",
            "https_proxy", "SIDECAR_MODE", "AWS_COGNITO_POOL_ID", "CERBOS_CONFIG", "PATH", "REQUESTS_CA_BUNDLE",
        )
    },
    **{
        path: (mount(path), r"volumeMounts\[\d\]: found .*expected no mount over")
        for path in (
            "/", "/etc", "/etc/ld.so.preload", "/opt/sidecar", "/run", "/var/run", "/var/run/authz", "/run/authz/x", "/tmp/x",
            "//usr/lib", "/srv/../usr", "relative", "/policies/more", "/cerbos",
        )
    },
    "our volume elsewhere": (mount("/srv/x", "authz-socket"), r"volumeMounts\[\d\]: found '/srv/x', expected it once"),
    "image": (lambda one: one.update(image="other:1"), r"initContainers\[0\]\.image: found other:1, expected ghcr.io/"),
    "command": (lambda one: one.update(command=["sh"]), r"\[0\]\.command: found \['sh'\], expected nothing"),
    "lifecycle": (lambda one: one.update(lifecycle={}), r"\[0\]\.lifecycle: found"),
    "user": (lambda one: one["securityContext"].update(runAsUser=0), r"securityContext\.runAsUser: found 0, expected 65532"),
    "restart": (lambda one: one.pop("restartPolicy"), r"\[0\]\.restartPolicy: found nothing, expected Always"),
    "pull": (lambda one: one.update(imagePullPolicy="Never"), r"\[0\]\.imagePullPolicy: found Never"),
    "device": (lambda one: one["resources"].update(claims=[{"name": "gpu"}]), r"\[0\]\.resources: found more"),
    "mount gone": (lambda one: one["volumeMounts"].pop(0), r"volumeMounts: found no '/run/authz'"),
    "probe": (lambda one: one["livenessProbe"].update(exec={"command": ["sh"]}), r"\[0\]\.livenessProbe\.exec"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_anything_else_is_refused_with_its_field(case: str) -> None:
    change, said = REFUSED[case]
    with pytest.raises(Uninjectable, match=said):
        patch(changed(change), TEMPLATE)


DIGEST = TEMPLATE.containers[0]["image"].partition("@")[2]
MIRRORED = [
    ("mirror.example.com/ghcr.io/cerbos/cerbos@" + DIGEST, (), True),
    ("evil.example.com/cerbos:0.55.0@sha256:" + "0" * 64, ("evil.example.com",), False),
    ("evil.example.com/cerbos:0.55.0", ("evil.example.com",), False),
    ("mirror.example.com:5000/hub/authorization-sidecar:0.2.0", ("mirror.example.com:5000/hub",), True),
    (
        "mirror.example.com/registry.example.com/authorization-sidecar:0.2.0",
        ("a.example.com", "mirror.example.com"),
        True,
    ),
    ("mirror.example.com/authorization-sidecar:0.2.0", (), False),
    ("mirror.example.com/authorization-sidecar:0.1.0", ("mirror.example.com",), False),
    ("mirror.example.com.evil/authorization-sidecar:0.2.0", ("mirror.example.com",), False),
    ("mirror.example.com/other/authorization-sidecar:0.2.0", ("mirror.example.com",), False),
]


@pytest.mark.parametrize(("image", "mirrors", "is_let_in"), MIRRORED)
def test_an_image_of_a_mirror_is_the_same(image: str, mirrors: tuple[str, ...], is_let_in: bool) -> None:
    made = changed()
    at = 1 if "authorization-sidecar" in image else 0
    made["spec"]["initContainers"][at]["image"] = image
    template = template_of({}, mirrors)
    if is_let_in:
        assert patch(made, template) == []
    else:
        with pytest.raises(Uninjectable, match=rf"initContainers\[{at}\]\.image: found {image}, expected"):
            patch(made, template)


ISTIO = "docker.io/istio/proxyv2"


def with_istio(image: str = f"{ISTIO}:1.27.1") -> dict[str, Any]:
    """As Istio 1.27 leaves a pod: its own containers first, and their probes in place of the kubelet's."""
    made = changed(probes)
    made["spec"]["initContainers"][:0] = [
        {"name": "istio-init", "image": image, "args": ["istio-iptables"]},
        {
            "name": "istio-proxy", "image": image, "restartPolicy": "Always", "args": ["proxy", "sidecar"],
            "ports": [{"name": "http-envoy-prom", "containerPort": 15090, "protocol": "TCP"}],
        },
    ]  # fmt: skip
    return made


@pytest.mark.parametrize(
    "image", [f"{ISTIO}:1.27.1", f"{ISTIO}@sha256:{'0' * 64}", f"{ISTIO}:1.27.1@sha256:{'0' * 64}"]
)
def test_a_meshs_native_sidecar_starts_before_ours_where_the_operator_says_so(image: str) -> None:
    made = with_istio(image)
    assert patch(made, template_of({}, before=("a.example/b", ISTIO))) == []
    for before in ((), ("docker.io/istio",), ("docker.io/istio/pilot",)):
        with pytest.raises(Uninjectable, match=r"found istio-init, istio-proxy, expected authz-cerbos, .*--before"):
            patch(made, template_of({}, before=before))


def test_nothing_else_starts_before_ours_and_the_message_counts_as_the_pod_does() -> None:
    template = template_of({}, before=(ISTIO,))
    made = with_istio()
    made["spec"]["initContainers"].insert(1, {"name": "istio-proxy", "image": "evil.example/docker.io/istio/proxyv2:1"})
    with pytest.raises(Uninjectable, match=r"spec\.initContainers\[1\]: found istio-proxy"):
        patch(made, template)
    made = with_istio()
    made["spec"]["initContainers"][3]["image"] = "other:1"
    with pytest.raises(Uninjectable, match=r"spec\.initContainers\[3\]\.image: found other:1"):
        patch(made, template)


def test_a_meshs_port_is_not_the_apps() -> None:
    proxy = {
        "name": "istio-proxy",
        "image": f"{ISTIO}:1",
        "ports": [{"containerPort": 15090}],
        "restartPolicy": "Always",
    }
    before = pod(initContainers=[proxy])
    made = applied(before, patch(before, template_of({}, before=(ISTIO,))))
    assert [one["name"] for one in made["spec"]["initContainers"]] == ["authz-cerbos", "authz-sidecar", "istio-proxy"]


def test_a_registrys_port_is_no_tag() -> None:
    assert is_of("a.example:5000/b/c", ["a.example:5000/b/c"])
    assert is_of("a.example:5000/b/c:1", ["a.example:5000/b/c"])
    assert not is_of("a.example:5000/b/c", ["a.example"])
    assert not is_of(None, ["a.example"])


def test_a_setting_is_there_once_and_its_value_is_not_told() -> None:
    with pytest.raises(Uninjectable, match="SIDECAR_UPSTREAM") as why:
        patch(changed(env("SIDECAR_UPSTREAM", "hunter2")), TEMPLATE)
    assert "hunter2" not in str(why.value)


def test_an_update_may_change_amounts_and_nothing_else() -> None:
    made = changed()
    smaller, other = copy.deepcopy(made), copy.deepcopy(made)
    smaller["spec"]["initContainers"][0]["resources"] = {"requests": {"cpu": "15m"}}
    other["spec"]["initContainers"][0]["image"] = "other:1"
    assert owned(smaller, TEMPLATE) == owned(made, TEMPLATE) != owned(other, TEMPLATE)


def test_a_difference_is_anything_but_a_default() -> None:
    assert difference({"a": 1}, {"a": 1, "terminationMessagePolicy": "File"}, "x") is None
    for wanted, found in (
        ({"a": 1}, {"a": 1, "b": 2}),
        ({"a": 1}, {"a": True}),
        ({"a": [1]}, {"a": [1, 2]}),
        ({"a": {}}, {"a": None}),
        ([{}], {}),
    ):
        assert difference(wanted, found, "x")


def test_a_container_that_another_webhook_adds_does_not_move_the_upstream() -> None:
    made = changed()
    proxy = {"name": "istio-proxy", "image": "i", "ports": [{"name": "http-envoy-prom", "containerPort": 15090}]}
    made["spec"]["containers"].append(proxy)
    assert patch(made, TEMPLATE) == []


def test_a_changed_setting_is_refused_without_its_value() -> None:
    def other(one: dict[str, Any]) -> None:
        for variable in one.get("env", ()):
            variable["value"] = "hunter2"

    made = changed(other)
    with pytest.raises(Uninjectable, match=r"env\[\d\]\.value: found another value") as why:
        patch(made, TEMPLATE)
    assert "hunter2" not in str(why.value)
