// The frames of antipode.resume.v1: one frame is one binary WebSocket message.
//
// Strict both ways: each frame has one encoding, and nothing else is taken. The table is in
// docs/protocol.md, "Resumable clients"; proto/tests/vectors holds this file and the Rust one to
// the same bytes.

import { fromUtf8, toUtf8 } from "./text.js";

/** The version that `welcome` and `attach` state. */
const VERSION = 1;

/** The epoch of a session's first attachment: the one that is welcomed. */
const FIRST_EPOCH = 1;

/** Most bytes of payload in one chunk. */
export const CHUNK_BYTES_MAX = 16 * 1024;

/** Most bytes of a reason or a detail (RFC 6455 section 5.5: 125 beside a code of two). */
export const REASON_BYTES_MAX = 123;

/** Most bytes of the fields that have a length before them. */
const BYTES_MAX = { token: 256, core: 256, protocol: 1024, url: 2048 };

/** The first byte of a frame. */
const KINDS = {
  welcome: 1,
  attach: 2,
  attached: 3,
  refused: 4,
  chunk: 5,
  end: 6,
  ack: 7,
  reset: 8,
  go_away: 9,
  ping: 10,
  pong: 11,
  moved: 12,
};

// Flags of a chunk.
const HAS_FRAME = 1;
const HAS_FRAME_LEN = 2;

/** FIN and the opcode; no extension is agreed, so no other bit may be set. */
export const FIN = 0x80;
const OPCODE_MAX = 2;

/** A number has at most eight bytes: the ninth could only go beyond 2^53 - 1. */
const INTEGER_BYTES_MAX = 8;

const CAUSE_MAX = 2 ** 31 - 1;

// By field: how it is read and written. `version` and `epoch` of a welcome can have one value only.
const FIELDS = {
  welcome: {
    version: "version",
    epoch: "first",
    credit: "integer",
    window_ms: "integer",
    ping_ms: "integer",
    token: "bytes",
    core: "text",
    protocol: "text",
  },
  attach: {
    version: "version",
    epoch: "integer",
    received: "integer",
    credit: "integer",
    token: "bytes",
  },
  attached: { epoch: "integer", received: "integer", credit: "integer" },
  refused: { cause: "cause", detail: "rest" },
  chunk: { seq: "integer", ack: "integer", credit: "integer" },
  end: {
    seq: "integer",
    ack: "integer",
    credit: "integer",
    cause: "cause",
    close_code: "code",
    reason: "rest",
  },
  ack: { ack: "integer", credit: "integer" },
  reset: { cause: "cause", detail: "rest" },
  go_away: { after_ms: "integer", grace_ms: "integer", url: "text", token: "bytes" },
  ping: { n: "integer" },
  pong: { n: "integer" },
  moved: { epoch: "integer" },
};

/** Fields that say the same in every frame of this version, and are no part of the object. */
const CONSTANTS = { version: VERSION, first: FIRST_EPOCH };

const NAMES = Object.fromEntries(Object.entries(KINDS).map(([name, kind]) => [kind, name]));

/** What was received is no frame of version 1. `label` is from a closed set. */
export class DecodeError extends Error {
  name = "DecodeError";

  constructor(label, message) {
    super(message);
    this.label = label;
  }
}

/** A frame `{ kind, ...fields }` as bytes. */
export function encode(frame) {
  const parts = [[KINDS[frame.kind]]];
  for (const [name, type] of Object.entries(FIELDS[frame.kind])) {
    encodeField(parts, type, CONSTANTS[type] ?? frame[name]);
  }
  if (frame.kind === "chunk") encodePiece(parts, frame);
  return concat(parts);
}

/** Bytes as a frame; throws a {@link DecodeError}. What is in it may share the bytes' memory. */
export function decode(bytes) {
  const input = new Input(bytes);
  const number = input.byte();
  const kind = NAMES[number];
  if (kind === undefined) throw new DecodeError("kind", `unknown kind ${number}`);
  const frame = { kind };
  for (const [name, type] of Object.entries(FIELDS[kind])) {
    const value = input[type](name);
    if (!(type in CONSTANTS)) frame[name] = value;
  }
  if (kind === "chunk") input.piece(frame);
  input.finish();
  return frame;
}

