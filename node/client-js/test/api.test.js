// The browser's interface, point by point (https://websockets.spec.whatwg.org/).
// tests/conformance/resume-browser.mjs compares it with Chromium's own.

import assert from "node:assert/strict";
import { test } from "node:test";

import { AntipodeWebSocket } from "../src/index.js";
import { makeLab, types } from "./lab/index.js";

const STATES = { CONNECTING: 0, OPEN: 1, CLOSING: 2, CLOSED: 3 };

test("constants stand on the class and on its instances, and stay", () => {
  const { socket } = makeLab().connect();
  for (const [name, value] of Object.entries(STATES)) {
    for (const holder of [AntipodeWebSocket, AntipodeWebSocket.prototype]) {
      assert.equal(holder[name], value);
      const { writable, enumerable, configurable } = Object.getOwnPropertyDescriptor(holder, name);
      assert.deepEqual([writable, enumerable, configurable], [false, true, false]);
    }
    assert.equal(socket[name], value);
  }
});

test("addresses", () => {
  const check = (given, expected) => {
    const { socket } = makeLab().connect({ url: given, candidates: [] });
    assert.equal(socket.url, expected);
  };
  check("wss://Host.example", "wss://host.example/");
  check("https://host.example/a b", "wss://host.example/a%20b");
  check("http://host.example:80/x?y", "ws://host.example/x?y");
  check("/chat", "wss://app.example/chat");
  check("chat?room=1", "wss://app.example/chat?room=1");
  check(new URL("wss://host.example/u"), "wss://host.example/u");
  for (const bad of ["ftp://host.example/", "wss://host.example/#part", "wss://host.example/#",
    "wss://", "mailto:a@host.example", "wss://host.example:99999/"]) {
    assert.throws(() => makeLab().connect({ url: bad }), { name: "SyntaxError", code: 12 }, bad);
  }
});

test("subprotocols", () => {
  for (const bad of ["", "a b", "a,b", "ü", "a\u007f", ["a", "a"], ["a", ""], "antipode.x",
    "antipode.resume.v1", [undefined, "undefined"]]) {
    assert.throws(() => makeLab().connect({ protocols: bad }), { name: "SyntaxError" }, `${bad}`);
  }
  for (const good of ["chat", "a!#$%&'*+-.^_`|~1", [], ["a", "A"], new Set(["a", "b"])]) {
    assert.equal(makeLab().connect({ protocols: good }).socket.readyState, 0);
  }
});

test("it starts empty", () => {
  const { socket } = makeLab().connect();
  assert.deepEqual(
    [socket.readyState, socket.bufferedAmount, socket.extensions, socket.protocol],
    [0, 0, "", ""],
  );
  assert.ok(socket instanceof EventTarget);
  const environment = { ...makeLab().environment };
  assert.equal(new AntipodeWebSocket("wss://a.example", [], {}, environment).binaryType, "blob");
  assert.throws(() => new AntipodeWebSocket(), TypeError);
  assert.throws(() => AntipodeWebSocket("wss://a.example"), TypeError);
});

test("attributes can be read only", () => {
  "use strict";
  const { socket } = makeLab().connect();
  for (const name of ["url", "readyState", "bufferedAmount", "extensions", "protocol"]) {
    assert.throws(() => (socket[name] = 1), TypeError, name);
  }
});

test("binaryType takes two words", async () => {
  const { socket } = makeLab().connect();
  socket.binaryType = "blob";
  for (const bad of ["nodebuffer", "", null, undefined, "BLOB"]) {
    socket.binaryType = bad;
    assert.equal(socket.binaryType, "blob");
  }
  socket.binaryType = "arraybuffer";
  assert.equal(socket.binaryType, "arraybuffer");
});

