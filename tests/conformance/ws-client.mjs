// Drives an echo server with the npm `ws` client.
//
//   node ws-client.mjs URL [--large BYTES]
//
// URL is the server's root, such as wss://localhost:8443; NODE_EXTRA_CA_CERTS names its authority.
// Prints one line a step and exits 0, or says what differed and exits 1.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { parseArgs } from "node:util";
import WebSocket from "ws";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { large: { type: "string", default: String(64 << 20) } },
});
const base = positionals[0];
const large = Number(values.large);
setTimeout(() => fail(new Error("took longer than two minutes")), 120_000).unref();

async function open(path, options = {}) {
  const socket = new WebSocket(base + path, [], { maxPayload: 0, ...options });
  const early = once(socket, "message").catch(() => {});
  await once(socket, "open");
  return { socket, early };
}

async function close(socket, code, reason) {
  const closed = once(socket, "close");
  socket.close(code, reason);
  const [seen, text] = await closed;
  return [seen, text.toString()];
}

async function echo(socket, payload, options = {}) {
  const answer = once(socket, "message");
  socket.send(payload, options);
  const [message, isBinary] = await answer;
  assert.equal(isBinary, typeof payload !== "string", "text stays text, binary stays binary");
  const sent = Buffer.from(payload);
  assert.equal(message.length, sent.length);
  assert.ok(sent.equals(message), "the echo is what was sent");
}

const steps = {
  async "text and binary, empty and short"() {
    const { socket } = await open("/");
    for (const payload of ["", "hello", "héllo wörld ☃ 🌏", Buffer.alloc(0), randomBytes(1)]) {
      await echo(socket, payload);
    }
    for (const length of [125, 126, 127, 65535, 65536]) await echo(socket, randomBytes(length));
    await close(socket, 1000);
  },
  async "permessage-deflate is agreed end to end"() {
    const { socket } = await open("/");
    assert.match(socket.extensions, /permessage-deflate/);
    await echo(socket, "antipode ".repeat(50_000));
    await close(socket, 1000);
  },
  async "without permessage-deflate"() {
    const { socket } = await open("/", { perMessageDeflate: false });
    assert.equal(socket.extensions, "");
    await echo(socket, "plain");
    await close(socket, 1000);
  },
  async "1 MiB"() {
    const { socket } = await open("/", { perMessageDeflate: false });
    await echo(socket, randomBytes(1 << 20));
    await close(socket, 1000);
  },
  async "one large message"() {
    const { socket } = await open("/", { perMessageDeflate: false });
    await echo(socket, randomBytes(large));
    await close(socket, 1000);
  },
  async "fragments"() {
    const { socket } = await open("/", { perMessageDeflate: false });
    const answer = once(socket, "message");
    for (let n = 0; n < 100; n += 1) socket.send(`part ${n}, `, { fin: false });
    socket.send("end", { fin: true });
    const [message] = await answer;
    assert.ok(message.toString().startsWith("part 0, ") && message.toString().endsWith("end"));
    await close(socket, 1000);
  },
  async "ping is answered"() {
    const { socket } = await open("/");
    const pong = once(socket, "pong");
    socket.ping("are you there");
    assert.equal((await pong)[0].toString(), "are you there");
    await close(socket, 1000);
  },
  async "a hundred messages keep their order"() {
    const { socket } = await open("/");
    const seen = [];
    const all = new Promise((resolve) => {
      socket.on("message", (message) => {
        if (seen.push(Number(message)) === 100) resolve();
      });
    });
    for (let n = 0; n < 100; n += 1) socket.send(String(n));
    await all;
    assert.deepEqual(seen, [...Array(100).keys()]);
    await close(socket, 1000);
  },
  async "the client's close code and reason are answered"() {
    const { socket } = await open("/?closed-by=client");
    assert.deepEqual(await close(socket, 4321, "client says bye"), [4321, "client says bye"]);
  },
  async "the server's close code and reason arrive"() {
    const socket = new WebSocket(`${base}/close?code=4001&reason=server%20says%20bye`);
    const [code, reason] = await once(socket, "close");
    assert.deepEqual([code, reason.toString()], [4001, "server says bye"]);
  },
};

function fail(error) {
  console.error(error.stack);
  process.exit(1);
}

try {
  for (const [name, step] of Object.entries(steps)) {
    const from = performance.now();
    await step();
    console.log(`ok: ${name} (${Math.round(performance.now() - from)} ms)`);
  }
} catch (error) {
  fail(error);
}
process.exit(0);
