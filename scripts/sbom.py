"""The bills of materials of the images, CycloneDX 1.6 as JSON: dist/sidecar.cdx.json and dist/standalone.cdx.json.

    make sbom

They name what the images add to their base: the package, all of requirements.lock with its hashes, and in `standalone` the
Cerbos binary. What the base image holds is told by the base image's own.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
TARGETS = ("sidecar", "standalone")


def python_packages() -> dict[str, Any]:
    """What cyclonedx-py says of the lock."""
    command = [
        sys.executable, "-m", "cyclonedx_py", "requirements", "--pyproject", str(ROOT / "pyproject.toml"),
        "--mc-type", "application", "--spec-version", "1.6", "--output-reproducible", "--output-format", "JSON",
        str(ROOT / "requirements.lock"),
    ]  # fmt: skip
    done = subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - our own words
    bill = json.loads(done.stdout)
    assert isinstance(bill, dict)  # noqa: S101 - for the reader
    return bill


def cerbos() -> dict[str, Any]:
    """The component that `standalone` has besides, as the Dockerfile names it."""
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    found = re.search(r"^ARG CERBOS=(\S+):(\S+)@sha256:([0-9a-f]{64})$", dockerfile, re.MULTILINE)
    if found is None:
        raise ValueError("Dockerfile: found no ARG CERBOS=image:version@sha256:digest")
    image, version, digest = found.groups()
    return {
        "type": "application",
        "name": "cerbos",
        "version": version,
        "bom-ref": f"cerbos=={version}",
        "licenses": [{"license": {"id": "Apache-2.0"}}],
        # the version of a pkg:oci is the digest (package-url types, oci)
        "purl": f"pkg:oci/cerbos@sha256%3A{digest}?repository_url={image}&tag={version}",
    }


def bills() -> dict[str, dict[str, Any]]:
    """Target -> its bill."""
    bill = python_packages()
    root = bill["metadata"]["component"]["bom-ref"]
    binary = cerbos()
    depends = [
        {**one, "dependsOn": sorted({*one.get("dependsOn", []), binary["bom-ref"]})} if one["ref"] == root else one
        for one in bill["dependencies"]
    ]
    both = {
        **bill,
        "components": [*bill["components"], binary],
        "dependencies": [*depends, {"ref": binary["bom-ref"]}],
    }
    return {"sidecar": bill, "standalone": both}


if __name__ == "__main__":
    (ROOT / "dist").mkdir(exist_ok=True)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for target, bill in bills().items():
        path = ROOT / "dist" / f"{target}.cdx.json"
        path.write_text(json.dumps(bill, indent=2) + "\n", encoding="utf-8")
        print(f"{path.relative_to(ROOT)}: {project['name']} {project['version']}, {len(bill['components'])} components")