test("data comes as text, ArrayBuffer or Blob", async () => {
  const lab = makeLab();
  const { socket, session, seen } = await lab.open();
  session.say("text ☃");
  session.say(new Uint8Array([1, 2, 3]));
  await lab.clock.advance(50);
  socket.binaryType = "blob";
  session.say(new Uint8Array([4, 5]));
  session.say("");
  session.say(new Uint8Array(0));
  await lab.clock.advance(50);
  const data = seen.slice(1).map((event) => event.data);
  assert.equal(data[0], "text ☃");
  assert.ok(data[1] instanceof ArrayBuffer);
  assert.equal(data[1].byteLength, 3, "the message, and not the frame around it");
  assert.ok(data[2] instanceof Blob);
  assert.deepEqual(new Uint8Array(await data[2].arrayBuffer()), new Uint8Array([4, 5]));
  assert.equal(data[3], "");
  assert.equal(data[4].size, 0);
});

test("events are what they are in a browser", async () => {
  const lab = makeLab();
  const { socket } = lab.connect();
  const events = [];
  for (const type of ["open", "message", "close"]) {
    socket.addEventListener(type, (event) => events.push(event));
  }
  await lab.clock.advance(100);
  lab.core.sessions[0].say("x");
  await lab.clock.advance(50);
  socket.close(3000, "r");
  await lab.clock.advance(100);
  const [open, message, close] = events;
  assert.ok(open instanceof Event && message instanceof MessageEvent);
  assert.equal(message.origin, "wss://a.example");
  for (const event of events) {
    assert.deepEqual([event.bubbles, event.cancelable, event.target], [false, false, socket]);
  }
  assert.deepEqual([close.code, close.reason, close.wasClean], [3000, "r", true]);
  assert.equal(close.constructor.name, "CloseEvent");
});

test("on… attributes", async () => {
  const lab = makeLab();
  const { socket } = lab.connect();
  const calls = [];
  for (const type of ["open", "message", "error", "close", "detached", "resumed", "lost"]) {
    assert.equal(socket[`on${type}`], null);
  }
  socket.onopen = () => calls.push("replaced");
  socket.addEventListener("open", () => calls.push("listener"));
  socket.onopen = function handler() {
    calls.push(this === socket ? "handler" : "wrong this");
  };
  socket.onmessage = () => calls.push("removed");
  socket.onmessage = 7;
  assert.equal(socket.onmessage, null);
  socket.onclose = {};
  assert.equal(typeof socket.onclose, "object");
  await lab.clock.advance(100);
  lab.core.sessions[0].say("x");
  await lab.clock.advance(100);
  assert.deepEqual(calls, ["handler", "listener"], "in the place of its first assignment");
});

test("send takes what a browser's takes", async () => {
  const lab = makeLab();
  const { socket, session } = await lab.open();
  assert.throws(() => socket.send(), TypeError);
  const bytes = new Uint8Array([0, 1, 2, 3]);
  const sizes = [];
  const send = (data) => {
    const before = socket.bufferedAmount;
    socket.send(data);
    sizes.push(socket.bufferedAmount - before);
  };
  send("é");
  send(bytes.buffer);
  send(bytes.subarray(1, 3));
  send(new DataView(bytes.buffer, 3));
  send(new Uint16Array([7]));
  send(new Blob(["blob"]));
  send(null);
  send({ toString: () => "object" });
  send("\ud800");
  send("");
  bytes.fill(9); // It was taken as it stood.
  await lab.clock.advance(100);
  const told = session.messages.map((message) =>
    typeof message === "string" ? message : Buffer.from(message).toString("hex"),
  );
  assert.deepEqual(told, ["é", "00010203", "0102", "03", "0700", "626c6f62", "null", "object",
    "\ufffd", ""]);
  assert.deepEqual(sizes, [2, 4, 2, 1, 2, 4, 4, 6, 3, 0]);
  assert.equal(socket.bufferedAmount, 0);
});

