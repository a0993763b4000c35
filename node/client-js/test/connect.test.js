// From a URL to an open socket.

import assert from "node:assert/strict";
import { test } from "node:test";

import { encode } from "../src/codec.js";
import { makeLab, texts, types } from "./lab/index.js";

const hostsOf = (upgrades) => upgrades.map(({ url }) => new URL(url).host);

test("relays are tried in their order, with the path and query of the URL", async () => {
  const lab = makeLab();
  await lab.open({ url: "wss://www.example/chat?room=1" });
  assert.deepEqual(lab.core.upgrades, [
    { url: "wss://a.example/chat?room=1", protocols: ["antipode.resume.v1"] },
  ]);
});

test("a relay that refuses is passed at once, a silent one after a moment", async () => {
  for (const [way, moment] of [
    ["down", 60],
    ["silent", 1060],
  ]) {
    const lab = makeLab();
    lab.network.ways.set("a.example", way);
    const { socket } = lab.connect();
    await lab.clock.advance(moment);
    assert.equal(socket.readyState, 1, way);
    assert.equal(socket.relay, "wss://b.example/chat?room=1");
    await lab.clock.advance(10_000);
    assert.equal(lab.network.openTo("a.example").length, 0, "the loser is closed");
  }
});

test("the loser of a race is no session of the application's", async () => {
  const lab = makeLab();
  lab.network.latencyMs = 600; // Slower than the moment that the first one has for itself.
  const { socket, seen } = lab.connect();
  await lab.clock.advance(5000);
  const [first, second] = lab.core.sessions;
  assert.equal(lab.core.sessions.length, 2);
  assert.equal(socket.relay, "wss://a.example/chat?room=1");
  assert.ok(first.machine.ended === undefined && first.frames.length > 0, "confirmed");
  assert.deepEqual(second.frames, [], "never acknowledged");
  assert.ok(second.isGone, "and so given up by the core");
  assert.deepEqual(types(seen), ["open"]);
});

test("nobody there: as a browser's socket that can't be opened", async () => {
  const lab = makeLab();
  for (const host of ["a", "b", "c"]) lab.network.ways.set(`${host}.example`, "down");
  const { socket, seen } = lab.connect();
  await lab.clock.advance(10_000);
  assert.deepEqual(types(seen), ["error", "close"]);
  const { code, reason, wasClean, state } = seen[1];
  assert.deepEqual([code, reason, wasClean, state], [1006, "", false, 3]);
  assert.equal(socket.relay, undefined);
  assert.equal(lab.clock.timers, 0);
});

test("without a word from anybody it ends all the same", async () => {
  const lab = makeLab();
  for (const host of ["a", "b", "c"]) lab.network.ways.set(`${host}.example`, "silent");
  const { seen } = lab.connect();
  await lab.clock.advance(2000 + 10_000 + 100);
  assert.deepEqual(types(seen), ["error", "close"]);
  lab.network.ways.clear();
  await lab.clock.advance(1000);
  assert.equal(lab.clock.timers, 0);
});

test("an application that waits for `open` misses nothing that came with it", async () => {
  for (const isEnabled of [true, false]) {
    const lab = makeLab({ hosts: ["a"] });
    const upgrade = (socket) => {
      // All in one turn, as npm's ws tells what came in one packet.
      socket.accept(isEnabled ? "antipode.resume.v1" : "chat");
      const welcome = { credit: 262_144, window_ms: 1000, ping_ms: 1000, core: "c" };
      const token = Uint8Array.of(1);
      if (isEnabled) socket.send(encode({ kind: "welcome", ...welcome, token, protocol: "chat" }));
      const numbers = { seq: 1, ack: 0, credit: 262_144 };
      const payload = new TextEncoder().encode("early");
      if (isEnabled) socket.send(encode({ kind: "chunk", ...numbers, frame: 0x81, payload }));
      else socket.send("early");
      socket.close(4000);
    };
    lab.network.relays.set("a.example", { upgrade });
    const { socket } = lab.connect({ protocols: ["chat"] });
    const heard = new Promise((resolve) => {
      socket.onopen = async () => {
        await null;
        socket.onmessage = ({ data }) => resolve(data);
      };
    });
    await lab.clock.advance(100);
    assert.equal(await Promise.race([heard, "nothing"]), "early");
  }
});

test("the subprotocol is the backend's choice among the offered ones", async () => {
  const lab = makeLab();
  lab.core.answer = (offered) => ({ protocol: offered[1] });
  const { socket } = await lab.open({ protocols: ["v1.chat", "v2.chat"] });
  assert.equal(socket.protocol, "v2.chat");
  assert.equal(socket.extensions, "");
  assert.deepEqual(lab.core.upgrades[0].protocols, ["v1.chat", "v2.chat", "antipode.resume.v1"]);
});

test("a choice that was not offered, or none where some were, is a failure", async () => {
  for (const [protocols, protocol] of [
    [["chat"], ""],
    [["chat"], "other"],
    [[], "other"],
  ]) {
    const lab = makeLab({ hosts: ["a"] });
    lab.core.answer = () => ({ protocol });
    const { seen } = await lab.open({ protocols });
    assert.deepEqual(types(seen), ["error", "close"], `${protocols} and ${protocol}`);
  }
});

