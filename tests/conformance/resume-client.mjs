// Drives an echo server (ws-server.mjs) with the JavaScript client on npm `ws`.
//
//   node resume-client.mjs URL [URL... GATEWAY]
//
// With one URL it is the server's own, and the client has to do as a plain WebSocket. With more they are relays
// and their gateway: sessions are then broken under way, and go on. NODE_EXTRA_CA_CERTS names the relays'
// authority. Prints one line a step and exits 0, or says what differed and exits 1.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import WebSocket from "ws";
import { AntipodeWebSocket } from "../../node/client-js/src/index.js";

const isRelayed = process.argv.length > 3;
const candidates = process.argv.slice(2, isRelayed ? -1 : undefined);
const gateway = process.argv.at(-1);
setTimeout(() => fail(new Error("took longer than two minutes")), 120_000).unref();

/** Real sockets, to be broken. */
let made = [];
class Breakable extends WebSocket {
  constructor(url, protocols) {
    super(url, protocols, { maxPayload: 0 });
    made.push(this);
  }
}

/** The next event of a type. */
function once(socket, type) {
  return new Promise((resolve) => socket.addEventListener(type, resolve, { once: true }));
}

async function open(path, protocols = []) {
  made = [];
  const options = { candidates, WebSocket: Breakable };
  const socket = new AntipodeWebSocket(candidates[0] + path, protocols, options);
  socket.binaryType = "arraybuffer";
  const opened = once(socket, "open");
  const failed = once(socket, "close").then(({ code }) => assert.fail(`closed with ${code}`));
  await Promise.race([opened, failed]);
  failed.catch(() => {});
  return socket;
}

async function close(socket, code, reason) {
  const closed = once(socket, "close");
  socket.close(code, reason);
  return closed;
}

async function echo(socket, payload) {
  const answer = once(socket, "message");
  socket.send(payload);
  const { data } = await answer;
  assert.equal(typeof data === "string", typeof payload === "string", "text stays text");
  assert.equal(data.length ?? data.byteLength, payload.length);
  assert.ok(Buffer.from(payload).equals(Buffer.from(data)), "the echo is what was sent");
}

/** Sends numbers and expects them back, each once and in order; `disturb(n)` happens under way. */
async function count(socket, total, disturb) {
  const seen = [];
  let done;
  const all = new Promise((resolve) => (done = resolve));
  socket.addEventListener("message", ({ data }) => {
    if (seen.push(Number(data)) === total) done();
  });
  for (let n = 0; n < total; n += 1) {
    socket.send(String(n));
    await new Promise((resolve) => setTimeout(resolve, 2));
    disturb(n);
  }
  await all;
  await new Promise((resolve) => setTimeout(resolve, 100));
  assert.deepEqual(seen, [...Array(total).keys()]);
}

const steps = {
  async "text and binary of many lengths"() {
    const socket = await open("/");
    for (const payload of ["", "hello", "héllo wörld ☃ 🌏", randomBytes(0), randomBytes(1)]) {
      await echo(socket, payload);
    }
    for (const length of [125, 126, 16_383, 16_384, 16_385, 65_535, 65_536, 1 << 20, 16_000_000]) {
      await echo(socket, randomBytes(length));
    }
    assert.equal(socket.extensions, "");
    assert.equal((await close(socket, 1000)).wasClean, true);
  },
  async "the subprotocol is the server's choice"() {
    const socket = await open("/", ["chat", "other"]);
    assert.equal(socket.protocol, "chat");
    await close(socket, 1000);
  },
  async "bufferedAmount comes to rest"() {
    const socket = await open("/");
    socket.send(randomBytes(1_000_000));
    assert.ok(socket.bufferedAmount >= 1_000_000);
    await once(socket, "message");
    assert.equal(socket.bufferedAmount, 0);
    await close(socket);
  },
  async "the client's close code and reason are answered"() {
    const socket = await open("/?closed-by=client");
    const { code, reason, wasClean } = await close(socket, 4321, "client says bye");
    assert.deepEqual([code, reason, wasClean], [4321, "client says bye", true]);
  },
  async "the server's close code and reason arrive"() {
    const socket = await open("/close?code=4001&reason=server%20says%20bye");
    const { code, reason, wasClean } = await once(socket, "close");
    assert.deepEqual([code, reason, wasClean], [4001, "server says bye", true]);
  },
  async "numbers come back once and in order"() {
    const socket = await open("/");
    await count(socket, 200, () => {});
    await close(socket, 1000);
  },
};

const relayedSteps = {
  async "the gateway says where to go, and where to go on"() {
    const target = "wss://127.0.0.1:9/chat?room=1"; // Nobody is there.
    const options = { gateway, WebSocket: Breakable };
    const socket = new AntipodeWebSocket(target, [], options);
    await once(socket, "open");
    const relays = candidates.map((candidate) => `${candidate}/chat?room=1`);
    assert.ok(relays.includes(socket.relay), socket.relay);
    const resumed = once(socket, "resumed");
    made.at(-1).terminate();
    const { detail } = await resumed;
    assert.ok(relays.includes(detail.relay), detail.relay);
    await close(socket, 1000);
  },
  async "broken again and again, numbers still come back once and in order"() {
    const socket = await open("/");
    const told = { detached: 0, resumed: 0 };
    for (const type of Object.keys(told)) socket.addEventListener(type, () => (told[type] += 1));
    await count(socket, 1000, (n) => {
      if (n % 100 === 50 && told.detached === told.resumed) made.at(-1).terminate();
    });
    assert.ok(told.resumed >= 3, `${told.resumed} resumes`);
    assert.equal(told.detached, told.resumed);
    await close(socket, 1000);
  },
  async "broken in the middle of a large message"() {
    const socket = await open("/");
    const payload = randomBytes(8_000_000);
    const answer = once(socket, "message");
    socket.send(payload);
    for (let times = 0; times < 3; times += 1) {
      await new Promise((resolve) => setTimeout(resolve, 60));
      made.at(-1).terminate();
    }
    const { data } = await answer;
    assert.ok(payload.equals(Buffer.from(data)));
    await close(socket, 1000);
  },
  async "it goes on at another relay"() {
    const socket = await open("/");
    const first = socket.relay;
    const resumed = once(socket, "resumed");
    made.at(-1).terminate();
    const { detail } = await resumed;
    assert.notEqual(detail.relay, first);
    assert.equal(detail.relay, socket.relay);
    assert.ok(detail.downtime < 2000, `${detail.downtime} ms`);
    await echo(socket, "still here");
    await close(socket, 1000);
  },
};

function fail(error) {
  console.error(error.stack);
  process.exit(1);
}

try {
  for (const [name, step] of Object.entries({ ...steps, ...(isRelayed ? relayedSteps : {}) })) {
    const from = performance.now();
    await step();
    console.log(`ok: ${name} (${Math.round(performance.now() - from)} ms)`);
  }
} catch (error) {
  fail(error);
}
process.exit(0);
