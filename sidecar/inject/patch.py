"""A pod -> the JSON Patch (RFC 6902) that puts the sidecar into it, or why that cannot be. Pure: no I/O."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sidecar.inject.compare import container_difference, difference, is_of

Json = dict[str, Any]

PREFIX = "authz-sidecar/"
ENABLED, DISABLED = "enabled", "disabled"
INJECT = f"{PREFIX}inject"
"""The label of a pod or a namespace: `enabled`, or on a pod `disabled`."""
UPSTREAM_PORT = f"{PREFIX}upstream-port"
PORT = f"{PREFIX}port"
"""The annotation that moves the sidecar's traffic port, and the label of a pod where it is moved: a NetworkPolicy
selects by it."""
_NAMES = {
    f"{PREFIX}routes": "authz-routes",
    f"{PREFIX}policies": "authz-policies",
    f"{PREFIX}settings": "authz-settings",
    f"{PREFIX}secrets": "authz-secrets",
}
"""Annotations that name a ConfigMap or the Secret, and the name in the template that each takes the place of."""
ANNOTATIONS = (PORT, UPSTREAM_PORT, *_NAMES)

_OBJECT_NAME = re.compile(r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?")


class Uninjectable(Exception):
    """The sidecar cannot protect this pod; the message is for whoever creates it."""


class OptedOut(Uninjectable):
    """The pod's own label says that it is to stay as it is."""


@dataclass(frozen=True)
class InjectionTemplate:
    """Parts that are put into a pod: labels, native sidecars in order, volumes.

    `mirrors` are registries that the cluster may take our images from, `before` the repositories of images whose
    containers may start before ours.
    """

    labels: Mapping[str, str]
    containers: tuple[Json, ...]
    volumes: tuple[Json, ...]
    mirrors: tuple[str, ...] = ()
    before: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, document: Json, images: Mapping[str, str], mirrors: tuple[str, ...] = (), before: tuple[str, ...] = ()
    ) -> InjectionTemplate:
        """From the YAML document, with `images` (container name -> image) in place of its own."""
        containers = [copy.deepcopy(container) for container in document["initContainers"]]
        for container in containers:
            container["image"] = images.get(container["name"], container["image"])
        return cls(document["labels"], tuple(containers), tuple(document["volumes"]), mirrors, before)

    @property
    def container_names(self) -> frozenset[str]:
        """Names that no container of a pod's own may have."""
        return frozenset(container["name"] for container in self.containers)

    @property
    def volume_names(self) -> frozenset[str]:
        """Names that no volume of a pod's own may have, and that no container of its own may mount."""
        return frozenset(volume["name"] for volume in self.volumes)

    @property
    def ports(self) -> frozenset[int]:
        """Ports that are the sidecar's."""
        return frozenset(port["containerPort"] for one in self.containers for port in one.get("ports", ()))

    def at(self, port: int) -> InjectionTemplate:
        """The same with another traffic port."""
        made = copy.deepcopy(self.containers)
        for one in made:
            for variable in one.get("env", ()):
                if variable["name"] == "SIDECAR_LISTEN":
                    variable["value"] = f"0.0.0.0:{port}"
            for named in one.get("ports", ()):
                if named["name"] == "authz":
                    named["containerPort"] = port
        return InjectionTemplate({**self.labels, PORT: str(port)}, made, self.volumes, self.mirrors, self.before)

    @property
    def port_names(self) -> frozenset[str]:
        """Names of these ports: a Service leads to the first container of a pod that has the name."""
        return frozenset(port["name"] for one in self.containers for port in one.get("ports", ()))


