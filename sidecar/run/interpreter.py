"""The interpreter that runs all of this, and how it was built."""

from __future__ import annotations

import sysconfig

SLOW = "Python was built without optimizations (--enable-optimizations): a request takes about a fifth more CPU"
"""A hint for the log, where `is_optimized` says so."""


def is_optimized() -> bool:
    """Return whether the interpreter was built with profile-guided optimizations, as those of Debian and of Python's
    own images are; True where it does not say how it was built."""
    arguments = sysconfig.get_config_var("CONFIG_ARGS")
    if not isinstance(arguments, str) or "--enable-optimizations" in arguments:
        return True
    # Debian's packages are built by a profile without that argument, and bear no other mark of it
    return "deb_system" in sysconfig.get_scheme_names()
