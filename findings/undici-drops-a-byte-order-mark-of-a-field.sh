#!/bin/sh
# undici 7.16.0 (npm), the fetch of Node.js, seen on 2026-11-30.
#
# The value of a field of multipart/form-data is its bytes in "UTF-8 decode without BOM" (fetch.spec.whatwg.org, "multipart/form-data
# parser"), which keeps a byte order mark as U+FEFF (encoding.spec.whatwg.org), and so it is in the same form as
# application/x-www-form-urlencoded. formData() of undici takes it away from a field of multipart/form-data.
#
# Output seen:
#   multipart 5, urlencoded 6
#
# Exits with 0 while this is so, with 1 when it has changed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --no-audit --no-fund undici@7.16.0 >/dev/null
cat >read.mjs <<'JS'
import {Response} from 'undici'
const text = '\ufeffalice'
const read = async (body, type) =>
  (await new Response(body, {headers: {'content-type': type}}).formData()).get('owner').length
const part = 'Content-Disposition: form-data; name="owner"'
const multipart = await read(`--b\r\n${part}\r\n\r\n${text}\r\n--b--\r\n`, 'multipart/form-data; boundary=b')
const urlencoded = await read(`owner=${encodeURIComponent(text)}`, 'application/x-www-form-urlencoded')
console.log(`multipart ${multipart}, urlencoded ${urlencoded}`)
process.exit(multipart === 5 && urlencoded === 6 ? 0 : 1)
JS
node read.mjs