def patch(pod: Json, template: InjectionTemplate) -> list[Json]:
    """The operations that make `pod` a protected one; none where it is one already. Raises Uninjectable, ValueError.

    A pod that has a part of ours in another form than ours is refused, not mended: somebody wrote it on purpose.
    """
    metadata, spec = _object(pod, "metadata"), _object(pod, "spec")
    labels, annotations = _texts(metadata, "labels"), _texts(metadata, "annotations")
    if labels.get(INJECT) == DISABLED:
        raise OptedOut(f"the label {INJECT}: {DISABLED}, in a namespace whose pods are to be protected")
    template = _moved(template, annotations)
    if labels.get(PORT) not in (None, template.labels.get(PORT)):
        raise Uninjectable(f"the label {PORT}: found {labels[PORT]!r}, expected the annotation of that name alone")
    _refuse_shared_spaces(spec)
    _refuse_ways_around(spec, template)
    wanted = _wanted(template, annotations, spec)
    return [
        *_label_operations(labels, metadata, template),
        *_volume_operations(spec, wanted),
        *_container_operations(spec, wanted),
    ]


def owned(pod: Json, template: InjectionTemplate) -> Json:
    """Parts of a pod that no update may change, by what they are: labels, containers, volumes, and who gets at these.

    The label that asked for the sidecar is among them: without it an update that comes later reaches no webhook.
    """
    metadata, spec = _object(pod, "metadata"), _object(pod, "spec")
    labels = _texts(metadata, "labels")
    return {
        "labels": {name: labels.get(name) for name in (INJECT, PORT, *template.labels)},
        # amounts of a running container change by pods/resize
        "containers": [
            {field: value for field, value in one.items() if field not in ("resources", "resizePolicy")}
            for one in _list(spec, "initContainers")
            if one.get("name") in template.container_names
        ],
        "volumes": [one for one in _list(spec, "volumes") if one.get("name") in template.volume_names],
        "mounted by": sorted(_mounting(spec, template)),
        "debugged by": sorted(_debugging(spec, template)),
    }


# --- what makes a pod one that cannot be protected ---


def _refuse_shared_spaces(spec: Json) -> None:
    for name, why in (
        ("hostNetwork", "no NetworkPolicy holds for it, and its loopback is the node's"),
        ("hostPID", "its processes see and stop all others of the node"),
        ("shareProcessNamespace", "the app's processes see and stop the sidecar's"),
    ):
        if spec.get(name):
            raise Uninjectable(f"spec.{name} is true: {why}")


def _refuse_ways_around(spec: Json, template: InjectionTemplate) -> None:
    for container in _own_containers(spec, template):
        name = container.get("name")
        for port in _list(container, "ports"):
            if port.get("hostPort"):
                raise Uninjectable(f"container {name} has the hostPort {port['hostPort']}: a way around the sidecar")
            if port.get("containerPort") in template.ports:
                told = f"container {name} has the port {port['containerPort']}, which is the sidecar's"
                raise Uninjectable(f"{told}: move the sidecar's traffic port by the annotation {PORT}")
            if port.get("name") in template.port_names:
                raise Uninjectable(f"container {name} names a port {port['name']}, as the sidecar names its own")
    mounting = _mounting(spec, template)
    if mounting:
        raise Uninjectable(f"container {min(mounting)} mounts a volume of the sidecar's")
    for container in _list(spec, "containers"):
        if container.get("name") in template.container_names:
            raise Uninjectable(f"a container has the name {container['name']}, which is the sidecar's")


def _mounting(spec: Json, template: InjectionTemplate) -> set[str]:
    return {
        str(container.get("name"))
        for container in (*_own_containers(spec, template), *_list(spec, "ephemeralContainers"))
        for mount in _list(container, "volumeMounts")
        if mount.get("name") in template.volume_names
    }


def _debugging(spec: Json, template: InjectionTemplate) -> set[str]:
    """Ephemeral containers in the process namespace of one of ours: they read its memory, its keys among it."""
    return {
        str(container.get("name"))
        for container in _list(spec, "ephemeralContainers")
        if container.get("targetContainerName") in template.container_names
    }


