// Puts the modules of src/ into one file, dist/antipode-client.js, for pages without a build step;
// nodes serve it. A test says if it is out of date.
//
//   node bundle.mjs
//
// The modules keep to what this understands: imports by name, exports of declarations, and no two
// names alike at the top level.

import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const IMPORT = /^import\s+\{([^}]*)\}\s+from\s+"\.\/([\w-]+\.js)";\n/gm;
const EXPORT = /^export\s+(?=(?:async\s+)?(?:class|const|function)\s)/gm;

const source = (name) => readFileSync(new URL(`src/${name}`, import.meta.url), "utf8");

/** The bundle's text. */
export function bundle() {
  const modules = [];
  visit("index.js", new Set(), modules);
  const head = "// antipode-client, MIT OR Apache-2.0. Made by node/client-js/bundle.mjs.\n";
  const text = [head, ...modules].join("\n");
  const names = [...text.matchAll(/^(?:async )?(?:class|const|let|function) (\w+)/gm)];
  const seen = new Set();
  for (const [, name] of names) {
    if (seen.has(name)) throw new Error(`two things are called ${name}`);
    seen.add(name);
  }
  return text;
}

/** Appends a module after everything that it imports. */
function visit(name, visited, modules) {
  if (visited.has(name)) return;
  visited.add(name);
  const text = source(name);
  for (const [, names, from] of text.matchAll(IMPORT)) {
    if (/\sas\s/.test(names)) throw new Error(`${name} renames an import`);
    visit(from, visited, modules);
  }
  if (name === "index.js") {
    modules.push("export { AntipodeWebSocket, AntipodeWebSocket as default };\n");
    return;
  }
  const body = text.replace(IMPORT, "").replace(EXPORT, "");
  if (/^\s*(import|export)\b/m.test(body)) throw new Error(`${name} imports in a way of its own`);
  modules.push(body);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  writeFileSync(new URL("dist/antipode-client.js", import.meta.url), bundle());
}
