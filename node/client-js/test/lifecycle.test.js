// What happens to the page and to its network is acted on at once.

import assert from "node:assert/strict";
import { test } from "node:test";

import { makeLab, types } from "./lab/index.js";

const HOSTS = ["a.example", "b.example", "c.example"];

function allWays(lab, way) {
  for (const host of HOSTS) lab.network.ways.set(host, way);
}

function pageEvent(type, persisted) {
  return Object.assign(new Event(type), { persisted });
}

/** Each way in which a page hears that something may have changed. */
const WAKES = {
  online: ({ events }) => events.dispatchEvent(new Event("online")),
  "connection change": ({ navigator }) => navigator.connection.dispatchEvent(new Event("change")),
  visible: ({ document }) => document.dispatchEvent(new Event("visibilitychange")),
  resume: ({ document }) => document.dispatchEvent(new Event("resume")),
  pageshow: ({ events }) => events.dispatchEvent(pageEvent("pageshow", true)),
};

for (const [name, wake] of Object.entries(WAKES)) {
  test(`${name}: a way that has gone is noticed within a second`, async () => {
    const lab = makeLab();
    const { seen } = await lab.open();
    lab.network.ways.set("a.example", "silent");
    wake(lab.environment);
    await lab.clock.advance(990);
    assert.deepEqual(types(seen), ["open"]);
    await lab.clock.advance(120);
    assert.deepEqual(types(seen), ["open", "detached", "resumed"]);
  });

  test(`${name}: a way that is there is stayed with`, async () => {
    const lab = makeLab();
    const { seen, session } = await lab.open();
    wake(lab.environment);
    await lab.clock.advance(5000);
    assert.deepEqual(types(seen), ["open"]);
    assert.equal(session.frames.filter(({ kind }) => kind === "ping").length, 1);
  });

  test(`${name}: without an attachment there is one at once`, async () => {
    const lab = makeLab();
    const { seen } = await lab.open();
    allWays(lab, "down");
    lab.network.reset("a.example");
    await lab.clock.advance(40_000);
    allWays(lab, "up");
    // The next round of its own would come within ten seconds.
    wake(lab.environment);
    await lab.clock.advance(60);
    assert.deepEqual(types(seen), ["open", "detached", "resumed"]);
  });
}

test("a race that hangs on a dead network is begun anew", async () => {
  const lab = makeLab();
  const { seen } = await lab.open();
  allWays(lab, "silent");
  lab.network.reset("a.example");
  await lab.clock.advance(2000);
  allWays(lab, "up");
  WAKES.online(lab.environment);
  await lab.clock.advance(60);
  assert.deepEqual(types(seen), ["open", "detached", "resumed"]);
  await lab.clock.advance(10_000);
  const open = HOSTS.flatMap((host) => lab.network.openTo(host));
  assert.equal(open.length, 1, "one socket is left");
});

test("offline: the silence is noticed within a second, and nobody dials in vain", async () => {
  const lab = makeLab();
  const { seen } = await lab.open();
  allWays(lab, "down");
  lab.environment.events.dispatchEvent(new Event("offline"));
  await lab.clock.advance(1100);
  assert.deepEqual(types(seen), ["open", "detached"]);
  const dialled = lab.network.sockets.length;
  lab.environment.events.dispatchEvent(new Event("offline"));
  await lab.clock.advance(0);
  assert.equal(lab.network.sockets.length, dialled);
});

test("offline and online within the patience is nothing", async () => {
  const lab = makeLab();
  const { seen } = await lab.open();
  allWays(lab, "silent");
  lab.environment.events.dispatchEvent(new Event("offline"));
  await lab.clock.advance(500);
  allWays(lab, "up");
  WAKES.online(lab.environment);
  await lab.clock.advance(5000);
  assert.deepEqual(types(seen), ["open"]);
});

test("a page that is frozen acknowledges before, and goes on where it was", async () => {
  const lab = makeLab();
  const { seen, session } = await lab.open();
  session.say("the last before");
  await lab.clock.advance(11);
  lab.environment.document.dispatchEvent(new Event("freeze"));
  await lab.clock.advance(11);
  assert.equal(session.frames.at(-1).kind, "ack", "without the 40 ms that it could wait");
  assert.equal(session.frames.at(-1).ack, 1);
  await lab.clock.advance(60_000);
  assert.ok(!session.frames.some(({ kind }) => kind === "ping"), "nobody could hear the answer");
  WAKES.resume(lab.environment);
  session.say("the first after");
  await lab.clock.advance(15_000);
  assert.deepEqual(types(seen), ["open", "message", "message"]);
  const pings = session.frames.filter(({ kind }) => kind === "ping");
  assert.equal(pings.length, 2, "at once, and then as before");
});

