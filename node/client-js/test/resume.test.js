// A session goes on when its attachment does not.

import assert from "node:assert/strict";
import { test } from "node:test";

import { BACKEND_CLOSED } from "../src/cause.js";
import { makeLab, texts, types } from "./lab/index.js";

test("messages go both ways, and an end is clean", async () => {
  const lab = makeLab();
  const { socket, seen, session } = await lab.open();
  assert.equal(socket.readyState, 1);
  socket.send("hello");
  session.say("good day");
  await lab.clock.advance(100);
  assert.deepEqual(session.messages, ["hello"]);
  assert.equal(socket.bufferedAmount, 0, "it has arrived");

  socket.send("bye");
  socket.close(4001, "done");
  assert.equal(socket.readyState, 2);
  await lab.clock.advance(200);
  assert.deepEqual(session.messages, ["hello", "bye"], "what was sent before goes first");
  assert.equal(session.closedWith, 4001);
  assert.deepEqual(types(seen), ["open", "message", "close"]);
  const { code, reason, wasClean } = seen.at(-1);
  assert.deepEqual([code, reason, wasClean], [4001, "done", true]);
  await lab.clock.advance(10_000);
  assert.equal(lab.network.openTo("a.example").length, 0, "the real socket is closed");
  assert.equal(lab.clock.timers, 0, "nothing is left to run");
});

test("a relay that dies costs nothing", async () => {
  const lab = makeLab();
  const { socket, seen, session } = await lab.open();
  socket.send("1");
  session.say("one");
  await lab.clock.advance(5); // Both are on their way.
  lab.network.relays.delete("a.example");
  lab.network.reset("a.example");
  socket.send("2");
  session.say("two");
  await lab.clock.advance(1000);
  assert.deepEqual(session.messages, ["1", "2"]);
  assert.deepEqual(texts(seen), ["one", "two"]);
  const kinds = types(seen).filter((type) => type !== "message");
  assert.deepEqual(kinds, ["open", "detached", "resumed"]);
  const { detail } = seen.find(({ type }) => type === "resumed");
  assert.equal(detail.attempt, 1);
  assert.equal(detail.replayed, 2, "both messages were sent again");
  assert.ok(detail.downtime > 0 && detail.downtime < 500, `${detail.downtime} ms`);
  assert.equal(new URL(detail.relay).host, "b.example");
  assert.equal(lab.core.sessions.length, 1, "the backend saw one socket");
});

test("a relay that falls silent is left, and kept until another has taken over", async () => {
  const lab = makeLab();
  const { seen, session } = await lab.open();
  lab.network.ways.set("a.example", "silent");
  // It was welcomed at 20 ms, and 100 have passed.
  await lab.clock.advance(20 + 10_000 + 1999 - 100);
  assert.deepEqual(types(seen), ["open"], "two seconds of patience after a ping");
  await lab.clock.advance(2);
  assert.deepEqual(types(seen), ["open", "detached"]);
  const [old] = lab.network.openTo("a.example");
  assert.ok(old, "the old one is kept");
  await lab.clock.advance(25);
  assert.equal(lab.network.openTo("b.example").length, 1);
  assert.equal(old.readyState, 1, "another one is open, but has not taken over");
  session.say("still there?");
  await lab.clock.advance(100);
  assert.deepEqual(types(seen), ["open", "detached", "resumed", "message"]);
  assert.ok(old.readyState >= 2, "the old one is closed");
});

test("a relay that was only slow is stayed with", async () => {
  const lab = makeLab();
  const { seen, session } = await lab.open();
  lab.network.ways.set("b.example", "silent");
  lab.network.ways.set("c.example", "silent");
  lab.network.latencyMs = 2100;
  await lab.clock.advance(9_900 + 2050);
  assert.deepEqual(types(seen), ["open", "detached"]);
  await lab.clock.advance(3000);
  assert.deepEqual(types(seen), ["open", "detached", "resumed"]);
  assert.equal(session.machine.epoch, 1, "nobody took over");
  lab.network.latencyMs = 10;
  await lab.clock.advance(30_000);
  assert.deepEqual(types(seen), ["open", "detached", "resumed"]);
  for (const host of ["b.example", "c.example"]) assert.equal(lab.network.openTo(host).length, 0);
});

