"""A Cerbos for each set of policies, which the tests of a process share: to start one takes a third of a second of CPU.

It is the embedded one, started and told as a sidecar starts its own. A test of what becomes of that, or of its policies, has
one of its own.
"""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from sidecar.pdp.embedded import EmbeddedCerbos
from sidecar.pdp.policy_files import read_policies


class _Own(EmbeddedCerbos):
    """One that starts, whatever `share` has made of the others."""

    _begin = EmbeddedCerbos._begin
    _watch = EmbeddedCerbos._watch


class _Shared:
    """Runs them in a thread that lives as long as they do: the kernel ends what a thread started once it is gone."""

    def __init__(self) -> None:
        self._running: dict[tuple[str, Path, bool], _Own] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="shared-cerbos", daemon=True)
        self._thread.start()

    def target(self, policies: Path, program: Path, strict: bool) -> str:
        key = (read_policies(policies).digest, program, strict)
        if key not in self._running:
            made = _Own(policies, binary=str(program), strict=strict)
            asyncio.run_coroutine_threadsafe(made.start(), self._loop).result()
            self._running[key] = made
        return self._running[key].target

    def close(self) -> None:
        for made in self._running.values():
            asyncio.run_coroutine_threadsafe(made.stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


_shared: _Shared | None = None


def shared_cerbos(policies: Path, program: Path, *, strict: bool = True) -> str:
    """Return where a Cerbos with these policies is asked, for SIDECAR_CERBOS. Raises OSError where it does not start."""
    global _shared
    _shared = _shared or _Shared()
    return _shared.target(policies, program, strict)


def close() -> None:
    """Stop them all."""
    global _shared
    if _shared is not None:
        _shared.close()
        _shared = None


def share(patch: pytest.MonkeyPatch) -> None:
    """Let each embedded Cerbos of this process, which reads and compiles its policies as ever, ask a shared one."""
    begin, watch = EmbeddedCerbos._begin, EmbeddedCerbos._watch
    sharing: set[EmbeddedCerbos] = set()

    async def begin_shared(self: EmbeddedCerbos) -> None:
        if self._environ or not any(self._policies.iterdir()):
            await begin(self)
            return
        target = await asyncio.to_thread(shared_cerbos, self._policies, self._binary, strict=self._strict)
        # it was told before where it will be asked
        (self._folder / "grpc.sock").symlink_to(target.removeprefix("unix:"))
        sharing.add(self)

    async def watch_own(self: EmbeddedCerbos) -> None:
        if self not in sharing:
            await watch(self)

    patch.setattr(EmbeddedCerbos, "_begin", begin_shared)
    patch.setattr(EmbeddedCerbos, "_watch", watch_own)
