"""Pods as other webhooks leave them: what only adds is let in, anything else is refused with its field."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from sidecar.inject.compare import difference
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