function encodeField(parts, type, value) {
  if (type === "rest") {
    parts.push(toUtf8(value));
  } else if (type === "bytes" || type === "text") {
    const bytes = type === "text" ? toUtf8(value) : value;
    parts.push(integer(bytes.length), bytes);
  } else {
    parts.push(integer(value));
  }
}

/** The chunk's own part: flags, what they announce, and the payload. */
function encodePiece(parts, { frame, frame_len, payload }) {
  const hasLength = frame_len !== undefined;
  parts.push([(frame === undefined ? 0 : HAS_FRAME) | (hasLength ? HAS_FRAME_LEN : 0)]);
  if (frame !== undefined) parts.push([frame]);
  if (hasLength) parts.push(integer(frame_len));
  parts.push(payload);
}

/** Unsigned LEB128: seven bits a byte, the lowest first, the top bit set on all but the last. */
function integer(value) {
  const bytes = [];
  let rest = value;
  while (rest >= 128) {
    bytes.push((rest % 128) + 128);
    rest = Math.floor(rest / 128);
  }
  bytes.push(rest);
  return bytes;
}

function concat(parts) {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** Reads fields off the front of a message; a method for each type of field. */
class Input {
  #bytes;
  #at = 0;

  constructor(bytes) {
    this.#bytes = bytes;
  }

  byte() {
    if (this.#at === this.#bytes.length) throw new DecodeError("short", "the message is cut short");
    return this.#bytes[this.#at++];
  }

  integer() {
    let value = 0;
    let scale = 1;
    for (let count = 1; count <= INTEGER_BYTES_MAX; count += 1) {
      const byte = this.byte();
      value += (byte & 127) * scale;
      scale *= 128;
      if (byte >= 128) continue;
      if ((byte === 0 && count > 1) || value > Number.MAX_SAFE_INTEGER) break;
      return value;
    }
    throw new DecodeError("integer", "an integer out of form");
  }

  version() {
    const version = this.integer();
    if (version !== VERSION) {
      throw new DecodeError("version", `version ${version}, but this end speaks ${VERSION}`);
    }
  }

  first() {
    if (this.integer() !== FIRST_EPOCH) throw outOfBounds("epoch");
  }

  cause() {
    const cause = this.integer();
    if (cause > CAUSE_MAX) throw outOfBounds("cause");
    return cause;
  }

  code() {
    const code = this.integer();
    if (code !== 0 && (code < 1000 || code > 4999)) throw outOfBounds("close code");
    return code;
  }

  bytes(name) {
    const length = this.integer();
    if (length > BYTES_MAX[name]) throw outOfBounds(name);
    if (length > this.#bytes.length - this.#at) {
      throw new DecodeError("short", "the message is cut short");
    }
    this.#at += length;
    return this.#bytes.subarray(this.#at - length, this.#at);
  }

  text(name) {
    return toText(this.bytes(name));
  }

  rest(name) {
    return toText(this.#remainder(name, REASON_BYTES_MAX));
  }

  piece(chunk) {
    const flags = this.byte();
    if (flags !== 0 && flags !== HAS_FRAME && flags !== (HAS_FRAME | HAS_FRAME_LEN)) {
      throw new DecodeError("flags", `unknown flags ${flags}`);
    }
    if (flags & HAS_FRAME) {
      chunk.frame = this.byte();
      if ((chunk.frame & ~FIN) > OPCODE_MAX) throw outOfBounds("frame byte");
    }
    if (flags & HAS_FRAME_LEN) chunk.frame_len = this.integer();
    chunk.payload = this.#remainder("payload", CHUNK_BYTES_MAX);
    if (chunk.frame_len <= chunk.payload.length) throw outOfBounds("frame_len");
  }

  finish() {
    if (this.#at !== this.#bytes.length) {
      throw new DecodeError("trailing", "bytes after the last field");
    }
  }

  #remainder(name, bytesMax) {
    const rest = this.#bytes.subarray(this.#at);
    if (rest.length > bytesMax) throw outOfBounds(name);
    this.#at = this.#bytes.length;
    return rest;
  }
}

function outOfBounds(what) {
  return new DecodeError("bounds", `${what} out of bounds`);
}

function toText(bytes) {
  try {
    return fromUtf8(bytes);
  } catch {
    throw new DecodeError("text", "text that is not UTF-8");
  }
}
