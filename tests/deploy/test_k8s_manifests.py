"""What deploy/k8s builds: valid for several Kubernetes versions, restricted, and without a way around the sidecar."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate.utils
import pytest
import yaml

from sidecar.cli import parser
from sidecar.config import units
from sidecar.config.routes.file import read_routes
from sidecar.config.settings import read_settings
from sidecar.inject.patch import ANNOTATIONS, PORT, patch
from sidecar.inject.server import template_of
from sidecar.pdp.compiling import compile_policies
from tests.deploy.kube import K8S, Object, built, lets_in, named, pod_of, pod_specs, violations
from tests.inject.json_patch import applied
from tests.stack import ROOT, binary

FOLDERS = sorted(path.parent for path in K8S.rglob("kustomization.yaml"))
PODMAN = ROOT / "tests/deploy/k8s/podman"
# the first with native sidecars by default, and the newest that the validator knows
VERSIONS = ("1.29.0", "1.33.0", "1.37.0")
CUSTOM = ("monitoring.coreos.com/v1", "cert-manager.io/v1")
SIDECAR, FRONT_DOOR = K8S / "overlays/sidecar", K8S / "overlays/front-door"


@pytest.fixture(scope="module", autouse=True)
def schemas_read_once() -> Iterator[None]:
    """Read each of Kubernetes' schemas once, and not for each object."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kubernetes_validate.utils, "schema_contents", cache(kubernetes_validate.utils.schema_contents))
        yield


def name_of(folder: Path) -> str:
    return str(folder.relative_to(K8S))


def test_every_folder_is_built() -> None:
    assert [name_of(folder) for folder in FOLDERS] == [
        "app", "authz", "injector", "injector-cert-manager", "monitoring", "overlays/front-door", "overlays/sidecar",
    ]  # fmt: skip


@pytest.mark.parametrize("folder", FOLDERS, ids=name_of)
def test_every_object_is_valid(folder: Path) -> None:
    objects = built(folder)
    assert objects
    for one in objects:
        if one["apiVersion"] not in CUSTOM:
            for version in VERSIONS:
                kubernetes_validate.validate(one, version, strict=True)


def test_the_validator_sees_a_fault() -> None:
    deployment = named(built(SIDECAR), "Deployment", "app")
    deployment["spec"]["template"]["spec"]["initContainers"][0]["restartPolicies"] = "Always"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, VERSIONS[0], strict=True)


@pytest.mark.parametrize("folder", FOLDERS, ids=name_of)
def test_every_pod_fits_the_restricted_profile(folder: Path) -> None:
    for name, spec in pod_specs(built(folder)):
        assert violations(spec) == [], name
        assert spec["automountServiceAccountToken"] is False, name
        for container in (*spec.get("initContainers", ()), *spec["containers"]):
            assert container["securityContext"]["readOnlyRootFilesystem"] is True, name
            assert container["resources"]["limits"]["memory"], name
            assert container["resources"]["requests"]["cpu"], name


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda spec: spec.update(hostNetwork=True), "hostNetwork"),
        (lambda spec: spec["volumes"].append({"name": "h", "hostPath": {"path": "/"}}), "volume h"),
        (lambda spec: spec["containers"][0]["securityContext"].pop("allowPrivilegeEscalation"), "app: allowPrivilegeEscalation"),
        (lambda spec: spec["containers"][0]["securityContext"].update(capabilities={}), "app: capabilities.drop"),
        (lambda spec: spec.pop("securityContext"), "app: runAsNonRoot"),
        (lambda spec: spec["initContainers"][0]["securityContext"].update(runAsUser=0), "authz-cerbos: runAsUser"),
        (lambda spec: spec["containers"][0]["ports"][0].update(hostPort=80), "app: hostPort"),
    ],
)  # fmt: skip
def test_a_breach_of_the_profile_is_seen(change: Any, said: str) -> None:
    _, spec = next(pod_specs(built(SIDECAR)))
    change(spec)
    assert said in violations(spec)


# --- nobody walks around the sidecar ---


def _labels(objects: list[Object], deployment: str) -> dict[str, str]:
    labels = named(objects, "Deployment", deployment)["spec"]["template"]["metadata"]["labels"]
    assert isinstance(labels, dict)
    return labels


def _policies(objects: list[Object]) -> list[Object]:
    return [one for one in objects if one["kind"] == "NetworkPolicy"]


