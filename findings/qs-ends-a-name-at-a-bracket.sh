#!/bin/sh
# qs 6.16.2 (npm), the parser of Express 4, seen on 2026-11-29.
#
# A parameter's name ends at its first "=" (url.spec.whatwg.org, "application/x-www-form-urlencoded parsing"), and URLSearchParams
# reads it so. qs looks for the first "]=" before it looks for "=": a value that has "]=" in it becomes a part of the name, and
# the parameter is not there. A name in brackets is read as the name without them.
#
# Output seen:
#   note=[a]=b   URLSearchParams note   qs note=
#   note=a]=b   URLSearchParams note   qs note=a]
#   [note]=b   URLSearchParams [note]   qs note
#
# Exits with 0 while this is so, with 1 when it has changed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --no-audit --no-fund qs@6.16.2 >/dev/null
node -e '
const qs = require("qs");
console.log("qs", require("qs/package.json").version);
const seen = ["note=[a]=b", "note=a]=b", "[note]=b"].map(query => {
  const names = [[...new URLSearchParams(query).keys()].join(), Object.keys(qs.parse(query)).join()];
  console.log(" ", query, "  URLSearchParams", names[0], "  qs", names[1]);
  return names.join(" ");
});
const was = ["note note=", "note note=a]", "[note] note"];
process.exit(JSON.stringify(seen) === JSON.stringify(was) ? 0 : 1);
'
