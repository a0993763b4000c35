// The corners of changing attachments.

import assert from "node:assert/strict";
import { test } from "node:test";

import { BACKEND_CLOSED } from "../src/cause.js";
import { makeLab, types, welcoming } from "./lab/index.js";

const HOSTS = ["a.example", "b.example", "c.example"];
const NO_TOKEN = new Uint8Array(0);

function allWays(lab, way) {
  for (const host of HOSTS) lab.network.ways.set(host, way);
}

function invite(session, url) {
  session.tell({ kind: "go_away", after_ms: 0, grace_ms: 60_000, url, token: NO_TOKEN });
}

test("after one silence the next one is noticed, too", async () => {
  const lab = makeLab();
  const { seen } = await lab.open();
  for (let round = 1; round <= 2; round += 1) {
    allWays(lab, "silent");
    await lab.clock.advance(13_000);
    assert.equal(types(seen).filter((type) => type === "detached").length, round);
    allWays(lab, "up");
    await lab.clock.advance(100);
    assert.equal(types(seen).filter((type) => type === "resumed").length, round);
    assert.equal(HOSTS.flatMap((host) => lab.network.openTo(host)).length, 1);
  }
});

test("the old one wakes while another is asked: one resume, not two", async () => {
  const lab = makeLab();
  const { seen } = await lab.open();
  lab.network.ways.set("a.example", "silent");
  lab.network.latencyMs = 200;
  // Silent at 12,020 ms; b is open 400 later, and the core's answer takes as long.
  await lab.clock.advance(12_020 - 100 + 450);
  assert.equal(lab.network.openTo("b.example")[0].readyState, 1);
  lab.network.ways.set("a.example", "up");
  await lab.clock.advance(5000);
  assert.deepEqual(types(seen), ["open", "detached", "resumed"]);
  assert.equal(lab.network.openTo("b.example").length, 1);
});

test("the way to the core is back: the next round is not awaited", async () => {
  const lab = makeLab();
  const { seen, session } = await lab.open();
  lab.network.ways.set("a.example", "silent");
  lab.network.latencyMs = 200;
  await lab.clock.advance(12_020 - 100 + 450);
  // Asked, and then nothing is heard of anybody: every attempt is given up.
  allWays(lab, "silent");
  await lab.clock.advance(60_000);
  assert.deepEqual(types(seen), ["open", "detached"]);
  lab.network.latencyMs = 20;
  // Between two rounds.
  const isDialling = () => lab.network.sockets.some(({ readyState }) => readyState === 0);
  while (isDialling()) await lab.clock.advance(100);
  allWays(lab, "up");
  session.tell({ kind: "pong", n: 1 });
  await lab.clock.advance(500);
  assert.deepEqual(types(seen), ["open", "detached", "resumed"]);
});

test("an invitation that was followed is over", async () => {
  const lab = makeLab();
  const { seen, session } = await lab.open();
  invite(session, "wss://c.example");
  await lab.clock.advance(100);
  allWays(lab, "silent");
  await lab.clock.advance(13_000);
  allWays(lab, "up");
  await lab.clock.advance(5000);
  assert.deepEqual(types(seen), ["open", "resumed", "detached", "resumed"]);
  assert.equal(session.machine.epoch, 2, "nobody moved but by invitation");
  assert.equal(HOSTS.flatMap((host) => lab.network.openTo(host)).length, 1);
});

test("the old one goes while the new one is asked: no gap", async () => {
  const lab = makeLab();
  const { seen, session } = await lab.open();
  invite(session, "wss://b.example");
  await lab.clock.advance(10 + 20 + 5); // b is open, and was just asked.
  lab.network.reset("a.example");
  await lab.clock.advance(300);
  assert.deepEqual(types(seen), ["open", "resumed"]);
});

test("a relay that does not answer the attach is given up", async () => {
  const lab = makeLab();
  const { seen, session } = await lab.open();
  invite(session, "wss://b.example");
  await lab.clock.advance(10 + 20 + 5);
  lab.network.ways.set("b.example", "silent");
  await lab.clock.advance(6000);
  assert.deepEqual(types(seen), ["open", "detached", "resumed"]);
  assert.equal(lab.network.openTo("b.example").length, 0);
});

