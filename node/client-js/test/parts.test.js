// The small machines by themselves.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Backoff } from "../src/backoff.js";
import { Liveness } from "../src/liveness.js";
import { Queue } from "../src/queue.js";
import { Session } from "../src/session.js";
import { Clock } from "./lab/place.js";

test("backoff: full jitter below a bound that doubles up to ten seconds", () => {
  const highest = new Backoff(() => 1);
  const bounds = Array.from({ length: 8 }, () => highest.next());
  assert.deepEqual(bounds, [250, 500, 1000, 2000, 4000, 8000, 10_000, 10_000]);
  for (let n = 0; n < 2000; n += 1) highest.next();
  assert.equal(highest.next(), 10_000);
  highest.reset();
  assert.equal(highest.next(), 250);
  assert.equal(new Backoff(() => 0).next(), 0);
});

/** A liveness, what it did, and the time. */
function makeLiveness() {
  const clock = new Clock();
  const did = [];
  const liveness = new Liveness(clock, {
    ping: () => did.push(`ping ${clock.now()}`),
    silent: () => did.push(`silent ${clock.now()}`),
  });
  liveness.start(10_000);
  return { clock, did, liveness };
}

test("liveness: a ping every so often, counted from the last one", async () => {
  const { clock, did, liveness } = makeLiveness();
  for (let n = 0; n < 400; n += 1) {
    await clock.advance(100);
    liveness.heard();
  }
  assert.deepEqual(did, ["ping 10000", "ping 20000", "ping 30000", "ping 40000"]);
});

test("liveness: silence two seconds after a ping, once", async () => {
  const { clock, did, liveness } = makeLiveness();
  await clock.advance(60_000);
  assert.deepEqual(did, ["ping 10000", "silent 12000"]);
  assert.equal(liveness.isSilent, true);
  liveness.heard();
  assert.equal(liveness.isSilent, false);
  await clock.advance(20_000);
  assert.deepEqual(did.slice(2), ["ping 70000", "silent 72000"]);
});

test("liveness: words after a silence are accompanied, others are not", async () => {
  const { clock, did, liveness } = makeLiveness();
  await clock.advance(499);
  liveness.spoke();
  assert.deepEqual(did, []);
  await clock.advance(1);
  liveness.spoke();
  liveness.spoke();
  assert.deepEqual(did, ["ping 500"]);
});

test("liveness: a timer that comes late waits for what waits to be read", async () => {
  const { clock, did, liveness } = makeLiveness();
  await clock.advance(10_500);
  clock.sleep(60_000); // The timer runs before the answer is read.
  await clock.advance(100);
  liveness.heard();
  await clock.advance(1000);
  assert.deepEqual(did, ["ping 10000", "ping 70750"], "the next one, which was due meanwhile");

  const other = makeLiveness();
  await other.clock.advance(10_500);
  other.clock.sleep(60_000);
  await other.clock.advance(1000);
  assert.equal(other.liveness.isSilent, true, "but not for long");
});

test("liveness: stopped is stopped", async () => {
  const { clock, did, liveness } = makeLiveness();
  liveness.stop();
  liveness.spoke();
  liveness.probe();
  await clock.advance(60_000);
  assert.deepEqual(did, []);
  assert.equal(clock.timers, 0);
});

test("session: the window grows up to its largest, and no further", () => {
  const most = 1 << 20;
  const client = new Session("client", { creditBytesMax: most }, 0);
  const server = new Session("server", {}, 0);
  for (const end of [client, server]) end.handleLinkUp();
  let consumed = 0;
  let credit = 0;
  for (let round = 0; round < 1000; round += 1) {
    if (server.hasRoom) server.send({ kind: "chunk", payload: new Uint8Array(16_384) });
    for (let frame; (frame = server.pollTransmit()); ) client.handleFrame(frame);
    for (let delivery; (delivery = client.pollDeliver()); ) {
      consumed += delivery.body.payload.length + 64;
      client.handleConsumed(delivery.seq, 0);
    }
    for (let frame; (frame = client.pollTransmit()); server.handleFrame(frame)) {
      credit = frame.credit;
      assert.ok(credit <= consumed + most, `${credit} after ${consumed}`);
    }
  }
  assert.ok(credit > consumed + most / 2, `${credit} after ${consumed}`);
});

test("queue: what goes in comes out, in its order", () => {
  const queue = new Queue();
  let [next, expected] = [0, 0];
  for (let round = 0; round < 500; round += 1) {
    for (let n = 0; n < round % 7; n += 1) queue.push((next += 1));
    assert.equal(queue.at(0), queue.length > 0 ? expected + 1 : undefined);
    assert.equal(queue.at(queue.length), undefined);
    for (let n = 0; n < round % 5; n += 1) {
      const item = queue.shift();
      if (item !== undefined) assert.equal(item, (expected += 1));
    }
    assert.equal(queue.length, next - expected);
  }
  queue.clear();
  assert.equal(queue.shift(), undefined);
});
