// The rules of the house for this folder: tests/tests/tidy.rs has them for Rust.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const FILE_LINES_MAX = 400;
const FUNCTION_LINES_MAX = 70;
const LINE_CHARS_MAX = 100;

const folder = fileURLToPath(new URL("..", import.meta.url));
const files = readdirSync(folder, { recursive: true })
  .filter((path) => /\.(js|mjs|ts)$/.test(path) && !/^(dist|node_modules)\//.test(path))
  .map((path) => ({ path, lines: readFileSync(folder + path, "utf8").split("\n") }));

test("there is something to read", () => {
  assert.ok(files.length > 30, `${files.length} files`);
});

test("files are short, and say what they are", () => {
  for (const { path, lines } of files) {
    assert.ok(lines.length <= FILE_LINES_MAX, `${path} has ${lines.length} lines`);
    assert.match(lines[0], /^(\/\/ |\/\*\* )/, `${path} does not begin with what it is`);
  }
});

test("lines are short", () => {
  for (const { path, lines } of files) {
    lines.forEach((line, at) => {
      assert.ok([...line].length <= LINE_CHARS_MAX, `${path}:${at + 1} is too long`);
      assert.ok(!/\s$/.test(line), `${path}:${at + 1} ends in a space`);
    });
  }
});

test("functions are short", () => {
  for (const { path, lines } of files) {
    lines.forEach((line, at) => {
      if (!line.endsWith("{") || !line.includes("(")) return;
      // It ends at the first line that closes something as far in as it began.
      const closes = new RegExp(`^${line.match(/^ */)[0]}[})]`);
      const length = lines.slice(at + 1).findIndex((other) => closes.test(other));
      assert.ok(length <= FUNCTION_LINES_MAX, `${path}:${at + 1} is ${length} lines long`);
    });
  }
});

test("the client has no dependencies, and imports only what is beside it", () => {
  const manifest = JSON.parse(readFileSync(`${folder}package.json`, "utf8"));
  assert.deepEqual(Object.keys(manifest).filter((key) => /dependencies$/i.test(key)), []);
  for (const { path, lines } of files.filter((file) => file.path.startsWith("src/"))) {
    for (const [, from] of lines.join("\n").matchAll(/from "([^"]+)"/g)) {
      assert.match(from, /^\.\/[\w-]+\.js$/, `${path} imports ${from}`);
    }
  }
});