@pytest.mark.parametrize("port", [1, 80, 3000, 3592, 3593, 8080, 9901, 65535])
@pytest.mark.parametrize("namespace", ["default", "other", "monitoring"])
def test_a_pod_with_the_sidecar_takes_traffic_at_its_port_alone(port: int, namespace: str) -> None:
    objects = built(SIDECAR)
    may = lets_in(_policies(objects), _labels(objects, "app"), port, namespace, {"app": "anybody"})
    assert may is (port == 8080 or (port == 9901 and namespace == "monitoring"))


def test_the_app_in_the_pod_listens_on_loopback_and_the_service_leads_to_the_sidecar() -> None:
    objects = built(SIDECAR)
    spec = named(objects, "Deployment", "app")["spec"]["template"]["spec"]
    assert {"name": "BIND", "value": "127.0.0.1"} in spec["containers"][0]["env"]
    named_port = [port for port in spec["initContainers"][1]["ports"] if port["name"] == "authz"]
    assert named_port == [{"name": "authz", "containerPort": 8080}]
    assert named(objects, "Service", "app")["spec"]["ports"] == [{"name": "http", "port": 80, "targetPort": "authz"}]


@pytest.mark.parametrize(
    ("deployment", "port", "peer", "may"),
    [
        ("app", 3000, "front-door", True), ("app", 3000, "other", False), ("app", 80, "front-door", False),
        ("redis", 6379, "front-door", True), ("redis", 6379, "app", False),
        ("front-door", 8080, "other", True), ("front-door", 9901, "other", False),
    ],
)  # fmt: skip
def test_behind_the_front_door_only_it_gets_through(deployment: str, port: int, peer: str, may: bool) -> None:
    objects = built(FRONT_DOOR)
    peers = {"app.kubernetes.io/name": peer}
    assert lets_in(_policies(objects), _labels(objects, deployment), port, "default", peers) is may
    assert not lets_in(
        _policies(objects), _labels(objects, "app"), port, "other", {"app.kubernetes.io/name": "front-door"}
    )


# --- the pod ---


def _native(spec: Object) -> list[str]:
    return [one["name"] for one in spec.get("initContainers", ()) if one.get("restartPolicy") == "Always"]


def test_cerbos_and_the_sidecar_are_native_sidecars() -> None:
    spec = named(built(SIDECAR), "Deployment", "app")["spec"]["template"]["spec"]
    assert _native(spec) == ["authz-cerbos", "authz-sidecar"]  # started in this order, ended in the other
    assert [one["name"] for one in spec["containers"]] == ["app"]
    assert all("startupProbe" in one for one in spec["initContainers"])
    front = named(built(FRONT_DOOR), "Deployment", "front-door")["spec"]["template"]["spec"]
    assert _native(front) == ["authz-cerbos"]
    assert [one["name"] for one in front["containers"]] == ["authz-sidecar"]


def test_who_may_write_to_the_socket() -> None:
    """Who has Cerbos' socket can decide: the two have it, and no container besides."""
    for folder, deployment in ((SIDECAR, "app"), (FRONT_DOOR, "front-door")):
        spec = named(built(folder), "Deployment", deployment)["spec"]["template"]["spec"]
        having = {
            one["name"]
            for one in (*spec["initContainers"], *spec["containers"])
            for mount in one["volumeMounts"]
            if mount["name"] == "authz-socket"
        }
        assert having == {"authz-cerbos", "authz-sidecar"}


def test_files_come_as_folders() -> None:
    """A `subPath` mount never changes (Kubernetes, "ConfigMaps"), and neither does one whose ConfigMap is renamed."""
    for folder in (SIDECAR, FRONT_DOOR):
        objects = built(folder)
        for _, spec in pod_specs(objects):
            for container in (*spec.get("initContainers", ()), *spec["containers"]):
                assert not any("subPath" in mount for mount in container["volumeMounts"])
        assert {one["metadata"]["name"] for one in objects if one["kind"] == "ConfigMap"} == {
            "app-contacts", "authz-policies", "authz-routes", "authz-settings",
        }  # fmt: skip


def test_time_is_left_to_end_in_order() -> None:
    for folder, deployment, draining in ((SIDECAR, "app", "app"), (FRONT_DOOR, "front-door", "authz-sidecar")):
        spec = named(built(folder), "Deployment", deployment)["spec"]["template"]["spec"]
        containers = {one["name"]: one for one in (*spec["initContainers"], *spec["containers"])}
        waits = int(containers[draining]["lifecycle"]["preStop"]["exec"]["command"][1])
        settings = {one["name"]: one.get("value", "") for one in containers["authz-sidecar"]["env"]}
        drains = int(settings["SIDECAR_SHUTDOWN_TIMEOUT"].removesuffix("s"))
        assert waits + drains < spec["terminationGracePeriodSeconds"]


