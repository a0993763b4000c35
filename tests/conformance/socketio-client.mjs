// Drives socketio-server.mjs with socket.io's own client and its defaults.
//
//   node socketio-client.mjs URL
//
// URL is the server's root, such as https://localhost:8443; NODE_EXTRA_CA_CERTS names its authority.
// Prints one line a step and exits 0, or says what differed and exits 1.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { io } from "socket.io-client";

const base = process.argv[2];
setTimeout(() => fail(new Error("took longer than a minute")), 60_000).unref();

async function open(options = {}) {
  const socket = io(base, { reconnection: false, forceNew: true, ...options });
  socket.firstTransport = socket.io.engine.transport.name;
  const refused = once(socket, "connect_error").then(([error]) => Promise.reject(error));
  await Promise.race([once(socket, "connect"), refused]);
  return socket;
}

async function upgraded(socket) {
  if (socket.io.engine.transport.name !== "websocket") await once(socket.io.engine, "upgrade");
}

const steps = {
  async "starts with long polling and upgrades"() {
    const socket = await open();
    assert.equal(socket.firstTransport, "polling");
    await upgraded(socket);
    assert.equal(await socket.emitWithAck("transport"), "websocket");
    socket.disconnect();
  },
  async "acknowledgements, before and after the upgrade"() {
    const socket = await open();
    assert.deepEqual(await socket.emitWithAck("echo", { n: 1 }), { n: 1 });
    await upgraded(socket);
    assert.deepEqual(await socket.emitWithAck("echo", ["ö", null]), ["ö", null]);
    socket.disconnect();
  },
  async "binary"() {
    const socket = await open();
    for (const length of [0, 1, 70_000, 1 << 20]) {
      const sent = randomBytes(length);
      assert.ok(sent.equals(await socket.emitWithAck("echo", sent)), `${length} bytes`);
    }
    socket.disconnect();
  },
  async "long polling only"() {
    const socket = await open({ transports: ["polling"] });
    for (let n = 0; n < 20; n += 1) assert.equal(await socket.emitWithAck("echo", n), n);
    const sent = randomBytes(200_000);
    assert.ok(sent.equals(await socket.emitWithAck("echo", sent)));
    assert.equal(await socket.emitWithAck("transport"), "polling");
    socket.disconnect();
  },
  async "websocket only"() {
    const socket = await open({ transports: ["websocket"] });
    assert.equal(await socket.emitWithAck("echo", "direct"), "direct");
    socket.disconnect();
  },
  async "a broadcast reaches ten clients"() {
    const sockets = await Promise.all(Array.from({ length: 10 }, () => open()));
    await Promise.all(sockets.map((socket) => socket.emitWithAck("join", "room")));
    const heard = Promise.all(sockets.map((socket) => once(socket, "said")));
    sockets[0].emit("say", "room", "to all");
    for (const [text] of await heard) assert.equal(text, "to all");
    for (const socket of sockets) socket.disconnect();
  },
  async "extra headers arrive"() {
    const socket = await open({ extraHeaders: { authorization: "Bearer abc" } });
    const headers = await socket.emitWithAck("headers");
    assert.equal(headers.authorization, "Bearer abc");
    socket.disconnect();
  },
  async "the server's disconnect arrives"() {
    const socket = await open();
    await upgraded(socket);
    const gone = once(socket, "disconnect");
    socket.emit("leave");
    assert.equal((await gone)[0], "io server disconnect");
  },
};

function fail(error) {
  console.error(error.stack ?? error);
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
