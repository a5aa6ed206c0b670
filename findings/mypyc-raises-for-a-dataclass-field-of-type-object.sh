#!/bin/sh
# mypyc 2.4.1 (PyPI: mypy, setuptools 83.0.0), Python 3.11, seen on 2026-11-30.
#
# mypyc compiles a module with a dataclass that has a field of the type `object`, and mypy --strict finds nothing in it. The
# compiled module can't be imported: it looks the type up by its name and doesn't find that name among the builtins. A field
# of the type `int` is found. The same module runs as it is.
#
# Output seen:
#   as it is: Box(value=1)
#   compiled, int: Box(value=1)
#   compiled, object: KeyError: 'object'
#
# Exits with 0 while this is so, with 1 when it has changed. Needs a C compiler and the headers of Python.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check mypy==2.4.1 setuptools==83.0.0
box() {
    printf 'from dataclasses import dataclass\n\n\n@dataclass(frozen=True)\nclass Box:\n    value: %s\n' "$1" >box.py
}
seen() {
    echo "$1: $(venv/bin/python -c 'import box; print(box.Box(1))' 2>&1 | tail -1)"
}
compiled() {
    box "$1"
    rm -f box.*.so
    venv/bin/mypyc --strict box.py >mypyc.log 2>&1 || { cat mypyc.log; exit 1; }
    seen "compiled, $1"
}
box object
{ seen "as it is"; compiled int; compiled object; } | tee found
cat >expected <<'TEXT'
as it is: Box(value=1)
compiled, int: Box(value=1)
compiled, object: KeyError: 'object'
TEXT
cmp -s found expected
