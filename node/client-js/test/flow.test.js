// Large messages, credit, and limits.

import assert from "node:assert/strict";
import { test } from "node:test";

import { BACKEND_CLOSED } from "../src/cause.js";
import { Assembler, Pieces } from "../src/message.js";
import { makeLab, texts, types, welcoming } from "./lab/index.js";

const KIB = 1024;

function pattern(length) {
  return Uint8Array.from({ length }, (_, at) => (at * 31 + (at >> 8)) & 255);
}

test("a message of any length arrives whole, in pieces of at most 16 KiB", async () => {
  const lab = makeLab();
  const { socket, session, seen } = await lab.open();
  for (const length of [0, 1, 16 * KIB, 16 * KIB + 1, 33 * KIB, 1000 * KIB]) {
    const message = pattern(length);
    session.messages.length = 0;
    seen.length = 0;
    socket.send(message);
    session.say(message);
    await lab.clock.advance(3000);
    assert.deepEqual(Buffer.from(session.messages[0]), Buffer.from(message), `up, ${length}`);
    assert.deepEqual(Buffer.from(texts(seen)[0]), Buffer.from(message), `down, ${length}`);
    assert.equal(socket.bufferedAmount, 0);
  }
  const chunks = session.frames.filter(({ kind }) => kind === "chunk");
  assert.ok(chunks.every(({ payload }) => payload.length <= 16 * KIB));
  assert.deepEqual(chunks.slice(0, 3).map(({ frame }) => frame), [0x82, 0x82, 0x82]);
  assert.equal(chunks[3].frame_len, 16 * KIB + 1);
});

test("a backend that does not read is felt in bufferedAmount", async () => {
  const lab = makeLab();
  const { socket, session, seen } = await lab.open();
  session.isReading = false;
  let sent = 0;
  for (let n = 0; n < 100; n += 1) {
    socket.send(new Uint8Array(64 * KIB));
    sent += 64 * KIB;
    await lab.clock.advance(50);
  }
  assert.equal(socket.bufferedAmount, sent);
  const gone = session.frames.reduce((sum, { payload }) => sum + (payload?.length ?? 0), 0);
  assert.ok(gone <= 256 * KIB + 16 * KIB, `${gone} bytes are within the credit`);
  session.read();
  await lab.clock.advance(5000);
  assert.equal(socket.bufferedAmount, 0);
  assert.equal(session.messages.length, 100);
  assert.deepEqual(types(seen), ["open"]);
});

test("more than maxBufferedBytes is the end, as in a browser whose buffer is full", async () => {
  const lab = makeLab();
  const { socket, session, seen } = await lab.open({ maxBufferedBytes: 100 * KIB });
  session.isReading = false;
  socket.send(new Uint8Array(100 * KIB));
  assert.equal(socket.readyState, 1, "to the byte");
  socket.send("x");
  assert.equal(socket.readyState, 2);
  assert.deepEqual(types(seen), ["open"], "not in the same turn");
  assert.equal(socket.bufferedAmount, 100 * KIB + 1);
  await lab.clock.advance(100);
  assert.deepEqual(types(seen), ["open", "error", "close"]);
  assert.deepEqual([seen[2].code, seen[2].wasClean], [1006, false]);
  assert.equal(session.machine.ended.detail, "too much is buffered", "the core is told");
  assert.equal(socket.bufferedAmount, 100 * KIB + 1, "and stays");
});

test("16 MiB are kept unless told otherwise", async () => {
  const lab = makeLab();
  const { socket, session } = await lab.open();
  session.isReading = false;
  socket.send(new Uint8Array(16 * KIB * KIB));
  assert.equal(socket.readyState, 1);
  socket.send("x");
  assert.equal(socket.readyState, 2);
});

test("while detached it buffers, and everything goes afterwards", async () => {
  const lab = makeLab();
  const { socket, session } = await lab.open();
  for (const host of ["a", "b", "c"]) lab.network.ways.set(`${host}.example`, "down");
  lab.network.reset("a.example");
  const sent = [];
  for (let n = 0; n < 500; n += 1) {
    socket.send(`message ${n}`);
    sent.push(`message ${n}`);
    await lab.clock.advance(20);
  }
  assert.ok(socket.bufferedAmount > 5000);
  lab.network.ways.clear();
  await lab.clock.advance(15_000);
  assert.deepEqual(session.messages, sent);
  assert.equal(socket.bufferedAmount, 0);
});

test("what send() took does not change afterwards", async () => {
  const lab = makeLab();
  const { socket, session } = await lab.open();
  for (const host of ["a", "b", "c"]) lab.network.ways.set(`${host}.example`, "down");
  lab.network.reset("a.example");
  await lab.clock.advance(100);
  const bytes = Uint8Array.of(1, 2, 3);
  socket.send(bytes);
  socket.send(bytes.buffer);
  bytes.fill(9);
  lab.network.ways.clear();
  await lab.clock.advance(15_000);
  for (const message of session.messages) assert.deepEqual([...message], [1, 2, 3]);
  assert.equal(session.messages.length, 2);
});

