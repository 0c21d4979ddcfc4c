// Writes dist/sw.js: the list of the files in dist/ in front of the service worker's text.
//
//   node xtask/offline.mjs DIST
//
// The page's files and its first student are fetched when the worker is installed. What is large and not needed for a chat (other
// students, the build that teaches, sample traces) is fetched when it is first asked for, or all at once by a button.
import { createHash } from "node:crypto";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join, relative, sep } from "node:path";
import { fileURLToPath } from "node:url";

const dist = process.argv[2];
const source = join(fileURLToPath(import.meta.url), "..", "..", "sw.js");
const [{ file: first } = {}] = JSON.parse(readFileSync(join(dist, "students", "students.json"), "utf8"));

const below = (folder) => readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
  const path = join(folder, entry.name);
  return entry.isDirectory() ? below(path) : [path];
});

const later = (path) => path.startsWith("www/samples/") || path.startsWith("wasm/understudy_teach")
  || (path.startsWith("students/") && ![`students/${first}`, "students/students.json"].includes(path));

const files = {};
for (const path of below(dist).map((path) => relative(dist, path).split(sep).join("/")).sort()) {
  // Types are for editors; drafts begin with a dot.
  if (path === "sw.js" || path.endsWith(".d.ts") || /(^|\/)\./.test(path)) continue;
  const bytes = readFileSync(join(dist, path));
  files[path] = { bytes: bytes.length, hash: createHash("sha256").update(bytes).digest("base64"), ...(later(path) ? {} : { first: true }) };
}
writeFileSync(join(dist, "sw.js"), `self.BUILD = ${JSON.stringify({ files })};\n${readFileSync(source, "utf8")}`);
