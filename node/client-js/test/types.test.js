// index.d.ts, by the compiler: what applications write is taken, and what they should not is not.
// And what the declarations promise is there.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import * as client from "../src/index.js";
import { makeLab } from "./lab/index.js";

const path = (relative) => fileURLToPath(new URL(relative, import.meta.url));
const TSC = path("../../../tests/conformance/node_modules/typescript/bin/tsc");

const skip = existsSync(TSC) ? false : "needs tests/conformance/install";

test("an application compiles", { skip }, () => {
  const options = ["--noEmit", "--strict", "--target", "es2022", "--lib", "es2022,dom,dom.iterable",
    "--module", "nodenext", "--exactOptionalPropertyTypes"];
  const { status, stdout } = spawnSync(process.execPath, [TSC, ...options, path("types/use.ts")], {
    cwd: path(".."),
    encoding: "utf8",
  });
  assert.equal(status, 0, stdout);
});

test("what is declared is there", () => {
  assert.deepEqual(Object.keys(client).sort(), ["AntipodeWebSocket", "default"]);
  const { socket } = makeLab().connect();
  for (const name of ["url", "readyState", "bufferedAmount", "extensions", "protocol", "binaryType",
    "relay", "send", "close", "onopen", "onmessage", "onerror", "onclose", "ondetached",
    "onresumed", "onlost"]) {
    assert.ok(name in socket, name);
  }
});
