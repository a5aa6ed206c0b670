"""A container or volume of ours in a pod, compared field by field with what was put in. Pure: no I/O."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable
from typing import Any

DEFAULTED: dict[str, Any] = {
    "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File", "protocol": "TCP",
    "scheme": "HTTP", "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3, "defaultMode": 420,
    "optional": False,
}  # fmt: skip
"""Defaults of the API server for a container or a volume (kubernetes, pkg/apis/core/v1/defaults.go)."""

_REFUSED_VARIABLE = re.compile(
    r"(SIDECAR|AWS_COGNITO|AWS_ENDPOINT_URL|CERBOS|LD|PYTHON|SSL|OPENSSL|GODEBUG|GLIBC|GCONV|MALLOC|UVICORN)(_.*)?"
    r"|PYTHON.*|SSL.*|.*_PROXY|.*_CA_BUNDLE|PATH|HOME|TMPDIR|LOCPATH|HOSTALIASES|RES_OPTIONS|LOCALDOMAIN",
    re.IGNORECASE,
)
"""Variables that nobody adds to a container of ours: settings, and what changes which code, CA or host it uses."""
_SYSTEM = (
    "/bin", "/boot", "/cerbos", "/dev", "/etc", "/home", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/policies",
    "/proc", "/root", "/run/authz", "/sbin", "/sys", "/tmp", "/usr",  # noqa: S108 - compared, not used
)  # fmt: skip
"""Folders of the two images and of our mounts: nobody mounts over them, or into them."""
_PROBES = {"startupProbe": "startupz", "readinessProbe": "readyz", "livenessProbe": "livez"}


def difference(wanted: Any, found: Any, path: str) -> str | None:
    """The first field that is not as wanted: `path: found ..., expected ...`. None where only defaults were added."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        return _of_objects(wanted, found, path)
    if isinstance(wanted, list) and isinstance(found, list):
        if len(wanted) != len(found):
            return f"{path}: found {len(found)} entries, expected {len(wanted)}"
        pairs = enumerate(zip(wanted, found, strict=True))
        return next((told for at, (one, other) in pairs if (told := difference(one, other, f"{path}[{at}]"))), None)
    return None if type(wanted) is type(found) and wanted == found else _mismatch(path, found, wanted)


def is_of(image: Any, repositories: Iterable[str]) -> bool:
    """Return whether an image is one of these repositories, in any version."""
    name = str(image).partition("@")[0]
    # a colon before the last slash is that of a registry's port
    tag = name.rfind(":")
    return (name[:tag] if tag > name.rfind("/") else name) in repositories


def container_difference(
    wanted: dict[str, Any], found: dict[str, Any], path: str, mirrors: Iterable[str] = ()
) -> str | None:
    """As `difference`, and what only adds is let in: variables, mounts, amounts of resources, a pull at each start, and
    the same image of another registry."""
    wanted, found = dict(wanted), dict(found)
    if _is_same_image(wanted.get("image"), found.get("image"), mirrors):
        wanted["image"] = found["image"]
    if found.get("imagePullPolicy") == "Always":
        wanted["imagePullPolicy"] = "Always"  # the admission plugin AlwaysPullImages
    for name in ("resources", "resizePolicy"):  # a LimitRange or the Vertical Pod Autoscaler; devices are neither
        wanted.pop(name, None)
        amounts = found.pop(name, None) or {}
        if name == "resources" and not (isinstance(amounts, dict) and set(amounts) <= {"requests", "limits"}):
            return f"{path}.resources: found more than requests and limits, expected these alone"
    told = _entries(wanted.pop("env", []), found.pop("env", None) or [], "name", f"{path}.env", _refused_variable)
    mounts = found.pop("volumeMounts", None) or []
    told = told or _entries(wanted.pop("volumeMounts", []), mounts, "mountPath", f"{path}.volumeMounts", _refused_mount)
    for name, word in _PROBES.items():
        if name in wanted and _by_mesh(wanted[name], found.get(name), f"/app-health/{wanted['name']}/{word}"):
            found[name] = {**found[name], "httpGet": wanted[name]["httpGet"]}
    return told or difference(wanted, found, path)


def _is_same_image(wanted: Any, found: Any, mirrors: Iterable[str]) -> bool:
    """Return whether `found` is the image `wanted` of a mirror. A digest says what the image is, from wherever."""
    name, _, digest = str(wanted).partition("@")
    if digest:
        return str(found).partition("@")[2] == digest
    return found in {f"{mirror}/{one}" for mirror in mirrors for one in (name, name.partition("/")[2])}


def _of_objects(wanted: dict[str, Any], found: dict[str, Any], path: str) -> str | None:
    for name in (*wanted, *(name for name in found if name not in wanted)):
        at = f"{path}.{name}"
        if name not in found:
            return _mismatch(at, None, wanted[name])
        if name in wanted:
            if told := difference(wanted[name], found[name], at):
                return told
        elif name not in DEFAULTED or DEFAULTED[name] != found[name]:
            return _mismatch(at, found[name], None)
    return None


def _entries(wanted: list[Any], found: Any, key: str, path: str, refused: Any) -> str | None:
    """Every entry of ours once and as it was; of others, those that `refused` (entry -> expectation) lets be."""
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        return f"{path}: found no list of objects"
    left = {one[key]: one for one in wanted}
    mounts = {one["name"] for one in wanted}
    for at, one in enumerate(found):
        ours = left.pop(str(one.get(key)), None)
        if ours is not None:
            if told := difference(ours, one, f"{path}[{at}]"):
                return told
        elif one.get("name") in mounts or (expected := refused(one)):
            why = "it once, as it was put in" if one.get("name") in mounts else expected
            # its value may be a secret
            return f"{path}[{at}]: found {str(one.get(key))[:100]!r}, expected {why}"
    return f"{path}: found no {next(iter(left))!r}, expected it as it was put in" if left else None


def _refused_variable(one: dict[str, Any]) -> str:
    name = str(one.get("name"))
    return "no variable beside ours that sets or loads something" if _REFUSED_VARIABLE.fullmatch(name) else ""


def _refused_mount(one: dict[str, Any]) -> str:
    """Debian's /var/run is a link to /run, and an image's /run/secrets is the place for tokens."""
    said = str(one.get("mountPath"))
    place = re.sub(r"^/var/run(?=/|$)", "/run", "/" + posixpath.normpath(said).lstrip("/"))
    over = any(
        place == "/" or f"{folder}/".startswith(f"{place}/") or place.startswith(f"{folder}/") for folder in _SYSTEM
    )
    return "no mount over the files of the sidecar" if over or not said.startswith("/") or ".." in said else ""


def _by_mesh(wanted: dict[str, Any], found: Any, path: str) -> bool:
    """Return whether Istio's agent asks in the kubelet's place (istio.io, "Health Checking of Istio Services")."""
    rewritten = {"path": path, "port": 15020}
    return (
        "httpGet" in wanted
        and isinstance(found, dict)
        and difference(rewritten, found.get("httpGet"), "") is None
    )  # fmt: skip


def _mismatch(path: str, found: Any, expected: Any) -> str:
    # the value of a variable may be a secret
    shown = "another value" if re.search(r"\.env\[\d+\]\.value$", path) else _shown(found)
    return f"{path}: found {shown}, expected {_shown(expected)}"


def _shown(value: Any) -> str:
    return ("nothing" if value is None else value if isinstance(value, str) else repr(value))[:200]
