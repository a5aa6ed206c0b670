// Reads forms as Express does, with busboy, multer's parser, and qs, which body-parser has: a line of JSON each, in and out.
const busboy = require("busboy");
const qs = require("qs");
const readline = require("readline");

async function byBusboy(kind, body) {
  return new Promise((resolve) => {
    const fields = {}, files = [];
    let parser;
    try {
      parser = busboy({ headers: { "content-type": kind } });
    } catch {
      return resolve(null);
    }
    const add = (name, text) => Object.hasOwn(fields, name) ? fields[name].push(text) : (fields[name] = [text]);
    parser.on("field", add);
    parser.on("file", (name, stream) => { files.push(name); stream.resume(); });
    parser.on("error", () => resolve(null));
    parser.on("close", () => resolve({ fields, files }));
    parser.end(body);
  });
}

function byQs(kind, body) {
  if (!/^application\/x-www-form-urlencoded/i.test(kind)) return null;
  const found = qs.parse(body.toString("latin1"), { arrayLimit: 1000, parameterLimit: 1000, allowPrototypes: true });
  return { fields: found, files: [] };
}

async function main() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const { kind, body } = JSON.parse(line);
    const bytes = Buffer.from(body, "base64");
    console.log(JSON.stringify({ busboy: await byBusboy(kind, bytes), qs: byQs(kind, bytes) }));
  }
}

main();