test("what the application says after a silence is accompanied by a ping", async () => {
  const lab = makeLab();
  const { socket, seen, session } = await lab.open();
  await lab.clock.advance(3000);
  lab.network.ways.set("a.example", "silent");
  socket.send("anybody?");
  await lab.clock.advance(2200);
  assert.deepEqual(types(seen), ["open", "detached", "resumed"]);
  assert.deepEqual(session.messages, ["anybody?"]);
});

test("a relay that falls silent while both talk is noticed in under three seconds", async () => {
  const lab = makeLab();
  const { socket, seen } = await lab.open();
  const talk = async (ms) => {
    for (let passed = 0; passed < ms; passed += 100) {
      socket.send("x");
      await lab.clock.advance(100);
    }
  };
  await talk(3000);
  lab.network.ways.set("a.example", "silent");
  await talk(2700);
  assert.deepEqual(types(seen), ["open", "detached", "resumed"]);
});

test("an invitation is followed after its delay, without a gap", async () => {
  const lab = makeLab();
  const { socket, seen, session } = await lab.open();
  const token = session.token;
  const url = "wss://c.example";
  session.tell({ kind: "go_away", after_ms: 3000, grace_ms: 600_000, url, token });
  await lab.clock.advance(3000);
  assert.equal(lab.network.openTo("c.example").length, 0, "not before its time");
  for (let n = 0; n < 20; n += 1) {
    socket.send(`up ${n}`);
    session.say(`down ${n}`);
    await lab.clock.advance(7);
  }
  await lab.clock.advance(200);
  const numbers = [...Array(20).keys()];
  assert.deepEqual(session.messages, numbers.map((n) => `up ${n}`));
  assert.deepEqual(texts(seen), numbers.map((n) => `down ${n}`));
  const others = seen.filter(({ type }) => type !== "message");
  assert.deepEqual(types(others), ["open", "resumed"]);
  assert.equal(others[1].detail.downtime, 0);
  assert.equal(socket.relay, "wss://c.example/chat?room=1");
  assert.equal(lab.network.openTo("a.example").length, 0);
});

test("an invitation that can't be followed is no reason to leave", async () => {
  const lab = makeLab();
  const { seen, session } = await lab.open();
  for (const host of ["b.example", "c.example"]) lab.network.ways.set(host, "down");
  const token = new Uint8Array(0);
  session.tell({ kind: "go_away", after_ms: 0, grace_ms: 60_000, url: "wss://b.example", token });
  lab.network.relays.delete("a.example"); // It takes nobody new.
  await lab.clock.advance(20_000);
  assert.deepEqual(types(seen), ["open"]);
  lab.network.ways.set("c.example", "up");
  await lab.clock.advance(20_000);
  assert.deepEqual(types(seen), ["open", "resumed"]);
});

test("somebody else with the token takes the session", async () => {
  const lab = makeLab();
  const { seen, session } = await lab.open();
  session.tell({ kind: "moved", epoch: 2 });
  await lab.clock.advance(100);
  assert.deepEqual(types(seen), ["open", "lost", "error", "close"]);
  assert.deepEqual(seen[1].detail, {
    resumed: false,
    cause: "replaced",
    detail: "a newer attachment took over",
  });
  assert.equal(seen.at(-1).code, 4411);
});

