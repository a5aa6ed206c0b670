#!/bin/sh
# jmespath 1.1.0 (Python), seen on 2026-11-29.
#
# An ordering operator of JMESPath takes numbers; for anything else the specification gives null
# (jmespath.org/specification.html, "Ordering Operators"). The library does that for null, lists and objects. For a text
# beside a number it raises TypeError, which is no JMESPathError, so `except JMESPathError` lets it through. In a filter one
# text among the items takes the answer for all of them.
#
# Output seen:
#   list  {'n': [1]}: None
#   null  {'n': None}: None
#   text  {'n': '5'}: TypeError, not a JMESPathError
#   filter over one number and one text: TypeError, not a JMESPathError
#
# Exits with 0 while this is so, with 1 when it has changed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" --quiet --disable-pip-version-check install jmespath==1.1.0
"$folder/env/bin/python" - <<'PYTHON'
import jmespath
from jmespath.exceptions import JMESPathError


def tried(expression, document):
    try:
        return repr(jmespath.search(expression, document))
    except JMESPathError as error:
        return f"{type(error).__name__}, a JMESPathError"
    except Exception as error:
        return f"{type(error).__name__}, not a JMESPathError"


seen = {name: tried("n > `3`", {"n": value}) for name, value in (("list", [1]), ("null", None), ("text", "5"))}
seen["filter"] = tried("items[?n > `3`].id", {"items": [{"id": 1, "n": 5}, {"id": 2, "n": "5"}]})
print("jmespath", jmespath.__version__)
for name, result in seen.items():
    print(f"  {name}: {result}")
raised = "TypeError, not a JMESPathError"
raise SystemExit(seen != {"list": "None", "null": "None", "text": raised, "filter": raised})
PYTHON