def _own_containers(spec: Json, template: InjectionTemplate) -> list[Json]:
    """The containers of the pod's own, those that start first among them."""
    initial = [one for one in _list(spec, "initContainers") if one.get("name") not in template.container_names]
    return [*initial, *_list(spec, "containers")]


# --- what is put in ---


def _wanted(template: InjectionTemplate, annotations: Mapping[str, str], spec: Json) -> InjectionTemplate:
    """The template with what the pod's annotations say."""
    names = _names(annotations)
    containers = [one for one in _own_containers(spec, template) if not is_of(one.get("image"), template.before)]
    port = _upstream_port(annotations, containers, template, _present_upstream(spec))
    upstream = f"http://127.0.0.1:{port}"
    made, volumes = copy.deepcopy(template.containers), copy.deepcopy(template.volumes)
    for container in made:
        for variable in container.get("env", ()):
            if variable["name"] == "SIDECAR_UPSTREAM":
                variable["value"] = upstream
        for source in container.get("envFrom", ()):
            for reference in source.values():
                reference["name"] = names[reference["name"]]
    for volume in volumes:
        if "configMap" in volume:
            volume["configMap"]["name"] = names[volume["configMap"]["name"]]
    return InjectionTemplate(template.labels, made, volumes, template.mirrors, template.before)


def _moved(template: InjectionTemplate, annotations: Mapping[str, str]) -> InjectionTemplate:
    """The template with the traffic port that the pod's annotation names."""
    said = annotations.get(PORT)
    if said is None or said in map(str, template.ports - template.at(0).ports):
        return template
    if not _PORT.fullmatch(said) or not _UNPRIVILEGED <= int(said) <= _LAST_PORT or int(said) in template.ports:
        raise Uninjectable(
            f"{PORT}: found {said!r}, expected a port from {_UNPRIVILEGED} on that is not the admin port"
        )
    return template.at(int(said))


_PORT = re.compile(r"[1-9]\d{0,4}")
_UNPRIVILEGED, _LAST_PORT = 1024, 65535


def _names(annotations: Mapping[str, str]) -> dict[str, str]:
    """Name in the template -> name of the pod's own ConfigMap or Secret."""
    unknown = sorted(name for name in annotations if name.startswith(PREFIX) and name not in ANNOTATIONS)
    if unknown:
        raise Uninjectable(f"the annotation {unknown[0]} is unknown, expected one of {', '.join(sorted(ANNOTATIONS))}")
    names = {}
    for annotation, name in _NAMES.items():
        names[name] = annotations.get(annotation, name)
        if not _OBJECT_NAME.fullmatch(names[name]):
            raise Uninjectable(f"{annotation}: found {names[name]!r}, expected the name of an object")
    return names


def _present_upstream(spec: Json) -> int | None:
    """The port of the upstream of a sidecar that is in the pod already."""
    for container in _list(spec, "initContainers"):
        for variable in _list(container, "env"):
            found = re.fullmatch(r"http://127\.0\.0\.1:([1-9]\d{0,4})", str(variable.get("value")))
            if variable.get("name") == "SIDECAR_UPSTREAM" and found:
                return int(found[1])
    return None


def _upstream_port(
    annotations: Mapping[str, str], containers: list[Json], template: InjectionTemplate, present: int | None
) -> int:
    said = annotations.get(UPSTREAM_PORT)
    if said is not None:
        if not _PORT.fullmatch(said) or int(said) > _LAST_PORT:
            raise Uninjectable(f"{UPSTREAM_PORT}: found {said!r}, expected a port")
        if int(said) in template.ports:
            raise Uninjectable(f"{UPSTREAM_PORT}: found {said}, which is the sidecar's own port")
        return int(said)
    ports = {
        port["containerPort"]
        for container in containers
        for port in _list(container, "ports")
        if port.get("protocol", "TCP") == "TCP" and isinstance(port.get("containerPort"), int)
    }
    if present in ports:
        # another webhook has added a container with a port since the sidecar was put in
        return int(present or 0)
    if len(ports) != 1:
        raise Uninjectable(f"the containers have {len(ports)} ports: say by {UPSTREAM_PORT} which one is the app's")
    return int(ports.pop())


