"""`python -m fuzz.run SECONDS [TARGET...]`: coverage-guided fuzzing of each target for so long, one after the other.

The kept corpus (fuzz/corpus) is where it starts; what it finds goes to .fuzz/. A broken promise ends it with its input.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent


def fuzz_one(name: str, seconds: int) -> None:
    """Fuzz in this process; libFuzzer ends it."""
    import atheris

    with atheris.instrument_imports(include=["sidecar"]):
        from fuzz.targets import TARGETS
    found = ROOT / ".fuzz" / name
    found.mkdir(parents=True, exist_ok=True)
    options = [
        f"-max_total_time={seconds}",
        "-max_len=4096",
        "-print_final_stats=1",
        f"-artifact_prefix={found}/crash-",
    ]
    atheris.Setup([sys.argv[0], *options, str(found), str(ROOT / "fuzz" / "corpus" / name)], TARGETS[name])
    atheris.Fuzz()


def main() -> int:
    """Fuzz each target in a process of its own, with a line of progress for each."""
    if os.environ.get("FUZZ_ONE"):
        fuzz_one(os.environ["FUZZ_ONE"], int(sys.argv[1]))
        return 0
    if importlib.util.find_spec("atheris") is None:
        print("not installed: atheris; run: pip install atheris", file=sys.stderr)
        return 1
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    from fuzz.targets import TARGETS

    names = sys.argv[2:] or list(TARGETS)
    for number, name in enumerate(names, 1):
        print(f"[{number}/{len(names)}] {name}: {seconds} s ... ", end="", flush=True)
        started = time.monotonic()
        done = subprocess.run(  # noqa: S603 - ourselves
            [sys.executable, "-m", "fuzz.run", str(seconds)], cwd=ROOT, env={**os.environ, "FUZZ_ONE": name},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        stats = dict(
            line.removeprefix("stat::").split(":", 1) for line in done.stderr.splitlines() if line.startswith("stat::")
        )
        runs = stats.get("number_of_executed_units", "?").strip()
        print(f"{runs} executions in {time.monotonic() - started:.0f} s{'' if done.returncode == 0 else ', BROKEN'}")
        if done.returncode != 0:
            print(done.stderr[-3000:])
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
