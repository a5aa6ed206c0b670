"""The images, built once for all tests of this folder, with the machine's container engine."""

from __future__ import annotations

import os

import pytest

from sidecar.inject.server import template_of
from tests.deploy.changes import left_out
from tests.deploy.engine import Engine, find
from tests.stack import ROOT

SIDECAR_IMAGE = "localhost/authorization-sidecar:test"
STANDALONE_IMAGE = "localhost/authorization-sidecar:test-standalone"


@pytest.fixture(scope="session")
def engine() -> Engine:
    """docker or podman. Skips where none works, the base images are out of reach, or nothing of the images changed."""
    if reason := left_out(ROOT, os.environ):
        pytest.skip(reason)
    found, reason = find()
    if found is None:
        pytest.skip(f"no container engine: {reason}")
    return found


@pytest.fixture(scope="session")
def sidecar_image(engine: Engine) -> str:
    """The tag of the image that asks a Cerbos beside it: target `sidecar`, the default of the Dockerfile."""
    engine.build(SIDECAR_IMAGE)
    return SIDECAR_IMAGE


@pytest.fixture(scope="session")
def standalone_image(engine: Engine, sidecar_image: str) -> str:
    """The tag of the image with a Cerbos inside: target `standalone`, from the same layers."""
    engine.build(STANDALONE_IMAGE, "--target", "standalone")
    return STANDALONE_IMAGE


@pytest.fixture(scope="session")
def manifests_image(engine: Engine, sidecar_image: str) -> str:
    """The same image under the name that deploy/k8s gives it, so that a pod there runs unchanged."""
    name = next(str(one["image"]) for one in template_of({}).containers if one["name"] == "authz-sidecar")
    engine.call("tag", sidecar_image, name)
    return name
