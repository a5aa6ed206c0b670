#!/bin/sh
# Werkzeug 3.1.9 (PyPI), the forms of Flask, seen on 2026-12-01.
#
# A browser sends the texts and the file names of a multipart form in the encoding of its page, or of its `accept-charset`
# (html.spec.whatwg.org, "Multipart form data"). If that is windows-1252, Werkzeug puts U+FFFD where a text is not UTF-8. One
# such byte in a file name, café.txt, takes everything away: `request.form` and `request.files` are empty, the fields before
# that file are missing too, and nothing says so. `parse_form_data(…, silent=False)` raises; a request doesn't ask for that.
#
# Output seen:
#   text utf-8, file name utf-8: form {'by': 'René'}, files ['café.txt']
#   text windows-1252, file name utf-8: form {'by': 'Ren\ufffd'}, files ['café.txt']
#   text utf-8, file name windows-1252: form {}, files []
#
# Exits with 0 while this is so, with 1 when it has changed. Needs python3 with venv.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check werkzeug==3.1.9
cat >form.py <<'PYTHON'
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request


def read(text, name):
    parts = (
        b'Content-Disposition: form-data; name="by"\r\n\r\n' + "René".encode(text),
        b'Content-Disposition: form-data; name="file"; filename="' + "café.txt".encode(name) + b'"\r\n'
        b"Content-Type: text/plain\r\n\r\nx",
    )
    body = b"".join(b"--b\r\n" + part + b"\r\n" for part in parts) + b"--b--\r\n"
    request = Request(EnvironBuilder(method="POST", data=body, content_type="multipart/form-data; boundary=b").get_environ())
    return request.form.to_dict(), [file.filename for file in request.files.values()]


for text, name in (("utf-8", "utf-8"), ("windows-1252", "utf-8"), ("utf-8", "windows-1252")):
    form, files = read(text, name)
    shown = str(form).replace("\ufffd", r"\ufffd")
    print(f"text {text}, file name {name}: form {shown}, files {files}")
PYTHON
cat >expected <<'TEXT'
text utf-8, file name utf-8: form {'by': 'René'}, files ['café.txt']
text windows-1252, file name utf-8: form {'by': 'Ren\ufffd'}, files ['café.txt']
text utf-8, file name windows-1252: form {}, files []
TEXT
PYTHONUTF8=1 venv/bin/python form.py | tee found
cmp -s expected found || { echo "this has changed" >&2; exit 1; }
