"""A copy of a policy folder that follows the original, for a Cerbos that would not.

Cerbos watches the folder that it is given, and sees no change where that is a Kubernetes ConfigMap: there the files are
links, and what they lead to is swapped elsewhere.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

Stamp = tuple[int, int, int]


class PolicyCopy:
    """Keeps `copy`, a folder of ours, equal to `original`. Names that begin with a dot are no policies: kubelet's and
    editors' own."""

    def __init__(self, original: Path, copy: Path) -> None:
        self._original = original
        self._copy = copy
        self._known: dict[str, Stamp] = {}

    def follow(self) -> bool:
        """Take over what has changed. Whether anything had. Raises OSError; then the next call goes on."""
        found = dict(_files(self._original))
        gone = self._known.keys() - found.keys()
        changed = [name for name, stamp in found.items() if self._known.get(name) != stamp]
        for name in changed:
            self._take(name)
            self._known[name] = found[name]
        for name in gone:
            (self._copy / name).unlink(missing_ok=True)
            del self._known[name]
        return bool(changed or gone)

    def _take(self, name: str) -> None:
        target = self._copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        # whole at once: half a file would be a policy that does not compile
        new = target.with_name(f".{target.name}.new")
        shutil.copyfile(self._original / name, new)
        os.replace(new, target)


def _files(folder: Path) -> list[tuple[str, Stamp]]:
    """Relative name and stamp of each file, links followed."""
    found = []
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(place) / name
            if not name.startswith(".") and path.is_file():
                stat = path.stat()
                found.append((str(path.relative_to(folder)), (stat.st_mtime_ns, stat.st_size, stat.st_ino)))
    return found
