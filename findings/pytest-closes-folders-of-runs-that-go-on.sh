#!/bin/sh
# pytest 9.2.0 (PyPI), Python 3.11, seen on 2026-11-30.
#
# A test that starts a server as another user (PostgreSQL refuses root) opens the folders above its `tmp_path` to it, with
# chmod 711. All runs of a user have their temporary folders below one, pytest-of-USER, and each run that asks for one takes
# from that what others may do with it: the server of the run that goes on cannot reach its files any more. Where the test
# itself starts pytest, or somebody runs another suite, that comes and goes with the order of tests.
#
# Output seen:
#   opened: 711
#   while the other run goes on: 700
#
# Exits with 0 while this is so, with 1 when it has changed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check pytest==9.2.0
mkdir temp one two
export PYTEST_DEBUG_TEMPROOT="$folder/temp" PYTEST_DISABLE_PLUGIN_AUTOLOAD=1
cat >one/test_one.py <<'PYTHON'
import subprocess
import sys


def test_opens_its_folders(tmp_path):
    shared = tmp_path.parents[1]
    assert shared.name.startswith("pytest-of-")
    shared.chmod(0o711)
    print(f"opened: {shared.stat().st_mode & 0o777:o}")
    subprocess.run([sys.executable, "-m", "pytest", "-q", "../two"], check=True, capture_output=True)
    print(f"while the other run goes on: {shared.stat().st_mode & 0o777:o}")
PYTHON
cat >two/test_two.py <<'PYTHON'
def test_has_a_folder(tmp_path):
    assert tmp_path.is_dir()
PYTHON
(cd one && ../venv/bin/python -m pytest -q -s -p no:cacheprovider .) | grep -o -E '(opened|while the other run goes on): [0-7]+' | tee found
cat >expected <<'TEXT'
opened: 711
while the other run goes on: 700
TEXT
cmp -s found expected