test("a core without resume: a plain socket with the application's subprotocol", async () => {
  const lab = makeLab();
  lab.core.isEnabled = false;
  lab.core.answer = ([protocol]) => ({ protocol });
  const { socket, seen, session } = await lab.open({ protocols: "chat" });
  assert.equal(socket.protocol, "chat");
  socket.send("hello");
  session.socket.send("good day");
  session.socket.send(new Uint8Array([1, 2, 3]));
  await lab.clock.advance(100);
  assert.deepEqual(session.messages, ["hello"]);
  assert.equal(texts(seen)[0], "good day");
  assert.deepEqual(new Uint8Array(texts(seen)[1]), new Uint8Array([1, 2, 3]));
  socket.close(4000, "enough");
  await lab.clock.advance(100);
  assert.equal(session.closedWith, 4000);
  assert.deepEqual(types(seen), ["open", "message", "message", "close"]);
  assert.deepEqual([seen.at(-1).code, seen.at(-1).wasClean], [4000, true]);
});

test("a server that knows no subprotocol is asked again without", async () => {
  const lab = makeLab({ hosts: ["a"] });
  lab.core.isEnabled = false;
  const { socket, session } = await lab.open();
  assert.deepEqual(
    lab.core.upgrades.map(({ protocols }) => protocols),
    [["antipode.resume.v1"], []],
  );
  assert.equal(socket.protocol, "");
  socket.send("hello");
  await lab.clock.advance(100);
  assert.deepEqual(session.messages, ["hello"]);
});

test("a plain socket that breaks is a broken socket", async () => {
  const lab = makeLab({ hosts: ["a"] });
  lab.core.isEnabled = false;
  const { seen } = await lab.open();
  lab.network.reset("a.example");
  await lab.clock.advance(10_000);
  assert.deepEqual(types(seen), ["open", "error", "close"]);
  assert.deepEqual([seen.at(-1).code, seen.at(-1).wasClean], [1006, false]);
  assert.equal(lab.clock.timers, 0);
});

test("closed before it was open", async () => {
  for (const moment of [0, 15, 25]) {
    const lab = makeLab();
    lab.network.latencyMs = 20;
    const { socket, seen } = lab.connect();
    await lab.clock.advance(moment);
    socket.close();
    assert.equal(socket.readyState, 2);
    assert.deepEqual(seen, [], "not in the same turn");
    await lab.clock.advance(10_000);
    assert.deepEqual(types(seen), ["error", "close"]);
    assert.equal(seen[1].code, 1006);
    assert.equal(lab.clock.timers, 0);
    assert.ok(lab.network.sockets.every(({ readyState }) => readyState >= 2));
  }
});

test("closed before its welcome", async () => {
  const lab = makeLab({ hosts: ["a"] });
  const upgrade = (socket) => socket.accept("antipode.resume.v1");
  lab.network.relays.set("a.example", { upgrade });
  const { socket, seen } = lab.connect();
  await lab.clock.advance(50);
  socket.close();
  await lab.clock.advance(50);
  assert.deepEqual(types(seen), ["error", "close"]);
  assert.equal(lab.clock.timers, 0);
});

test("a signal closes", async () => {
  const lab = makeLab();
  const controller = new AbortController();
  const { seen, session } = await lab.open({ signal: controller.signal });
  controller.abort();
  await lab.clock.advance(200);
  assert.deepEqual(types(seen), ["open", "close"]);
  assert.equal(session.closedWith, 0, "a close without a code");

  const { seen: never } = await lab.open({ signal: AbortSignal.abort() });
  assert.deepEqual(types(never), ["error", "close"]);
});

test("a page that came encrypted never goes on in the open", async () => {
  const lab = makeLab({ hosts: [] });
  lab.network.relays.set("a.example", lab.core.relay);
  const candidates = ["ws://b.example", "https://b.example", "not a URL", "wss://a.example/edge/"];
  await lab.open({ url: "wss://a.example/chat", candidates });
  assert.deepEqual(hostsOf(lab.core.upgrades), ["a.example"]);
  assert.equal(lab.core.upgrades[0].url, "wss://a.example/edge/chat");
  const dialled = lab.network.sockets.map(({ url }) => url);
  assert.deepEqual(dialled, ["wss://a.example/edge/chat"], "the others are not even tried");
});

test("a server that refuses is asked again only where that can help", async () => {
  const lab = makeLab({ hosts: ["a"] });
  lab.core.answer = () => undefined;
  await lab.open({ protocols: ["chat"] });
  assert.equal(lab.core.upgrades.length, 1);
  await lab.open();
  assert.equal(lab.core.upgrades.length, 3, "with our subprotocol alone, and without");
});

test("so is one that closes before a welcome, and its close is the application's", async () => {
  const lab = makeLab({ hosts: ["a"] });
  const upgrade = (socket) => {
    socket.accept(socket.protocols.at(-1) ?? "");
    socket.close(4009, "not today");
  };
  lab.network.relays.set("a.example", { upgrade });
  const { seen } = await lab.open();
  assert.deepEqual(types(seen), ["open", "close"]);
  assert.deepEqual([seen[1].code, seen[1].reason], [4009, "not today"]);
});

test("a server that chose our subprotocol blindly is asked again without", async () => {
  for (const data of [Uint8Array.of(99), Uint8Array.of(11, 1), "text", undefined]) {
    const lab = makeLab({ hosts: ["a"] });
    const offers = [];
    const upgrade = (socket) => {
      offers.push(socket.protocols);
      socket.accept(socket.protocols.at(-1) ?? "");
      if (data !== undefined) socket.send(data);
    };
    lab.network.relays.set("a.example", { upgrade });
    const { seen, socket } = lab.connect({ protocols: ["chat"] });
    await lab.clock.advance(data === undefined ? 2100 : 100);
    assert.deepEqual(offers, [["chat", "antipode.resume.v1"], ["chat"]]);
    assert.equal(types(seen)[0], "open");
    assert.equal(socket.protocol, "chat");
    await lab.clock.advance(10_000);
    assert.equal(lab.network.openTo("a.example").length, 1);
    assert.equal(lab.clock.timers, 0);
  }
});
