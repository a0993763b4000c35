// The codec and the session machine against proto/tests/vectors, which hold the Rust ones too.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { decode, encode } from "../src/codec.js";
import { Session } from "../src/session.js";
import { randomFrom } from "./lab/place.js";

const vectors = (name) =>
  JSON.parse(readFileSync(new URL(`../../../proto/tests/vectors/${name}`, import.meta.url)));

test("every message is what it was", () => {
  const { good, bad } = vectors("resume_codec.json");
  assert.ok(good.length > 30 && bad.length > 100, "there are vectors");
  for (const { name, frame, ...row } of good) {
    assert.deepEqual(toHex(encode(fromJson(frame))), toHex(messageOf(row)), name);
    assert.deepEqual(toJson(decode(messageOf(row))), frame, name);
  }
  for (const { name, error, ...row } of bad) {
    assert.throws(() => decode(messageOf(row)), { name: "DecodeError", label: error }, name);
  }
});

test("what decodes has one encoding, and what does not is a DecodeError", () => {
  const random = randomFrom(7);
  const { good } = vectors("resume_codec.json");
  const messages = good.map(messageOf);
  for (let n = 0; n < 20_000; n += 1) {
    const bytes = Uint8Array.from(messages[Math.floor(random() * messages.length)]);
    for (let times = 0; times < 1 + random() * 3; times += 1) {
      bytes[Math.floor(random() ** 3 * bytes.length)] = random() * 256;
    }
    const message = bytes.subarray(0, bytes.length - Math.floor(random() ** 4 * bytes.length));
    let frame;
    try {
      frame = decode(message);
    } catch (error) {
      assert.equal(error.name, "DecodeError", error.stack);
      continue;
    }
    assert.deepEqual(toHex(encode(frame)), toHex(message));
  }
});

for (const { name, side, config, steps } of vectors("resume_session.json").scripts) {
  test(`a session lives as it did: ${name}`, () => {
    const run = runner(side, config);
    steps.forEach((step, at) => {
      const { gives, error, newer, look, ...call } = step;
      assert.deepEqual({ ...call, ...run(call) }, step, `step ${at}`);
    });
  });
}

/** Makes calls on a machine; returns their outputs, and what has changed of what it shows. */
function runner(side, config) {
  const session = new Session(
    side,
    {
      creditBytesMax: config.credit_bytes_max,
      unackedBytesMax: config.unacked_bytes_max,
      ackDelayMs: config.ack_delay_ms,
      resumeWindowMs: config.resume_window_ms,
    },
    0,
  );
  let before = {};
  return (step) => {
    const outputs = call(session, step);
    const look = lookAround(session);
    const changed = Object.entries(look).filter(([key, value]) => !isSame(value, before[key]));
    before = look;
    return changed.length === 0 ? outputs : { ...outputs, look: Object.fromEntries(changed) };
  };
}

function call(session, step) {
  switch (step.do) {
    case "link_up":
      return session.handleLinkUp() ?? {};
    case "link_down":
      return session.handleLinkDown(step.at) ?? {};
    case "send":
      return session.send(fromJson(step.body)) ?? {};
    case "frame":
      return handleFrame(session, fromJson(step.frame));
    case "transmit":
      return { gives: toJson(withToken(session.pollTransmit())) };
    case "deliver": {
      const delivery = session.pollDeliver();
      return { gives: delivery ? { ...delivery, body: toJson(delivery.body) } : null };
    }
    case "consumed":
      return session.handleConsumed(step.seq, step.at) ?? {};
    case "timeout":
      return session.handleTimeout(step.at) ?? {};
    case "pressure":
      return session.setPressure(step.on) ?? {};
    case "reset":
      return session.reset(step.cause, step.detail) ?? {};
    case "abandon":
      return session.abandon(step.cause, step.detail) ?? {};
    default:
      throw new Error(`no call ${step.do}`);
  }
}

function handleFrame(session, frame) {
  const outputs = frame.kind === "attach" ? { newer: session.attachIsNewer(frame) } : {};
  try {
    session.handleFrame(frame);
  } catch (error) {
    assert.equal(error.name, "ProtocolError", error.stack);
    outputs.error = error.code;
  }
  return outputs;
}

function lookAround(session) {
  return {
    room: session.hasRoom,
    wants: session.wantsTransmit,
    timeout: session.pollTimeout() ?? null,
    epoch: session.epoch,
    ended: session.ended ?? null,
    complete: session.isComplete,
    heard_out: session.isHeardOut,
    finished: session.isFinished,
    unacked: session.unackedBytes,
    held: session.heldBytes,
    replayed: session.replayed,
  };
}

function isSame(one, other) {
  return JSON.stringify(one) === JSON.stringify(other);
}

/** The token is the driver's: the machine's attach goes without, the vectors' with an empty one. */
function withToken(frame) {
  return frame?.kind === "attach" ? { ...frame, token: new Uint8Array(0) } : frame;
}

function messageOf({ message, then = [0, 0] }) {
  return Buffer.concat([Buffer.from(message, "hex"), filled(then)]);
}

function filled([byte, length]) {
  return new Uint8Array(length).fill(byte);
}

function toHex(bytes) {
  return Buffer.from(bytes).toString("hex");
}

/** Payload of one byte over and over is `[byte, length]`, any other is hex; so is a token. */
function toJson(value) {
  if (value === undefined) return null;
  const { payload, token, ...fields } = value;
  if (token !== undefined) fields.token = toHex(token);
  if (payload === undefined) return fields;
  const byte = payload[0] ?? 0;
  const isEven = payload.every((other) => other === byte);
  return { ...fields, payload: isEven ? [byte, payload.length] : toHex(payload) };
}

function fromJson({ payload, token, ...fields }) {
  if (token !== undefined) fields.token = Buffer.from(token, "hex");
  if (payload === undefined) return fields;
  const bytes = Array.isArray(payload) ? filled(payload) : Buffer.from(payload, "hex");
  return { ...fields, payload: bytes };
}