def test_held_bodies_never_fill_the_volume_that_they_are_in() -> None:
    """A pod that fills more of an emptyDir than its sizeLimit is evicted (Kubernetes, "Local ephemeral storage"), and
    so is one whose container takes more memory than its limit."""
    for folder, deployment in ((SIDECAR, "app"), (FRONT_DOOR, "front-door")):
        spec = named(built(folder), "Deployment", deployment)["spec"]["template"]["spec"]
        (container,) = [
            one for one in (*spec["initContainers"], *spec["containers"]) if one["name"] == "authz-sidecar"
        ]  # fmt: skip
        (volume,) = [mount["name"] for mount in container["volumeMounts"] if mount["mountPath"] == "/tmp"]
        (size,) = [one["emptyDir"]["sizeLimit"] for one in spec["volumes"] if one["name"] == volume]
        environ = {one["name"]: one["value"] for one in container["env"] if one["name"].startswith("SIDECAR_HELD")}
        settings = read_settings({"SIDECAR_UPSTREAM": "http://app", **environ}, {})
        assert settings.held_disk < units.size(f"{size}B")
        assert settings.held_memory <= units.size(f"{container['resources']['limits']['memory']}B") / 2


def test_the_settings_are_settings() -> None:
    for folder, deployment in ((SIDECAR, "app"), (FRONT_DOOR, "front-door")):
        objects = built(folder)
        spec = named(objects, "Deployment", deployment)["spec"]["template"]["spec"]
        container = next(
            one for one in (*spec["initContainers"], *spec["containers"]) if one["name"] == "authz-sidecar"
        )
        environ = dict(named(objects, "ConfigMap", "authz-settings")["data"])
        environ |= {one["name"]: one["value"] for one in container["env"] if one["name"].startswith("SIDECAR_")}
        # as the kubelet fills in other variables of the container (Kubernetes, "Define Dependent Environment Variables")
        environ = {name: re.sub(r"\$\([A-Z_]+\)", "7d1c0ffee", value) for name, value in environ.items()}
        settings = read_settings(environ, {})
        assert (settings.listen.port, settings.admin_listen.port) == (8080, 9901)
        assert {port["containerPort"] for port in container["ports"]} == {8080, 9901}
        assert settings.cerbos == "unix:/run/authz/cerbos.sock"


def test_routes_and_policies_have_no_fault(tmp_path: Path) -> None:
    objects = built(K8S / "authz")
    assert read_routes(
        named(objects, "ConfigMap", "authz-routes")["data"]["routes.yaml"], "routes.yaml", {}
    ).table.routes
    for name, text in named(objects, "ConfigMap", "authz-policies")["data"].items():
        (tmp_path / name).write_text(text)
    assert compile_policies(binary(), tmp_path) == []


def test_the_webhook_injects_what_the_overlay_has() -> None:
    objects, template = built(SIDECAR), template_of({})
    deployment = named(objects, "Deployment", "app")["spec"]["template"]
    assert list(template.containers) == deployment["spec"]["initContainers"]
    ours = [volume for volume in deployment["spec"]["volumes"] if volume["name"].startswith("authz-")]
    by_name = {volume["name"]: volume for volume in ours}
    assert {volume["name"]: volume for volume in template.volumes} == by_name
    assert template.labels.items() <= deployment["metadata"]["labels"].items()


def test_the_front_door_has_the_same_containers() -> None:
    ours = {one["name"]: copy.deepcopy(one) for one in template_of({}).containers}
    spec = named(built(FRONT_DOOR), "Deployment", "front-door")["spec"]["template"]["spec"]
    assert spec["initContainers"] == [ours["authz-cerbos"]]
    there, here = spec["containers"][0], ours["authz-sidecar"]
    for name in (
        "image",
        "ports",
        "startupProbe",
        "readinessProbe",
        "livenessProbe",
        "securityContext",
        "volumeMounts",
    ):
        assert there[name] == here[name], name


def test_the_podman_overlay_moves_the_two_and_changes_nothing_else() -> None:
    plain, moved = built(SIDECAR), built(PODMAN)
    spec = named(plain, "Deployment", "app")["spec"]["template"]["spec"]
    spec["containers"] += spec.pop("initContainers")
    assert named(moved, "Deployment", "app")["spec"]["template"]["spec"].pop("initContainers") == []
    for one in (plain, moved):
        named(one, "Deployment", "app")["spec"]["template"]["spec"].pop("initContainers", None)
    assert moved == plain


# --- the front door ---


