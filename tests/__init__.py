"""Tests: this runs before any module of theirs."""

import sys

# jsonschema compiles 39 grammars of IRIs as it is imported: ten seconds in each process of tests, which one test of SBOMs
# needs, and it asks another process
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
