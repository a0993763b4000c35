// What the gateway says, what it said before, and what to do when it says nothing.

import assert from "node:assert/strict";
import { test } from "node:test";

import { makeLab, types } from "./lab/index.js";

const GATEWAY = "https://steer.example";

function answerOf(...hosts) {
  const candidates = hosts.map((host) => ({ name: host, urls: [`wss://${host}.example`] }));
  return { ok: true, text: async () => JSON.stringify({ candidates, reason: "nearest" }) };
}

/** A gateway whose answer can be changed, and the questions it got. */
function makeGateway(clock) {
  const gateway = {
    questions: [],
    reply: async () => answerOf("b", "c"),
    fetch: (url, { signal }) => {
      gateway.questions.push(url);
      const aborted = new Promise((_, reject) => {
        signal.addEventListener("abort", () => reject(signal.reason));
      });
      return Promise.race([gateway.reply(clock), aborted]);
    },
  };
  return gateway;
}

function labWith(gateway, more = {}) {
  const lab = makeLab({ hosts: ["a", "b", "c"], place: { fetch: gateway.fetch, ...more } });
  const options = { url: "wss://a.example/chat", candidates: [], gateway: GATEWAY };
  return { lab, open: (given) => lab.open({ ...options, ...given }) };
}

const pageOf = (socket) => new URL(socket.relay).host;

test("the nearest relay is asked for, with the page's time zone", async () => {
  const gateway = makeGateway();
  const { open } = labWith(gateway);
  const { socket } = await open();
  assert.equal(pageOf(socket), "b.example");
  assert.deepEqual(gateway.questions, [`${GATEWAY}/v1/steer?tz=Asia%2FSingapore`]);
});

test("a second socket of the page asks no more, for a while", async () => {
  const gateway = makeGateway();
  const { lab, open } = labWith(gateway);
  await open();
  await open();
  assert.equal(gateway.questions.length, 1);
  await lab.clock.advance(31_000);
  gateway.reply = async () => answerOf("c");
  assert.equal(pageOf((await open()).socket), "c.example");
  assert.equal(gateway.questions.length, 2);
});

test("a gateway that can't help: the last good answer, or the URL itself", async () => {
  const refusals = [
    async () => ({ ok: false, text: async () => "{}" }),
    async () => ({ ...answerOf("b"), ok: false }),
    async () => Promise.reject(new TypeError("fetch failed")),
    async () => ({ ok: true, text: async () => "not JSON" }),
    async () => ({ ok: true, text: async () => '{"candidates": "none"}' }),
    async () => ({ ok: true, text: async () => '{"candidates": [null, {"urls": [7]}]}' }),
    async () => ({ ok: true, text: async () => `${(await answerOf("c").text())}`.padEnd(70_000) }),
  ];
  for (const reply of refusals) {
    const gateway = makeGateway();
    const { lab, open } = labWith(gateway);
    gateway.reply = reply;
    assert.equal(pageOf((await open()).socket), "a.example", `${reply}`);
    gateway.reply = async () => answerOf("c");
    assert.equal(pageOf((await open()).socket), "c.example");
    await lab.clock.advance(31_000);
    gateway.reply = reply;
    assert.equal(pageOf((await open()).socket), "c.example", `${reply}`);
  }
});

test("a gateway that says nothing is waited for two seconds", async () => {
  const gateway = makeGateway();
  const { lab, open } = labWith(gateway);
  gateway.reply = () => new Promise(() => {});
  const { socket } = await open();
  await lab.clock.advance(1850);
  assert.equal(lab.network.sockets.length, 0);
  await lab.clock.advance(150);
  assert.equal(pageOf(socket), "a.example");
  await lab.clock.advance(3000);
  assert.equal(socket.readyState, 1);
});

test("the last good answer outlives the page", async () => {
  const kept = new Map();
  const storage = {
    getItem: (key) => kept.get(key) ?? null,
    setItem: (key, value) => kept.set(key, value),
  };
  const gateway = makeGateway();
  await labWith(gateway, { storage }).open();
  const later = makeGateway();
  later.reply = async () => Promise.reject(new TypeError("fetch failed"));
  assert.equal(pageOf((await labWith(later, { storage }).open()).socket), "b.example");

  const forbidden = {
    getItem: () => assert.fail("forbidden"),
    setItem: () => assert.fail("forbidden"),
  };
  const third = makeGateway();
  assert.equal(pageOf((await labWith(third, { storage: forbidden }).open()).socket), "b.example");
});

test("an invitation without a place is a question to the gateway", async () => {
  const gateway = makeGateway();
  const { lab, open } = labWith(gateway);
  const { seen, session, socket } = await open();
  gateway.reply = async () => answerOf("c");
  const token = new Uint8Array(0);
  session.tell({ kind: "go_away", after_ms: 100, grace_ms: 60_000, url: "", token });
  await lab.clock.advance(500);
  assert.equal(gateway.questions.length, 2);
  assert.equal(pageOf(socket), "c.example");
  assert.deepEqual(types(seen), ["open", "resumed"]);
});

test("when the known relays fail, the gateway is asked again", async () => {
  const gateway = makeGateway();
  const { lab, open } = labWith(gateway);
  const { socket } = await open();
  await lab.clock.advance(6000);
  gateway.reply = async () => answerOf("d");
  lab.network.relays.set("d.example", lab.core.relay);
  for (const host of ["a", "b", "c"]) lab.network.ways.set(`${host}.example`, "down");
  lab.network.reset("b.example");
  await lab.clock.advance(1000);
  assert.equal(gateway.questions.length, 2);
  assert.equal(pageOf(socket), "d.example");
});

test("the gateway's address may be relative, or whole", async () => {
  for (const [given, asked] of [
    ["/antipode", "https://app.example/antipode/v1/steer?tz=Asia%2FSingapore"],
    ["https://g.example/v1/steer?tz=UTC&max=1", "https://g.example/v1/steer?tz=UTC&max=1"],
    ["https://g.example/?tz=UTC", "https://g.example/v1/steer?tz=UTC"],
  ]) {
    const gateway = makeGateway();
    await labWith(gateway).open({ gateway: given });
    assert.deepEqual(gateway.questions, [asked]);
  }
});
