// What nodes serve is what src/ says.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { bundle } from "../bundle.mjs";

test("dist is up to date", () => {
  const dist = readFileSync(new URL("../dist/antipode-client.js", import.meta.url), "utf8");
  assert.equal(dist, bundle(), "run `npm run bundle` in node/client-js, and commit");
});

test("the bundle exports what the modules do", async () => {
  const whole = await import("../dist/antipode-client.js");
  const modules = await import("../src/index.js");
  assert.deepEqual(Object.keys(whole), Object.keys(modules));
  assert.equal(whole.default, whole.AntipodeWebSocket);
});
