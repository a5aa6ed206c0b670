"""Tests: this runs before any module of theirs."""

import os
import sys

# jsonschema compiles 39 grammars of IRIs as it is imported: ten seconds in each process of tests, which one test of SBOMs
# needs, and it asks another process
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
# Cerbos starts hundreds of times: with a wide target its garbage collector takes a quarter less of that
os.environ.setdefault("GOGC", "800")