test("what waits when the backend ends is not said to nobody", async () => {
  const lab = makeLab();
  const { socket, session, seen } = await lab.open();
  session.isReading = false;
  for (let n = 0; n < 64; n += 1) socket.send(new Uint8Array(16 * KIB));
  await lab.clock.advance(100);
  session.end(BACKEND_CLOSED, 4001);
  await lab.clock.advance(100);
  assert.deepEqual(types(seen), ["open", "close"]);
  session.read();
  await lab.clock.advance(1000);
  assert.ok(session.messages.length < 20, `${session.messages.length} messages within the credit`);
  assert.ok(session.machine.isFinished);
  assert.equal(socket.bufferedAmount, (64 - session.messages.length) * 16 * KIB);
});

test("the credit of the welcome counts", async () => {
  const lab = makeLab({ hosts: ["a"] });
  const frames = [];
  lab.network.relays.set("a.example", welcoming(frames, { credit: 1 << 20 }));
  const { socket } = await lab.open();
  socket.send(new Uint8Array(4 << 20));
  await lab.clock.advance(100);
  const bytes = frames.reduce((sum, { payload }) => sum + (payload?.length ?? 0), 0);
  assert.ok(bytes > 1_000_000 && bytes <= (1 << 20) + 16 * KIB, `${bytes} bytes`);
});

test("a message from the backend in fragments is one message", async () => {
  const lab = makeLab();
  const { session, seen } = await lab.open();
  const bytes = (text) => new TextEncoder().encode(text);
  session.sayChunk({ frame: 0x01, payload: bytes("caf\u00e9").subarray(0, 4) });
  session.sayChunk({ frame: 0x00, frame_len: 3, payload: bytes("caf\u00e9").subarray(4) });
  session.sayChunk({ payload: bytes(" a") });
  session.sayChunk({ frame: 0x00, payload: bytes("") });
  session.sayChunk({ frame: 0x80, payload: bytes("!") });
  await lab.clock.advance(100);
  assert.deepEqual(texts(seen), ["café a!"]);
});

test("what is no message ends the socket", async () => {
  const text = (...bytes) => ({ frame: 0x81, payload: Uint8Array.from(bytes) });
  const one = Uint8Array.of(1);
  for (const [what, chunks] of [
    ["not UTF-8", [text(0xff)]],
    ["half a character", [text(0xe2, 0x98)]],
    ["a surrogate", [text(0xed, 0xa0, 0x80)]],
    ["nothing to continue", [{ frame: 0x80, payload: one }]],
    ["a piece of nothing", [{ payload: one }]],
    ["a piece too long", [{ frame: 0x82, frame_len: 2, payload: one }, { payload: pattern(2) }]],
    ["a frame inside a frame", [{ frame: 0x82, frame_len: 3, payload: one }, text(65)]],
    ["a frame continued inside a frame", [{ frame: 0x02, frame_len: 3, payload: one },
      { frame: 0x80, payload: one }]],
    ["a message inside a message", [{ frame: 0x02, payload: one }, text(65)]],
  ]) {
    const lab = makeLab();
    const { session, seen } = await lab.open();
    for (const chunk of chunks) session.sayChunk(chunk);
    await lab.clock.advance(100);
    assert.deepEqual(types(seen), ["open", "error", "close"], what);
    assert.equal(seen[2].code, 1006);
    assert.ok(session.isGone, "the core knows");
  }
});

test("a message may be as large as maxMessageBytes", async () => {
  const lab = makeLab();
  const { session, seen } = await lab.open({ maxMessageBytes: 40 * KIB });
  session.say(pattern(40 * KIB));
  await lab.clock.advance(500);
  assert.deepEqual(types(seen), ["open", "message"]);
  session.say(pattern(40 * KIB + 1));
  await lab.clock.advance(500);
  assert.deepEqual(types(seen), ["open", "message", "error", "close"]);
});

test("fragments of a message count together", () => {
  const assembler = new Assembler(10);
  assembler.push({ frame: 0x02, payload: pattern(6) });
  assert.throws(() => assembler.push({ frame: 0x80, payload: pattern(5) }), { closeCode: 1009 });
});

test("memory follows what came, not what was announced", () => {
  const assembler = new Assembler(1 << 30);
  assembler.push({ frame: 0x82, frame_len: 2 ** 30, payload: pattern(1) });
  const before = process.memoryUsage().arrayBuffers;
  for (let n = 0; n < 100; n += 1) assembler.push({ payload: pattern(100) });
  const grown = process.memoryUsage().arrayBuffers - before;
  assert.ok(grown < 1 << 20, `${grown} bytes for 10,000`);
});

test("pieces are the message, and only the first of them says so", () => {
  const message = pattern(40_000);
  const pieces = new Pieces(message, true);
  const assembler = new Assembler(1 << 20);
  const frames = [];
  for (let next; next?.isLast !== true; ) {
    next = pieces.next();
    frames.push([next.chunk.frame, next.chunk.frame_len, next.chunk.payload.length]);
    if (!next.isLast) assembler.push(next.chunk);
  }
  assert.deepEqual(frames, [
    [0x81, 40_000, 16_384],
    [undefined, undefined, 16_384],
    [undefined, undefined, 7232],
  ]);
});
