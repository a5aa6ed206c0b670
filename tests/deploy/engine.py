"""The container engine of this machine: docker or podman, whichever works, and containers that leave nothing behind."""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.stack import ROOT

BUILD_SECONDS = 600
LOCK = Path(tempfile.gettempdir()) / "authz-test-build.lock"
PINS = dict(re.findall(r"(?m)^ARG ([A-Z]+)=(\S+)$", (ROOT / "Dockerfile").read_text()))
PINS = {name: image for name, image in PINS.items() if "@sha256:" in image}
"""Argument of the Dockerfile -> image, by its digest. A machine without these, their registries and stand-ins builds nothing."""
CERBOS = ROOT / "node_modules/@cerbos/cerbos-linux-x64/cerbos-linux-x64"
"""The program inside Cerbos' image, as npm has it: a stand-in is made of it where the registry is out of reach."""


def unpinned(image: str) -> str:
    """An image's name without the digest: what a stand-in of this machine can be called."""
    return image.partition("@")[0]


class EngineError(Exception):
    """A command of the engine failed; the message is its command line and what it said."""


@dataclass(frozen=True)
class Engine:
    """`docker` or `podman`, by its path."""

    program: str
    stand_ins: tuple[str, ...] = ()
    """Pinned images that this machine cannot get; it has another of the same name and tag in their place."""

    def image(self, pinned: str) -> str:
        """The name under which this machine has a pinned image, or its stand-in."""
        return unpinned(pinned) if pinned in self.stand_ins else pinned

    @property
    def arguments(self) -> list[str]:
        """Options of `build` that put stand-ins in place of the images of a Dockerfile."""
        return [f"--build-arg={name}={unpinned(image)}" for name, image in PINS.items() if image in self.stand_ins]

    @property
    def is_podman(self) -> bool:
        """Whether it is podman, which also runs pods (`play kube`)."""
        return Path(self.program).name == "podman"

    def call(self, *arguments: str, seconds: float = 60, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run one command of it. Raises EngineError where it fails, unless `check` is false."""
        # podman's own format of images has no health check
        environ = {**os.environ, "BUILDAH_FORMAT": "docker"}
        command = [self.program, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False, env=environ)
        if check and done.returncode != 0:
            raise EngineError(f"{' '.join(command)}: {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
        return done

    def build(self, tag: str, *arguments: str, context: Path = ROOT) -> None:
        """Build `context` as `tag`, from layers that were made before where nothing changed."""
        layers = ["--layers", "--pull=never"] if self.is_podman else []
        with LOCK.open("w") as lock:
            # of test processes that build the same at once, the others find its layers when the first has made them
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.call("build", *layers, *self.arguments, *arguments, "-t", tag, str(context), seconds=BUILD_SECONDS)

    def inspect(self, what: str, kind: str = "image") -> dict[str, Any]:
        """What the engine knows of an image or a container."""
        found = json.loads(self.call(kind, "inspect", what).stdout)[0]
        assert isinstance(found, dict)
        return found

    @contextmanager
    def running(self, image: str, *options: str, command: Sequence[str] = ()) -> Iterator[Container]:
        """A container of `image` in the background with these options of `run`; it is removed in the end."""
        name = f"authz-test-{secrets.token_hex(4)}"
        self.call("run", "--detach", "--name", name, *options, image, *command)
        try:
            yield Container(self, name)
        finally:
            self.call("rm", "--force", "--volumes", name, check=False)


@dataclass(frozen=True)
class Container:
    """A container that was started."""

    engine: Engine
    name: str

    @property
    def state(self) -> dict[str, Any]:
        """The engine's `State` of it: `Running`, `ExitCode`, `Health` ..."""
        state = self.engine.inspect(self.name, "container")["State"]
        assert isinstance(state, dict)
        return state

    def logs(self) -> str:
        """All that it wrote to its two outputs."""
        done = self.engine.call("logs", self.name)
        return done.stdout + done.stderr

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command inside."""
        return self.engine.call("exec", self.name, *command, check=check)

    def healthy(self) -> bool:
        """Whether its health check passes now. Podman without systemd runs a check only when it is asked to."""
        if self.engine.is_podman:
            return self.engine.call("healthcheck", "run", self.name, check=False).returncode == 0
        return bool(self.state.get("Health", {}).get("Status") == "healthy")

    def wait_until(self, ready: Callable[[], bool], seconds: float = 30) -> float:
        """Seconds until `ready()`. Raises EngineError with what the container said, where it ends or takes too long."""
        began = time.monotonic()
        while not ready():
            if time.monotonic() - began > seconds or not self.state["Running"]:
                raise EngineError(f"{self.name} is not ready: {self.state}\n{self.logs()[-4000:]}")
            time.sleep(0.05)
        return time.monotonic() - began


def find() -> tuple[Engine | None, str]:
    """The engine of this machine, and why there is none."""
    reasons = []
    for name in ("docker", "podman"):
        program = shutil.which(name)
        if program is None:
            reasons.append(f"{name} is not on PATH")
            continue
        engine = Engine(program)
        if engine.call("info", check=False).returncode != 0:
            reasons.append(f"{name} has no engine that answers")
            continue
        stand_ins = tuple(image for image in PINS.values() if not _has(engine, image))
        missing = [image for image in stand_ins if not _has_stand_in(engine, unpinned(image))]
        if not missing:
            return Engine(program, stand_ins), ""
        reasons.append(f"{name} has no {' and no '.join(missing)}, nor gets it")
    return None, "; ".join(reasons)


def _here(engine: Engine, image: str) -> bool:
    return engine.call("image", "inspect", image, check=False).returncode == 0


def _has(engine: Engine, image: str) -> bool:
    if _here(engine, image):
        return True
    return engine.call("pull", "--quiet", image, check=False, seconds=BUILD_SECONDS).returncode == 0


def _has_stand_in(engine: Engine, image: str) -> bool:
    return _here(engine, image) or (image == unpinned(PINS["CERBOS"]) and _cerbos_made(engine, image))


def _cerbos_made(engine: Engine, image: str) -> bool:
    """Make an image as Cerbos' own is: the program and nothing else (docs.cerbos.dev, installation, container)."""
    if not CERBOS.is_file():
        return False
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(CERBOS, Path(folder) / "cerbos")
        lines = [
            "FROM scratch",
            "COPY cerbos /cerbos",
            "ENV CERBOS_NO_TELEMETRY=1",
            'ENTRYPOINT ["/cerbos"]',
            'CMD ["server"]',
        ]
        (Path(folder) / "Dockerfile").write_text("\n".join(lines))
        return engine.call("build", "-t", image, folder, check=False, seconds=BUILD_SECONDS).returncode == 0