test("our own attach, whose answer was lost, is not somebody else's", async () => {
  const lab = makeLab();
  const { seen, session } = await lab.open();
  const token = new Uint8Array(0);
  session.tell({ kind: "go_away", after_ms: 0, grace_ms: 60_000, url: "wss://b.example", token });
  // The socket to b is open after 30 ms, the core has the attach after 40.
  await lab.clock.advance(45);
  assert.equal(session.machine.epoch, 2);
  lab.network.ways.set("b.example", "silent");
  lab.network.reset("b.example");
  await lab.clock.advance(1000);
  assert.deepEqual(types(seen), ["open", "detached", "resumed"]);
  assert.equal(session.machine.epoch, 3);
});

test("a session that the core has lost is told so", async () => {
  const lab = makeLab();
  const { socket, seen } = await lab.open();
  socket.send("in vain");
  lab.network.reset("a.example");
  lab.core.forget();
  await lab.clock.advance(1000);
  assert.deepEqual(types(seen), ["open", "detached", "lost", "error", "close"]);
  assert.equal(seen[2].detail.resumed, false);
  assert.equal(seen[2].detail.cause, "session_lost");
  const { code, reason, wasClean, state } = seen.at(-1);
  assert.deepEqual([code, reason, wasClean, state], [4410, "unknown session", false, 3]);
  assert.equal(socket.bufferedAmount, 7, "what did not arrive is still told");
  await lab.clock.advance(10_000);
  assert.equal(lab.clock.timers, 0);
});

test("it tries for the window that the welcome told, and half a minute more", async () => {
  const lab = makeLab();
  lab.core.windowMs = 30_000;
  const { seen } = await lab.open();
  for (const host of ["a", "b", "c"]) lab.network.ways.set(`${host}.example`, "down");
  lab.network.reset("a.example");
  await lab.clock.advance(59_900);
  assert.deepEqual(types(seen), ["open", "detached"]);
  await lab.clock.advance(200);
  assert.deepEqual(types(seen), ["open", "detached", "lost", "error", "close"]);
  const rounds = lab.network.sockets.filter(({ host }) => host === "b.example").length;
  assert.ok(rounds > 4 && rounds < 20, `${rounds} rounds in a minute`);
  await lab.clock.advance(10_000);
  assert.equal(lab.clock.timers, 0);
});

test("a way that is silent for good ends the session, too", async () => {
  const lab = makeLab();
  lab.core.windowMs = 30_000;
  const { seen } = await lab.open();
  for (const host of ["a", "b", "c"]) lab.network.ways.set(`${host}.example`, "silent");
  await lab.clock.advance(10_000 + 2000 + 60_100);
  assert.deepEqual(types(seen), ["open", "detached", "lost", "error", "close"]);
});

test("the backend's end arrives as its own", async () => {
  const lab = makeLab();
  for (const [close_code, code] of [
    [4321, 4321],
    [0, 1005],
  ]) {
    const { seen, session } = await lab.open();
    session.say("last words");
    session.end(BACKEND_CLOSED, close_code, close_code ? "that's all" : "");
    await lab.clock.advance(100);
    assert.deepEqual(types(seen), ["open", "message", "close"]);
    const close = seen.at(-1);
    const reason = close_code ? "that's all" : "";
    assert.deepEqual([close.code, close.reason, close.wasClean], [code, reason, true]);
    await lab.clock.advance(100);
    assert.ok(session.machine.isFinished, "the core has heard ours");
  }
});

test("a close while detached takes what was sent before along", async () => {
  const lab = makeLab();
  const { socket, seen, session } = await lab.open();
  for (const host of ["a", "b", "c"]) lab.network.ways.set(`${host}.example`, "down");
  lab.network.reset("a.example");
  await lab.clock.advance(100);
  socket.send("last words");
  socket.close();
  await lab.clock.advance(20_000);
  assert.equal(socket.readyState, 2);
  lab.network.ways.clear();
  await lab.clock.advance(15_000);
  assert.deepEqual(session.messages, ["last words"]);
  assert.deepEqual(types(seen), ["open", "detached", "resumed", "close"]);
  assert.equal(seen.at(-1).code, 1005);
});