def test_the_front_door_scales_and_survives_a_drained_node() -> None:
    objects = built(FRONT_DOOR)
    deployment = named(objects, "Deployment", "front-door")
    assert "replicas" not in deployment["spec"]  # an apply would undo what the autoscaler did
    scaler = named(objects, "HorizontalPodAutoscaler", "front-door")["spec"]
    assert scaler["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "front-door"}
    assert scaler["minReplicas"] >= 2
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    budget = named(objects, "PodDisruptionBudget", "front-door")["spec"]
    assert budget["selector"]["matchLabels"].items() <= labels.items()
    spreads = deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]
    assert {one["topologyKey"] for one in spreads} == {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}
    assert all(one["labelSelector"]["matchLabels"].items() <= labels.items() for one in spreads)
    assert named(objects, "Service", "front-door")["spec"]["selector"].items() <= labels.items()


def test_sessions_are_in_redis_behind_a_password() -> None:
    objects = built(FRONT_DOOR)
    spec = named(objects, "Deployment", "front-door")["spec"]["template"]["spec"]
    names = [one["name"] for one in spec["containers"][0]["env"]]
    # "$(NAME)" is put in place only where NAME stands before it
    assert names.index("REDIS_PASSWORD") < names.index("SIDECAR_REDIS_URL")
    redis = named(objects, "Deployment", "redis")["spec"]["template"]["spec"]["containers"][0]
    assert "--requirepass" in redis["args"]
    assert not any(one["kind"] == "Secret" for one in objects)


# --- monitoring and the webhook ---


def test_the_service_monitor_finds_the_admin_port() -> None:
    """The CustomResourceDefinition has `selector`, `endpoints[].port`, `path`, `interval`, `scrapeTimeout`."""
    objects = built(K8S / "monitoring")
    service, monitor = named(objects, "Service", "authz-metrics"), named(objects, "ServiceMonitor", "authz-sidecar")
    assert set(monitor["spec"]) == {"selector", "endpoints"}
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    (endpoint,) = monitor["spec"]["endpoints"]
    assert set(endpoint) == {"port", "path", "interval", "scrapeTimeout"}
    (port,) = service["spec"]["ports"]
    assert endpoint["port"] == port["name"]
    for folder, deployment in ((SIDECAR, "app"), (FRONT_DOOR, "front-door")):
        template = named(built(folder), "Deployment", deployment)["spec"]["template"]
        assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
        containers = (*template["spec"]["initContainers"], *template["spec"]["containers"])
        assert port["targetPort"] in [one["name"] for container in containers for one in container.get("ports", ())]


def test_a_moved_port_is_open_by_a_policy_of_its_own_alone() -> None:
    found = re.search(r"<!-- example: networkpolicy.yaml -->\n```yaml\n(.*?)```", GUIDE, re.DOTALL)
    assert found is not None
    own = yaml.safe_load(found[1])
    for version in VERSIONS:
        kubernetes_validate.validate(own, version, strict=True)
    shipped = [one for one in built(K8S / "authz") if one["kind"] == "NetworkPolicy"]
    spec = {"containers": [{"name": "app", "ports": [{"containerPort": 8080}]}]}
    before = {"metadata": {"annotations": {PORT: "8081"}}, "spec": spec}
    labels = applied(before, patch(before, template_of({})))["metadata"]["labels"]
    usual = {name: value for name, value in labels.items() if name != PORT}

    def open_ports(policies: list[Object], labels: dict[str, str]) -> set[int]:
        ports = (8080, 8081, 9901)
        return {port for port in ports if lets_in(policies, labels, port, "default", {"app": "anybody"})}

    assert open_ports(shipped, usual) == {8080}
    assert open_ports(shipped, labels) == set()
    assert open_ports([*shipped, own], labels) == {8081}
    assert open_ports([*shipped, own], usual) == {8080}
    assert lets_in(shipped, labels, 9901, "monitoring", {"app": "prometheus"})


PRESENT = "present.inject.authz-sidecar"
"""The webhook that looks after a protected pod which no label asks for any more."""


def _webhooks() -> list[tuple[str, Object]]:
    objects = built(K8S / "injector")
    kinds = ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")
    return [(kind, hook) for kind in kinds for hook in named(objects, kind, "authz-injector")["webhooks"]]


def test_without_the_webhook_no_pod_is_created() -> None:
    assert len(_webhooks()) == 5
    for kind, hook in _webhooks():
        assert hook["failurePolicy"] == "Fail"
        assert hook["sideEffects"] == "None"
        assert hook["admissionReviewVersions"] == ["v1"]
        path = {"MutatingWebhookConfiguration": "/inject", "ValidatingWebhookConfiguration": "/validate"}[kind]
        assert hook["clientConfig"]["service"] == {
            "name": "authz-injector", "namespace": "authz-sidecar", "path": path, "port": 443,
        }  # fmt: skip
        (rule,) = hook["rules"]
        assert ("CREATE" in rule["operations"]) is (hook["name"] != PRESENT)
        assert ("UPDATE" in rule["operations"]) is (path == "/validate")
        assert "pods" in rule["resources"]
        for subresource in ("pods/ephemeralcontainers", "pods/resize"):
            assert (subresource in rule["resources"]) is (path == "/validate")