test("a hidden page is left in peace", async () => {
  const lab = makeLab();
  const { session } = await lab.open();
  lab.environment.document.visibilityState = "hidden";
  WAKES.visible(lab.environment);
  await lab.clock.advance(1000);
  assert.ok(!session.frames.some(({ kind }) => kind === "ping"));
});

test("a page that is put aside lets go, and goes on when it is shown again", async () => {
  const lab = makeLab();
  const { socket, seen, session } = await lab.open();
  lab.environment.events.dispatchEvent(pageEvent("pagehide", true));
  await lab.clock.advance(50);
  assert.equal(lab.network.openTo("a.example").length, 0, "the browser may keep the page");
  session.say("while you were away");
  socket.send("from behind");
  await lab.clock.advance(60_000);
  assert.deepEqual(types(seen), ["open", "detached"]);
  assert.equal(lab.core.upgrades.length, 1, "nobody dials for a page that nobody sees");
  lab.environment.events.dispatchEvent(pageEvent("pageshow", true));
  await lab.clock.advance(100);
  assert.deepEqual(types(seen), ["open", "detached", "resumed", "message"]);
  assert.deepEqual(session.messages, ["from behind"]);
});

test("an invitation does not wake a page that was put aside", async () => {
  let answer;
  const fetch = () => new Promise((resolve) => (answer = resolve));
  const lab = makeLab({ place: { fetch } });
  const { seen } = lab.connect({ gateway: "https://g.example" });
  await lab.clock.advance(3000);
  const token = new Uint8Array(0);
  lab.core.sessions.at(-1).tell({ kind: "go_away", after_ms: 0, grace_ms: 9000, url: "", token });
  await lab.clock.advance(100);
  lab.environment.events.dispatchEvent(pageEvent("pagehide", true));
  const dialled = lab.network.sockets.length;
  answer({ ok: false });
  await lab.clock.advance(9000);
  assert.deepEqual(types(seen), ["open", "detached"]);
  assert.equal(lab.network.sockets.length, dialled);
});

test("a page that goes says goodbye, as a browser's own socket does", async () => {
  const lab = makeLab();
  const { socket, seen, session } = await lab.open();
  socket.send("last words");
  lab.environment.events.dispatchEvent(pageEvent("pagehide", false));
  await lab.clock.advance(100);
  assert.deepEqual(session.messages, ["last words"]);
  assert.equal(session.closedWith, 1001);
  assert.deepEqual(types(seen), ["open"], "there is nobody to tell");
  assert.equal(lab.network.openTo("a.example").length, 0);
  lab.core.forget();
  assert.equal(lab.clock.timers, 0);
});

test("a page that goes with more than the credit to say is gone all the same", async () => {
  const lab = makeLab();
  const { socket, session } = await lab.open();
  session.isReading = false;
  socket.send(new Uint8Array(1 << 20));
  lab.environment.events.dispatchEvent(pageEvent("pagehide", false));
  await lab.clock.advance(100);
  assert.ok(session.isGone);
});

test("a machine that slept is no silence", async () => {
  const lab = makeLab();
  const { seen } = await lab.open();
  await lab.clock.advance(9930); // A ping is out, its answer is on the way.
  lab.clock.sleep(60_000);
  await lab.clock.advance(1000);
  assert.deepEqual(types(seen), ["open"]);
});

test("a page that wakes before its network tries again soon", async () => {
  const lab = makeLab();
  const { seen } = await lab.open();
  allWays(lab, "down");
  lab.network.reset("a.example");
  await lab.clock.advance(40_000);
  WAKES.visible(lab.environment);
  await lab.clock.advance(50);
  allWays(lab, "up");
  await lab.clock.advance(300);
  assert.deepEqual(types(seen), ["open", "detached", "resumed"]);
});

test("a closed socket watches nothing", async () => {
  const lab = makeLab();
  const { events, document, navigator } = lab.environment;
  let listeners = 0;
  for (const target of [events, document, navigator.connection]) {
    const { addEventListener, removeEventListener } = target;
    target.addEventListener = (...given) => {
      listeners += 1;
      addEventListener.apply(target, given);
    };
    target.removeEventListener = (...given) => {
      listeners -= 1;
      removeEventListener.apply(target, given);
    };
  }
  const { socket } = await lab.open();
  assert.equal(listeners, 8);
  socket.close();
  await lab.clock.advance(100);
  assert.equal(listeners, 0);
  await lab.clock.advance(1000);
  for (const wake of Object.values(WAKES)) wake(lab.environment);
  lab.environment.events.dispatchEvent(pageEvent("pagehide", false));
  await lab.clock.advance(1000);
  assert.equal(lab.network.sockets.length, 1);
  assert.equal(lab.clock.timers, 0);
});