test("a relay that answers an attach with another subprotocol is none", async () => {
  const lab = makeLab();
  const { seen } = await lab.open();
  lab.network.relays.set("b.example", { upgrade: (socket) => socket.accept("other") });
  lab.network.ways.set("a.example", "down");
  lab.network.reset("a.example");
  await lab.clock.advance(500);
  assert.deepEqual(types(seen), ["open", "detached", "resumed"]);
  assert.equal(lab.network.openTo("c.example").length, 1);
  assert.equal(lab.network.openTo("b.example").length, 0);
});

test("a close code says what the frame before it said", async () => {
  const lab = makeLab();
  const first = await lab.open();
  first.session.socket.close(4411);
  await lab.clock.advance(100);
  assert.deepEqual(types(first.seen), ["open", "lost", "error", "close"]);
  assert.equal(first.seen[1].detail.cause, "replaced");

  const second = await lab.open();
  const upgrade = (socket) => {
    socket.accept("antipode.resume.v1");
    socket.onmessage = () => socket.close(4410, "no such session");
  };
  for (const host of HOSTS) lab.network.relays.set(host, { upgrade });
  lab.network.reset("a.example");
  await lab.clock.advance(1000);
  assert.deepEqual(types(second.seen), ["open", "detached", "lost", "error", "close"]);
  assert.equal(second.seen.at(-1).reason, "no such session");
});

test("a `moved` that says nothing new leads to another attachment", async () => {
  const lab = makeLab();
  const { seen, session } = await lab.open();
  session.tell({ kind: "moved", epoch: 1 });
  await lab.clock.advance(1000);
  assert.deepEqual(types(seen), ["open", "detached", "resumed"]);
  assert.equal(session.machine.epoch, 2);
});

test("a round that is awaited is not put off", async () => {
  const lab = makeLab();
  await lab.open();
  allWays(lab, "down");
  await lab.clock.advance(60_000);
  const rounds = () => lab.network.sockets.map(({ openedAt }) => openedAt);
  const before = rounds().at(-1);
  lab.network.reset("a.example");
  await lab.clock.advance(5200);
  // At half of ten seconds each, with this lab's even chance.
  assert.ok(rounds().at(-1) - before < 5100, `${rounds().slice(-4)}`);
});

test("after it came back, it is not slower the next time", async () => {
  const lab = makeLab();
  const { seen } = await lab.open();
  allWays(lab, "down");
  lab.network.reset("a.example");
  await lab.clock.advance(60_000);
  allWays(lab, "up");
  await lab.clock.advance(10_000);
  for (const host of HOSTS) lab.network.reset(host);
  await lab.clock.advance(400);
  const wanted = ["open", "detached", "resumed", "detached", "resumed"];
  assert.deepEqual(types(seen), wanted);
});

test("what follows the end is not the application's business", async () => {
  const lab = makeLab();
  const { seen, session } = await lab.open();
  session.end(BACKEND_CLOSED, 4000);
  await lab.clock.advance(12);
  allWays(lab, "down");
  lab.network.reset("a.example");
  await lab.clock.advance(10_000);
  assert.deepEqual(types(seen), ["open", "close"]);
  const open = lab.network.sockets.filter(({ readyState }) => readyState < 2);
  assert.equal(open.length, 0, "and after a while nobody tries any more");
});

test("what the core has no reason to say ends the session", async () => {
  const attach = { kind: "attach", epoch: 1, received: 0, credit: 0, token: NO_TOKEN };
  for (const frame of [{ kind: "ping", n: 1 }, attach]) {
    const lab = makeLab();
    const { seen, session } = await lab.open();
    session.tell(frame);
    await lab.clock.advance(100);
    assert.deepEqual(types(seen), ["open", "error", "close"], frame.kind);
    assert.ok(session.isGone, "the core knows");
  }
});

test("an acknowledgement of what was never sent ends the session", async () => {
  const lab = makeLab();
  const { seen, session } = await lab.open();
  session.tell({ kind: "ack", ack: 9, credit: 300_000 });
  await lab.clock.advance(100);
  assert.deepEqual(types(seen), ["open", "lost", "error", "close"]);
  assert.equal(seen[1].detail.cause, "trunk_protocol");
  assert.ok(session.isGone);
});

test("bytes that are no frame end the session", async () => {
  const lab = makeLab({ hosts: ["a"] });
  let socket;
  const then = (_, from) => (socket = from);
  lab.network.relays.set("a.example", welcoming([], { then }));
  const { seen } = await lab.open();
  socket.send(Uint8Array.of(7));
  await lab.clock.advance(100);
  assert.deepEqual(types(seen), ["open", "error", "close"]);
  assert.equal(lab.network.openTo("a.example").length, 0);
});
