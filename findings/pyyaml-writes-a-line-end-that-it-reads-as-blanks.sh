#!/bin/sh
# PyYAML 6.0.3 (PyPI), seen on 2026-11-30.
#
# `safe_dump(..., allow_unicode=True)` writes U+0085, a line end of YAML 1.1, as it is into a quoted text, and folds it into a
# blank when it reads the text again: a text comes back as another one, and nothing says so. Without allow_unicode it is
# escaped, and the text comes back whole. U+2028, another such line end, comes back either way.
#
# Output seen:
#   PyYAML 6.0.3
#   U+0085: allow_unicode: 'x y', else 'x\x85y'
#   U+2028: allow_unicode: 'x\u2028y', else 'x\u2028y'
#
# Exits with 0 while this is so, with 1 when it has changed. Needs python3 with venv.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check PyYAML==6.0.3
"$folder/venv/bin/python" - <<'PYTHON'
import yaml

print("PyYAML", yaml.__version__)


def again(text, **how):
    return yaml.safe_load(yaml.safe_dump({"a": text}, **how))["a"]


for mark in ("\x85", "\u2028"):
    text = f"x{mark}y"
    readable, escaped = again(text, allow_unicode=True), again(text)
    print(f"U+{ord(mark):04X}: allow_unicode: {ascii(readable)}, else {ascii(escaped)}")
raise SystemExit(0 if again("x\x85y", allow_unicode=True) != "x\x85y" == again("x\x85y") else 1)
PYTHON