def _label_operations(labels: Mapping[str, str], metadata: Json, template: InjectionTemplate) -> Iterator[Json]:
    if metadata.get("labels") is None:
        yield {"op": "add", "path": "/metadata/labels", "value": dict(template.labels)}
        return
    for name, value in template.labels.items():
        if labels.get(name) != value:
            yield {"op": "add", "path": f"/metadata/labels/{_pointer(name)}", "value": value}


def _volume_operations(spec: Json, wanted: InjectionTemplate) -> Iterator[Json]:
    there = {volume.get("name"): volume for volume in _list(spec, "volumes")}
    missing = []
    for volume in wanted.volumes:
        found = there.get(volume["name"])
        if found is None:
            missing.append(volume)
        elif told := difference(volume, found, f"spec.volumes[{_list(spec, 'volumes').index(found)}]"):
            raise Uninjectable(f"the volume {volume['name']} is there in another form than the sidecar's: {told}")
    if spec.get("volumes") is None:
        # the list itself is what is added
        yield {"op": "add", "path": "/spec/volumes", "value": missing}
    else:
        yield from ({"op": "add", "path": "/spec/volumes/-", "value": volume} for volume in missing)


def _container_operations(spec: Json, wanted: InjectionTemplate) -> Iterator[Json]:
    """Ours come first: they hold their ports and their socket before anything of the pod's own runs."""
    initial = _list(spec, "initContainers")
    ours = [one for one in initial if one.get("name") in wanted.container_names]
    if ours:
        _refuse_another_form(wanted, initial, ours)
    elif spec.get("initContainers") is None:
        yield {"op": "add", "path": "/spec/initContainers", "value": list(wanted.containers)}
    else:
        for at, container in enumerate(wanted.containers):
            yield {"op": "add", "path": f"/spec/initContainers/{at}", "value": container}


def _refuse_another_form(wanted: InjectionTemplate, initial: list[Json], ours: list[Json]) -> None:
    """Only containers of images that the operator names may stand before ours, which stand together."""
    first = 0
    while initial[first].get("name") not in wanted.container_names and is_of(
        initial[first].get("image"), wanted.before
    ):
        first += 1
    names = [str(one.get("name")) for one in initial[first : first + len(wanted.containers)]]
    expected = [container["name"] for container in wanted.containers]
    told = None
    if names != expected or len(ours) != len(expected):
        told = (
            f"spec.initContainers[{first}]: found {', '.join(names)}, expected {', '.join(expected)} first, and once"
            " (--before names images that may start before them)"
        )
    for at, (container, found) in enumerate(zip(wanted.containers, ours, strict=False), first):
        told = told or container_difference(container, found, f"spec.initContainers[{at}]", wanted.mirrors)
    if told:
        raise Uninjectable(f"the sidecar is there in another form or place than it was put in: {told}")


# --- reading an object that anybody may have written ---


def _object(parent: Json, name: str) -> Json:
    value = parent.get(name)
    if not isinstance(value, dict):
        raise ValueError(f"found no object {name}")  # noqa: TRY004 - a text that came in, not a type of ours
    return value


def _texts(parent: Json, name: str) -> Mapping[str, str]:
    value = parent.get(name) or {}
    if not isinstance(value, dict) or not all(isinstance(one, str) for one in value.values()):
        raise ValueError(f"found {name} that are not texts by name")
    return value


def _list(parent: Json, name: str) -> list[Json]:
    value = parent.get(name) or []
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise ValueError(f"found {name} that are not a list of objects")
    return value


def _pointer(name: str) -> str:
    """A name as a reference token (RFC 6901 section 3)."""
    return name.replace("~", "~0").replace("/", "~1")
