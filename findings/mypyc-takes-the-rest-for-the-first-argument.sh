#!/bin/sh
# mypyc 2.4.1 (PyPI: mypy, setuptools 83.0.0), Python 3.11, seen on 2026-11-30.
#
# `lambda *rest: "ok"` where a Callable[[int, str], str] is expected: mypy --strict finds nothing in it, and Python gives the
# lambda a tuple. mypyc takes the tuple for the first argument, an int, and writes C that the compiler refuses, which it is told
# to do with each warning. A function with `*rest: object` in its place compiles, and so does the lambda with two names.
#
# Output seen:
#   as it is: ok
#   lambda one, two: ok
#   def all_of(*rest: object): ok
#   lambda *rest: makes integer from pointer without a cast
#
# Exits with 0 while this is so, with 1 when it has changed. Needs gcc, English messages and the headers of Python.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check mypy==2.4.1 setuptools==83.0.0
rest() {
    cat >rest.py <<PYTHON
from collections.abc import Callable


def all_of(*rest: object) -> str:
    return "ok"


def told(tell: Callable[[int, str], str] = $1) -> str:
    return tell(1, "x")
PYTHON
}
said() {
    venv/bin/python -c 'import rest; print(rest.told())'
}
compiled() {
    rest "$1"
    rm -rf build rest.*.so
    if LC_ALL=C venv/bin/mypyc --strict rest.py >mypyc.log 2>&1; then said; else
        grep -o -m1 'makes integer from pointer without a cast' mypyc.log
    fi
}
{
    rest 'lambda *rest: "ok"'
    echo "as it is: $(said)"
    echo "lambda one, two: $(compiled 'lambda one, two: "ok"')"
    echo "def all_of(*rest: object): $(compiled all_of)"
    echo "lambda *rest: $(compiled 'lambda *rest: "ok"')"
} | tee found
cat >expected <<'TEXT'
as it is: ok
lambda one, two: ok
def all_of(*rest: object): ok
lambda *rest: makes integer from pointer without a cast
TEXT
cmp -s found expected