@pytest.mark.parametrize(
    ("namespace", "labels", "pod", "asked"),
    [
        ("shop", {"authz-sidecar/inject": "enabled"}, {}, 1),
        ("shop", {"authz-sidecar/inject": "enabled"}, {"authz-sidecar/inject": "enabled"}, 1),
        ("shop", {"authz-sidecar/inject": "enabled"}, {"authz-sidecar/inject": "disabled"}, 1),
        ("shop", {}, {"authz-sidecar/inject": "enabled"}, 1),
        ("shop", {}, {}, 0),
        ("kube-system", {"authz-sidecar/inject": "enabled"}, {}, 0),
        ("authz-sidecar", {"authz-sidecar/inject": "enabled"}, {}, 0),
    ],
)
def test_a_label_is_enough(namespace: str, labels: dict[str, str], pod: dict[str, str], asked: int) -> None:
    for wanted in ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"):
        assert len(_asked(wanted, {**labels, "kubernetes.io/metadata.name": namespace}, pod)) == asked


def test_a_protected_pod_is_looked_after_when_its_namespace_loses_the_label() -> None:
    (hook,) = _asked(
        "ValidatingWebhookConfiguration", {"kubernetes.io/metadata.name": "shop"}, {"authz-sidecar/present": "true"}
    )
    assert hook["rules"][0]["operations"] == ["UPDATE"]


def _asked(wanted: str, namespace: dict[str, str], pod: dict[str, str]) -> list[Object]:
    """The webhooks of a kind that the API server asks about a pod with these labels."""
    matching = []
    for kind, hook in _webhooks():
        selector = hook.get("objectSelector", {})
        expressions = [(one, namespace) for one in hook["namespaceSelector"]["matchExpressions"]]
        expressions += [(one, pod) for one in selector.get("matchExpressions", ())]
        labels = selector.get("matchLabels", {}).items()
        if kind == wanted and labels <= pod.items() and all(_expression(one, there) for one, there in expressions):
            matching.append(hook)
    return matching


def _expression(one: Object, labels: dict[str, str]) -> bool:
    among = labels.get(one["key"]) in one["values"]
    return {"In": among, "NotIn": not among}[one["operator"]]


def test_the_injector_is_called_by_its_own_flags_and_its_certificate_has_the_services_name() -> None:
    objects = built(K8S / "injector-cert-manager")
    container = named(objects, "Deployment", "authz-injector")["spec"]["template"]["spec"]["containers"][0]
    options = parser().parse_args(container["args"])
    assert options.image == container["image"]
    certificate = named(objects, "Certificate", "authz-injector")
    namespace = certificate["metadata"]["namespace"]
    assert certificate["spec"]["dnsNames"] == [f"authz-injector.{namespace}.svc"]
    assert certificate["spec"]["secretName"] == "authz-injector-tls"
    for kind in ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"):
        annotations = named(objects, kind, "authz-injector")["metadata"]["annotations"]
        assert annotations == {"cert-manager.io/inject-ca-from": f"{namespace}/authz-injector"}


# --- the docs ---

GUIDE = (ROOT / "docs/guides/kubernetes.md").read_text(encoding="utf-8")


def test_every_folder_that_the_docs_apply_is_one() -> None:
    text = GUIDE + (K8S / "README.md").read_text(encoding="utf-8")
    applied = set(re.findall(r"apply -k (\S+?)[`\s]", text))
    assert applied <= {str(folder.relative_to(ROOT)) for folder in FOLDERS}
    assert len(applied) >= 5


def test_the_guides_annotations_are_all_there_are() -> None:
    assert set(re.findall(r"^\| `(authz-sidecar/\S+)` \|", GUIDE, re.MULTILINE)) == set(ANNOTATIONS)


def test_the_guides_deployment_is_injected() -> None:
    found = re.search(r"<!-- example: deployment.yaml -->\n```yaml\n(.*?)```", GUIDE, re.DOTALL)
    assert found is not None
    deployment = yaml.safe_load(found[1])
    for version in VERSIONS:
        kubernetes_validate.validate(deployment, version, strict=True)
    assert {one["op"] for one in patch(pod_of(deployment, "shop-1"), template_of({}))} == {"add"}