test("a Blob keeps its place", async () => {
  const lab = makeLab();
  const { socket, session } = await lab.open();
  socket.send("before");
  socket.send(new Blob(["in "], { type: "x/y" }));
  socket.send("after");
  socket.close();
  for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
  await lab.clock.advance(200);
  const told = session.messages.map((message) => Buffer.from(message).toString());
  assert.deepEqual(told, ["before", "in ", "after"]);
  assert.equal(session.closedWith, 0);
});

test("send before and after", async () => {
  const lab = makeLab();
  const { socket } = lab.connect();
  assert.throws(() => socket.send("x"), { name: "InvalidStateError", code: 11 });
  await lab.clock.advance(100);
  const [session] = lab.core.sessions;
  socket.close();
  socket.send("lost");
  assert.equal(socket.bufferedAmount, 4, "counted, and not sent");
  await lab.clock.advance(200);
  assert.equal(socket.readyState, 3);
  socket.send("more");
  assert.equal(socket.bufferedAmount, 8);
  assert.deepEqual(session.messages, []);
});

test("close checks what it is given", async () => {
  const lab = makeLab();
  const { socket } = await lab.open();
  for (const code of [0, 999, 1001, 1005, 2999, 5000, 65_536, -1, null, "abc", NaN, 999.4]) {
    assert.throws(() => socket.close(code), { name: "InvalidAccessError", code: 15 }, `${code}`);
  }
  const long = { name: "SyntaxError", code: 12 };
  assert.throws(() => socket.close(1000, "x".repeat(124)), long);
  assert.throws(() => socket.close(1000, "é".repeat(62)), long);
  assert.throws(() => socket.close(undefined, "x".repeat(124)), long);
  assert.throws(() => socket.close(7, "x".repeat(124)), { name: "InvalidAccessError" });
  assert.equal(socket.readyState, 1, "nothing of that closed it");
});

test("close says what it was given", async () => {
  for (const [given, code, reason] of [
    [[], 1005, ""],
    [[undefined], 1005, ""],
    [[1000], 1000, ""],
    [["3001"], 3001, ""],
    [[2999.5], 3000, ""],
    [[4999, "x".repeat(123)], 4999, "x".repeat(123)],
    [[3000, "\ud800"], 3000, "\ufffd"],
    [[undefined, "why"], 1000, "why"],
  ]) {
    const lab = makeLab();
    const { socket, session, seen } = await lab.open();
    socket.close(...given);
    socket.close(4000, "again");
    await lab.clock.advance(200);
    assert.equal(session.closedWith, code === 1005 ? 0 : code);
    assert.deepEqual(types(seen), ["open", "close"]);
    assert.deepEqual([seen[1].code, seen[1].reason, seen[1].wasClean], [code, reason, true]);
  }
});

test("messages that come while closing are not for the application", async () => {
  const lab = makeLab();
  const { socket, session, seen } = await lab.open();
  session.say("too late");
  socket.close();
  await lab.clock.advance(200);
  assert.deepEqual(types(seen), ["open", "close"]);
  assert.ok(session.machine.isFinished, "and yet acknowledged");
});

test("what a listener does, it may do", async () => {
  const lab = makeLab();
  const { socket, session, seen } = await lab.open();
  socket.addEventListener("message", ({ data }) => {
    socket.send(`re: ${data}`);
    if (data === "3") socket.close(4002);
  });
  for (const text of ["1", "2", "3", "4"]) session.say(text);
  await lab.clock.advance(300);
  assert.deepEqual(session.messages, ["re: 1", "re: 2", "re: 3"]);
  assert.equal(session.closedWith, 4002);
  assert.deepEqual(types(seen), ["open", "message", "message", "message", "close"]);
});

test("without an implementation it says what to do", () => {
  const environment = { ...makeLab().environment, WebSocket: undefined };
  const make = () => new AntipodeWebSocket("wss://a.example", [], {}, environment);
  assert.throws(make, { name: "TypeError", message: /options\.WebSocket/ });
});
