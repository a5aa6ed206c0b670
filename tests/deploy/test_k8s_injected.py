"""The app's own pod, with a label and through the webhook: the patched pod runs under podman."""

from __future__ import annotations

import base64
import json
from pathlib import Path as File

from sidecar.inject.review import AdmissionPolicy, Path, judge
from sidecar.inject.server import template_of
from tests.deploy.engine import Engine
from tests.deploy.kube import K8S, Object, built, named, pod_of, violations
from tests.deploy.played import POD, played, token
from tests.inject.json_patch import applied
from tests.inject.pods import review


def injected() -> Object:
    """The pod of deploy/k8s/app with the label, as the webhook's answer makes it."""
    before = pod_of(named(built(K8S / "app"), "Deployment", "app"), POD)
    before["metadata"]["labels"]["authz-sidecar/inject"] = "enabled"
    body = json.dumps(review(before)).encode()
    response = judge(Path.INJECT, body, template_of({}), AdmissionPolicy()).answer["response"]
    assert response["allowed"] is True
    made = applied(before, json.loads(base64.b64decode(response["patch"])))
    assert isinstance(made, dict)
    return made


def test_the_injected_pod_fits_the_restricted_profile() -> None:
    assert violations(injected()["spec"]) == []


def test_the_injected_pod_runs_and_is_protected(engine: Engine, manifests_image: str, tmp_path: File) -> None:
    made = injected()
    # as tests/deploy/k8s/podman does: podman 4.3 would wait for the end of a native sidecar
    made["spec"]["containers"] += made["spec"].pop("initContainers")
    objects = [*built(K8S / "app"), *built(K8S / "authz")]
    maps = [one for one in objects if one["kind"] == "ConfigMap"]
    with played(engine, made, maps, tmp_path) as pod:
        assert pod.get("/contacts/ada", token()).status == 200
        assert pod.get("/contacts/ada").status == 401
        assert pod.get("/contacts/ada", token(groups=("guest",))).code == "denied_by_policy"
