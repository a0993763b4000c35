// antipode-client, MIT OR Apache-2.0. Made by node/client-js/bundle.mjs.

// Close codes: RFC 6455 section 7.4.1, and the relay's own.

const CLOSE_NORMAL = 1000;
const CLOSE_GOING_AWAY = 1001;
/** Never on the wire: there was a close frame without a code. */
const CLOSE_NO_CODE = 1005;
/** Never on the wire: there was no close frame. */
const CLOSE_ABNORMAL = 1006;
/** The session can't be resumed. */
const CLOSE_NOT_RESUMED = 4410;
/** A newer attachment has the session. */
const CLOSE_MOVED = 4411;

// Text as bytes and back, and the grammar of a token.

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
const strictDecoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** What a subprotocol's name is made of (RFC 6455 section 4.1: a token of RFC 2616). */
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;

function isToken(text) {
  return TOKEN.test(text);
}

/** Halves of characters become U+FFFD, as in USVString of Web IDL. */
function toUtf8(text) {
  return encoder.encode(text);
}

/** Throws a TypeError on what is not UTF-8. */
function fromUtf8(bytes) {
  return strictDecoder.decode(bytes);
}

/** USVString of Web IDL. */
function toWellFormed(text) {
  return decoder.decode(encoder.encode(text));
}

/** The longest beginning of `text` of at most `bytesMax` bytes in UTF-8. */
function cut(text, bytesMax) {
  const { read } = encoder.encodeInto(text, new Uint8Array(bytesMax));
  return text.slice(0, read);
}

// The frames of antipode.resume.v1: one frame is one binary WebSocket message.
//
// Strict both ways: each frame has one encoding, and nothing else is taken. The table is in
// docs/protocol.md, "Resumable clients"; proto/tests/vectors holds this file and the Rust one to
// the same bytes.


/** The version that `welcome` and `attach` state. */
const VERSION = 1;

/** The epoch of a session's first attachment: the one that is welcomed. */
const FIRST_EPOCH = 1;

/** Most bytes of payload in one chunk. */
const CHUNK_BYTES_MAX = 16 * 1024;

/** Most bytes of a reason or a detail (RFC 6455 section 5.5: 125 beside a code of two). */
const REASON_BYTES_MAX = 123;

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
const FIN = 0x80;
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
class DecodeError extends Error {
  name = "DecodeError";

  constructor(label, message) {
    super(message);
    this.label = label;
  }
}

/** A frame `{ kind, ...fields }` as bytes. */
function encode(frame) {
  const parts = [[KINDS[frame.kind]]];
  for (const [name, type] of Object.entries(FIELDS[frame.kind])) {
    encodeField(parts, type, CONSTANTS[type] ?? frame[name]);
  }
  if (frame.kind === "chunk") encodePiece(parts, frame);
  return concat(parts);
}

/** Bytes as a frame; throws a {@link DecodeError}. What is in it may share the bytes' memory. */
function decode(bytes) {
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

// One real WebSocket. Whether it carries frames of antipode.resume.v1 or the application's own
// messages is the relay's choice.


const RESUME_PROTOCOL = "antipode.resume.v1";

class Attachment {
  #environment;
  #socket;
  #on;
  #timer;
  /** What happened meanwhile, while it is on hold. */
  #held;

  /** `on` is `{ open(), message(data), frame(frame), malformed(error), closed({ code, reason,
   * wasClean }) }`. Nothing comes after `closed`, `malformed` or {@link Attachment#close}. */
  constructor(environment, url, protocols, on) {
    this.url = url;
    this.#environment = environment;
    this.#on = on;
    const socket = new environment.WebSocket(url, protocols);
    this.#socket = socket;
    socket.binaryType = "arraybuffer";
    socket.onopen = () => this.#on?.open();
    socket.onmessage = ({ data }) => this.#inTurn(() => this.#receive(data));
    socket.onerror = () => {}; // `closed` follows.
    socket.onclose = ({ code, reason, wasClean }) =>
      this.#inTurn(() => this.#end({ code, reason, wasClean }));
  }

  /** Gives it to a new owner. */
  set on(on) {
    this.#on = on;
  }

  get protocol() {
    return this.#socket.protocol;
  }

  get isResumable() {
    return this.#socket.protocol === RESUME_PROTOCOL;
  }

  get bufferedAmount() {
    return this.#socket.bufferedAmount;
  }

  sendFrame(frame) {
    this.send(encode(frame));
  }

  send(data) {
    this.#socket.send(data);
  }

  /** What comes in this task is told in the next one: a browser has a task for each event, npm's
   * `ws` one for all that came in one packet. */
  hold() {
    this.#held = [];
    const release = () => {
      const held = this.#held;
      this.#held = undefined;
      for (const call of held) call();
    };
    this.#environment.setTimeout(release, 0);
  }

  /** Calls back if nothing has come within `ms`. */
  expect(ms, call) {
    this.#timer = this.#environment.setTimeout(call, ms);
  }

  /** Begins the closing handshake; the owner hears how it ends. */
  closeGently(code, reason) {
    if (code === undefined) this.#socket.close();
    else this.#socket.close(code, reason);
  }

  /** Closes it; nothing more is heard of it. */
  close() {
    this.#environment.clearTimeout(this.#timer);
    this.#on = undefined;
    this.#socket.close();
  }

  #inTurn(call) {
    if (this.#held === undefined) call();
    else this.#held.push(call);
  }

  #receive(data) {
    this.#environment.clearTimeout(this.#timer);
    if (this.#on === undefined) return;
    if (!this.isResumable) {
      this.#on.message(data);
      return;
    }
    const { frame, error } = tryDecode(data);
    if (error === undefined) {
      this.#on.frame(frame);
      return;
    }
    const on = this.#on;
    this.close();
    on.malformed(error);
  }

  #end(how) {
    this.#environment.clearTimeout(this.#timer);
    const on = this.#on;
    this.#on = undefined;
    on?.closed(how);
  }
}

function tryDecode(data) {
  if (typeof data === "string") return { error: new DecodeError("kind", "a text message") };
  try {
    return { frame: decode(new Uint8Array(data)) };
  } catch (error) {
    return { error };
  }
}

// Which relays to try, in which order: the addresses that the application gave, the gateway's
// answer (docs/steering.md) or the last good one, and the URL itself.

/** An answer younger than this is as good as a new one. */
const FRESH_MS = 30_000;

/** The same for one whose relays could not be reached. */
const DOUBTFUL_FRESH_MS = 5000;

/** A first connect waits this long for the gateway, then it goes on without. */
const GATEWAY_PATIENCE_MS = 2000;

/** Most relays that are tried in one go. */
const CANDIDATES_MAX = 8;

const ANSWER_CHARS_MAX = 65_536;
const URL_CHARS_MAX = 2048;
const GATEWAYS_MAX = 8;
const STORAGE_KEY = "antipode-candidates:";

/** The last good answer of each gateway, for all sockets of a page: `{ urls, at }`. */
const answers = new Map();

class Candidates {
  #environment;
  #target;
  #gateway;
  #given;
  #asking;

  /** `target` is the URL that the application wants; its path and query go to every relay. */
  constructor(environment, target, { gateway, candidates = [] }) {
    this.#environment = environment;
    this.#target = target;
    this.#given = [...candidates].map(String);
    this.#gateway = gateway === undefined ? undefined : steerUrl(gateway, environment);
  }

  /** Calls back with the addresses to try, once the gateway has answered or has had its time. */
  prepare(callback) {
    if (this.#gateway === undefined || this.#isFresh(FRESH_MS)) {
      callback();
      return;
    }
    let isWaiting = true;
    const proceed = () => {
      if (isWaiting) callback();
      isWaiting = false;
    };
    const timer = this.#environment.setTimeout(proceed, GATEWAY_PATIENCE_MS);
    this.#askOnce().then(() => {
      this.#environment.clearTimeout(timer);
      proceed();
    });
  }

  /** What is known could not be reached: asks the gateway, for the next time. */
  doubt() {
    if (this.#gateway !== undefined && !this.#isFresh(DOUBTFUL_FRESH_MS)) this.#askOnce();
  }

  /** Forgets that the answer is fresh: relays have changed. */
  expire() {
    const answer = answers.get(this.#gateway);
    if (answer !== undefined) answer.at = -Infinity;
  }

  /** The addresses to try: `first` before all, `last` (one that failed) after the others. */
  urls({ first, last } = {}) {
    const bases = [first, ...this.#given, ...this.#known(), this.#target.href];
    const found = new Set();
    for (const base of bases) {
      const url = base && this.#on(base);
      if (url) found.add(url);
    }
    if (found.delete(last)) found.add(last);
    return [...found].slice(0, CANDIDATES_MAX);
  }

  /** The target's path and query on another relay; undefined for what can't be one. */
  #on(base) {
    try {
      const url = new URL(base);
      const isSecure = url.protocol === "wss:";
      // Never from an encrypted address to an open one.
      const isOpen = url.protocol === "ws:" && this.#target.protocol === "ws:";
      if (!isSecure && !isOpen) return undefined;
      if (url.href === this.#target.href) return url.href;
      url.pathname = url.pathname.replace(/\/$/, "") + this.#target.pathname;
      url.search = this.#target.search;
      url.hash = "";
      return url.href;
    } catch {
      return undefined;
    }
  }

  #isFresh(ageMs) {
    const answer = answers.get(this.#gateway);
    return answer !== undefined && this.#environment.now() - answer.at < ageMs;
  }

  #known() {
    if (this.#gateway === undefined) return [];
    return answers.get(this.#gateway)?.urls ?? this.#stored();
  }

  /** One question at a time. Settles when it is over, whatever came. */
  #askOnce() {
    this.#asking ??= this.#ask().finally(() => {
      this.#asking = undefined;
    });
    return this.#asking;
  }

  async #ask() {
    const controller = new AbortController();
    const stop = () => controller.abort();
    const timer = this.#environment.setTimeout(stop, 2 * GATEWAY_PATIENCE_MS);
    try {
      const options = { signal: controller.signal, credentials: "omit", cache: "no-store" };
      const response = await this.#environment.fetch(this.#gateway, options);
      if (!response.ok) return; // 503: it knows of no relay now. The last good answer may do.
      const urls = parseAnswer(await response.text());
      if (urls.length > 0) this.#remember(urls);
    } catch {
      // Not reachable, or no answer that can be read: the last good one may do.
    } finally {
      this.#environment.clearTimeout(timer);
    }
  }

  #remember(urls) {
    answers.delete(this.#gateway);
    answers.set(this.#gateway, { urls, at: this.#environment.now() });
    if (answers.size > GATEWAYS_MAX) answers.delete(answers.keys().next().value);
    try {
      this.#environment.storage?.setItem(STORAGE_KEY + this.#gateway, JSON.stringify(urls));
    } catch {
      // Full, or forbidden.
    }
  }

  #stored() {
    try {
      return readUrls(JSON.parse(this.#environment.storage.getItem(STORAGE_KEY + this.#gateway)));
    } catch {
      return [];
    }
  }
}

/** For tests: a page that has never asked. */
function forgetAnswers() {
  answers.clear();
}

function steerUrl(gateway, { baseUrl, timeZone }) {
  const url = new URL(gateway, baseUrl);
  if (!url.pathname.endsWith("/v1/steer")) {
    url.pathname = `${url.pathname.replace(/\/$/, "")}/v1/steer`;
  }
  if (timeZone !== undefined && !url.searchParams.has("tz")) url.searchParams.set("tz", timeZone);
  return url.href;
}

function parseAnswer(text) {
  if (text.length > ANSWER_CHARS_MAX) return [];
  const { candidates } = JSON.parse(text);
  if (!Array.isArray(candidates)) return [];
  // Each relay's first address before any one's second.
  const lists = candidates.slice(0, CANDIDATES_MAX).map((candidate) => readUrls(candidate?.urls));
  const depth = Math.max(0, ...lists.map((list) => list.length));
  return Array.from({ length: depth }, (_, at) => lists.map((list) => list[at]))
    .flat()
    .filter((url) => url !== undefined)
    .slice(0, CANDIDATES_MAX);
}

function readUrls(value) {
  if (!Array.isArray(value)) return [];
  const isUrl = (url) => typeof url === "string" && url.length <= URL_CHARS_MAX;
  return value.filter(isUrl).slice(0, CANDIDATES_MAX);
}

// Why a session ended: the numbers of `Cause` in trunk.proto, and what close code each one becomes.
// The codes are those that a node tells a client without resume (docs/operations.md).

const COMPLETE = 1;
const CLIENT_CLOSED = 2;
const BACKEND_CLOSED = 3;
const CLIENT_LOST = 4;
const CLIENT_PROTOCOL = 6;
const POLICY = 15;
const REPLACED = 16;
const SESSION_LOST = 17;
const TRUNK_LOST = 18;
const TRUNK_PROTOCOL = 19;

/** By number: the word, the close code, and the reason where the peer gives none. */
const CAUSES = [
  ["unspecified", 1011, "the session ended"],
  ["complete", 1000, ""],
  ["client_closed", 1000, ""],
  ["backend_closed", 1000, ""],
  ["client_lost", 1001, "the client was lost"],
  ["backend_lost", 1014, "the backend was lost"],
  ["client_protocol", 1002, "the client broke the protocol"],
  ["backend_protocol", 1014, "the backend broke the protocol"],
  ["client_slow", 4409, "the client reads too slowly"],
  ["backend_slow", 1013, "the backend reads too slowly"],
  ["client_idle", 1001, "nothing heard in time"],
  ["backend_unreachable", 1014, "the backend can't be reached"],
  ["backend_timeout", 1014, "the backend did not answer in time"],
  ["node_draining", 1001, "the relay goes away"],
  ["core_draining", 1012, "the core restarts: come back"],
  ["policy", 1008, "against a rule of the operator's"],
  ["replaced", 4411, "a newer attachment took over"],
  ["session_lost", 4410, "the session is lost"],
  ["trunk_lost", 4410, "the session could not be resumed in time"],
  ["trunk_protocol", 1011, "client and core disagree"],
  ["internal", 1011, "the relay met a fault"],
  ["core_full", 1013, "the core is full: try again"],
];

/** The number itself, or 0 for one that this version does not know. */
function known(number) {
  return number < CAUSES.length ? number : 0;
}

/** `{ word, code, text }` of a cause; of `unspecified` for a number that is not known. */
function telling(cause) {
  const [word, code, text] = CAUSES[cause] ?? CAUSES[0];
  return { word, code, text };
}

// What a segment carries, what it costs in credit, and what the peer may do wrong with it.


/** Credit that each segment costs beside its bytes. */
const SEGMENT_OVERHEAD_BYTES = 64;

/** Credit in bytes that each end may take for granted before it has heard from the other. */
const INITIAL_CREDIT_BYTES = 256 * 1024;

/** What a chunk or an end counts against credit. Both ends must agree on it to the byte. */
function cost(body) {
  const bytes = body.kind === "end" ? toUtf8(body.reason).length : body.payload.length;
  return SEGMENT_OVERHEAD_BYTES + bytes;
}

/** What the peer did against the protocol. `code` is from a closed set. */
class ProtocolError extends Error {
  name = "ProtocolError";

  constructor(code, message) {
    super(message);
    this.code = code;
  }

  /** The cause that the session is reset with. */
  get cause() {
    return this.code === "state_lost" ? SESSION_LOST : TRUNK_PROTOCOL;
  }
}

// Messages to chunks and back. A chunk is a piece of a WebSocket frame (RFC 6455 section 5.2): the
// first one of a frame carries the frame's first byte, and its length if there are more.


const CONTINUATION = 0;
const TEXT = 1;
const BINARY = 2;

/** The peer sent what is no message. `closeCode` is RFC 6455's. */
class MessageError extends Error {
  name = "MessageError";

  constructor(closeCode, message) {
    super(message);
    this.closeCode = closeCode;
  }
}

/** Cuts one message into chunks, one at a time. */
class Pieces {
  #bytes;
  #opcode;
  #at = 0;

  constructor(bytes, isText) {
    this.#bytes = bytes;
    this.#opcode = isText ? TEXT : BINARY;
  }

  get bytesLeft() {
    return this.#bytes.length - this.#at;
  }

  /** The next chunk, and whether it is the last one. */
  next() {
    const first = this.#at === 0;
    const payload = this.#bytes.subarray(this.#at, this.#at + CHUNK_BYTES_MAX);
    this.#at += payload.length;
    const isLast = this.#at === this.#bytes.length;
    const chunk = { kind: "chunk", payload };
    if (first) chunk.frame = FIN | this.#opcode;
    if (first && !isLast) chunk.frame_len = this.#bytes.length;
    return { chunk, isLast };
  }
}

/** Puts chunks together to messages. */
class Assembler {
  #bytesMax;
  /** What is there of the message, and room for more. */
  #buffer = new Uint8Array(0);
  #bytes = 0;
  /** Opcode of the message that is under way. */
  #opcode;
  /** Whether the frame that is under way is the message's last. */
  #isFinal = false;
  /** What the frame that is under way still lacks. */
  #frameLeft = 0;

  constructor(bytesMax) {
    this.#bytesMax = bytesMax;
  }

  /** Takes a chunk. Returns the message `{ text }` or `{ bytes }` once whole; throws a
   * {@link MessageError}. */
  push({ frame, frame_len, payload }) {
    if (frame === undefined) this.#goOn(payload);
    else this.#beginFrame(frame, frame_len ?? payload.length, payload);
    this.#append(payload);
    if (this.#frameLeft > 0 || !this.#isFinal) return undefined;
    return this.#take();
  }

  #goOn(payload) {
    if (this.#frameLeft === 0 || payload.length > this.#frameLeft) {
      throw new MessageError(1002, "a piece that belongs to no frame");
    }
    this.#frameLeft -= payload.length;
  }

  #beginFrame(first, length, payload) {
    const opcode = first & ~FIN; // The codec has let nothing else pass.
    if (this.#frameLeft > 0) throw new MessageError(1002, "a frame inside a frame");
    if (opcode === CONTINUATION) {
      if (this.#opcode === undefined) throw new MessageError(1002, "nothing to continue");
    } else if (this.#opcode !== undefined) {
      throw new MessageError(1002, "a message inside a message");
    } else {
      this.#opcode = opcode;
    }
    if (this.#bytes + length > this.#bytesMax) {
      throw new MessageError(1009, `a message of more than ${this.#bytesMax} bytes`);
    }
    this.#isFinal = (first & FIN) !== 0;
    this.#frameLeft = length - payload.length;
  }

  /** Memory grows with what came, not with what was announced. */
  #append(payload) {
    const bytes = this.#bytes + payload.length;
    if (this.#bytes === 0) {
      this.#buffer = payload;
    } else if (payload.length > 0) {
      if (bytes > this.#buffer.length) {
        const larger = new Uint8Array(Math.min(this.#bytesMax, 2 * bytes));
        larger.set(this.#buffer.subarray(0, this.#bytes));
        this.#buffer = larger;
      }
      this.#buffer.set(payload, this.#bytes);
    }
    this.#bytes = bytes;
  }

  #take() {
    const bytes = this.#buffer.subarray(0, this.#bytes);
    const isText = this.#opcode === TEXT;
    this.#buffer = new Uint8Array(0);
    this.#bytes = 0;
    this.#opcode = undefined;
    if (!isText) return { bytes };
    try {
      return { text: fromUtf8(bytes) };
    } catch {
      throw new MessageError(1007, "a text that is not UTF-8");
    }
  }
}

// First in, first out, in constant time: `Array.shift` moves everything that is behind.

class Queue {
  #items = [];
  #start = 0;

  get length() {
    return this.#items.length - this.#start;
  }

  push(item) {
    this.#items.push(item);
  }

  /** The item at `index` from the front; undefined beyond the end. */
  at(index) {
    return this.#items[this.#start + index];
  }

  shift() {
    if (this.length === 0) return undefined;
    const item = this.#items[this.#start];
    this.#items[this.#start] = undefined;
    this.#start += 1;
    // Half of it is gone: now moving the rest costs less than what was saved.
    if (this.#start * 2 >= this.#items.length) {
      this.#items.splice(0, this.#start);
      this.#start = 0;
    }
    return item;
  }

  clear() {
    this.#items = [];
    this.#start = 0;
  }
}

// What the application has sent and the session has not taken yet: in order, cut into chunks as
// there is credit.


class Outbox {
  #items = new Queue();
  #end;
  #onReady;

  /** `onReady(error)` is called when a Blob at the front has been read, or could not be. */
  constructor(onReady) {
    this.#onReady = onReady;
  }

  push({ isText, bytes, blob }) {
    const item = { isText, pieces: bytes && new Pieces(bytes, isText) };
    this.#items.push(item);
    if (blob === undefined) return;
    const read = (buffer) => {
      item.pieces = new Pieces(new Uint8Array(buffer), false);
      this.#onReady();
    };
    blob.arrayBuffer().then(read, (error) => this.#onReady(error));
  }

  /** Nothing more will come: `end` goes once everything before it has gone. */
  end(end) {
    this.#end ??= end;
  }

  /** Gives the session what it has room for. */
  fill(session) {
    while (session.hasRoom) {
      const item = this.#items.at(0);
      if (item === undefined || item.pieces === undefined) break;
      const { chunk, isLast } = item.pieces.next();
      if (isLast) this.#items.shift();
      session.send(chunk);
    }
    // An end needs no room: it is the last thing that is kept.
    if (this.#items.length === 0 && this.#end !== undefined) {
      session.send(this.#end);
      this.#end = undefined;
    }
  }

  clear() {
    this.#items.clear();
    this.#end = undefined;
  }
}

// The incoming half of a session: order, credit, and when an acknowledgement is due.
// A port of proto/src/session/receiver.rs.


/** A window spent within this time doubles. */
const GROWTH_PERIOD_MS = 1000;

/** What the window shrinks to under pressure. */
const PRESSURE_WINDOW_BYTES = 32 * 1024;

/** An acknowledgement goes at once when this share of the window was consumed since the last. */
const ACK_SHARE = 4;

class Receiver {
  #config;
  #ended = false;
  /** Received and not yet handed to the driver. */
  #inbox = new Queue();
  /** Received and not yet consumed: number and cost. */
  #unconsumed = new Queue();
  #received = 0;
  #receivedBytes = 0;
  #consumed = 0;
  #consumedBytes = 0;
  #endConsumed = false;
  #window = INITIAL_CREDIT_BYTES;
  #growth;
  #pressed = false;
  /** Credit that was told to the peer last: the most there ever was. */
  #granted = INITIAL_CREDIT_BYTES;
  #ackSent = 0;
  #ackDue;
  #ackReady = false;

  constructor(config, now) {
    this.#config = config;
    this.#growth = { since: now, consumedBytes: 0 };
  }

  handleSegment(seq, body) {
    // A copy, or beyond a gap: a late frame of an older attachment. A resume told the peer where we
    // stand.
    if (seq !== this.#received + 1) return;
    if (this.#receivedBytes >= this.#granted) {
      throw new ProtocolError("credit_exceeded", `segment ${seq} exceeds the credit`);
    }
    if (this.#ended) throw new ProtocolError("out_of_place", `segment ${seq} is out of place`);
    this.#ended = body.kind === "end";
    const bytes = cost(body);
    this.#received = seq;
    this.#receivedBytes += bytes;
    this.#unconsumed.push({ seq, bytes });
    this.#inbox.push({ seq, body });
  }

  handleConsumed(seq, now) {
    const before = this.#consumed;
    while (this.#unconsumed.length > 0 && this.#unconsumed.at(0).seq <= seq) {
      const front = this.#unconsumed.shift();
      this.#consumed = front.seq;
      this.#consumedBytes += front.bytes;
    }
    if (this.#consumed === before) return;
    this.#endConsumed = this.#ended && this.#consumed === this.#received;
    this.#growWindow(now);
    if (this.#endConsumed || this.#renewalIsDue) {
      this.ackAtOnce();
    } else if (!this.#ackReady) {
      this.#ackDue ??= now + this.#config.ackDelayMs;
    }
  }

  handleTimeout(now) {
    if (this.#ackDue !== undefined && this.#ackDue <= now) {
      this.#ackDue = undefined;
      this.#ackReady = true;
    }
  }

  setPressure(pressed) {
    this.#pressed = pressed;
    // The pressure is off, and the peer may be waiting.
    if (this.#renewalIsDue) this.ackAtOnce();
  }

  ackAtOnce() {
    this.#ackReady = true;
    this.#ackDue = undefined;
  }

  pollDeliver() {
    return this.#inbox.shift();
  }

  /** What an acknowledgement says now; it counts as said. */
  takeAck() {
    this.#grant();
    this.#ackSent = this.#consumed;
    this.#ackDue = undefined;
    this.#ackReady = false;
    return { ack: this.#consumed, credit: this.#granted };
  }

  /** Where this end stands, for a resume: what it holds, consumed or not, and the credit. */
  takePosition() {
    this.#grant();
    return { received: this.#received, credit: this.#granted };
  }

  get ackIsReady() {
    return this.#ackReady;
  }

  get ackDue() {
    return this.#ackDue;
  }

  /** Whether something consumed has not been acknowledged yet. */
  get owesAck() {
    return this.#ackSent < this.#consumed;
  }

  get received() {
    return this.#received;
  }

  /** What the peer should be allowed in all; under pressure less than it was granted. */
  get credit() {
    return this.#consumedBytes + this.#openWindow;
  }

  get unconsumedBytes() {
    return this.#receivedBytes - this.#consumedBytes;
  }

  get endIsConsumed() {
    return this.#endConsumed;
  }

  clear() {
    this.#inbox.clear();
    this.#unconsumed.clear();
    this.#ackDue = undefined;
    this.#ackReady = false;
  }

  get #openWindow() {
    return this.#pressed ? Math.min(this.#window, PRESSURE_WINDOW_BYTES) : this.#window;
  }

  get #renewalIsDue() {
    const unsaid = Math.max(0, this.credit - this.#granted);
    return unsaid >= Math.floor(this.#openWindow / ACK_SHARE);
  }

  /** What was granted once is never taken back. */
  #grant() {
    this.#granted = Math.max(this.#granted, this.credit);
  }

  #growWindow(now) {
    const consumed = this.#consumedBytes - this.#growth.consumedBytes;
    const elapsed = Math.max(0, now - this.#growth.since);
    if (elapsed < GROWTH_PERIOD_MS && consumed < this.#window) return;
    if (elapsed < GROWTH_PERIOD_MS && !this.#pressed) {
      const most = Math.max(this.#config.creditBytesMax, INITIAL_CREDIT_BYTES);
      this.#window = Math.min(this.#window * 2, most);
    }
    this.#growth = { since: now, consumedBytes: this.#consumedBytes };
  }
}

// The outgoing half of a session: what is kept until it is acknowledged, and where the next
// transmission starts. A port of proto/src/session/sender.rs.


class Sender {
  #unackedBytesMax;
  /** Queued and not yet acknowledged, oldest first: `{ seq, offset, body }`. */
  #unacked = new Queue();
  #unackedBytes = 0;
  /** Bytes of payload acknowledged since the session began. */
  #ackedPayloadBytes = 0;
  /** How many at the front of `#unacked` have gone to the attachment since the last resume. */
  #transmitted = 0;
  #lastQueued = 0;
  #acked = 0;
  /** The highest segment that ever went to an attachment. */
  #transmittedMax = 0;
  /** Cost of everything queued so far. */
  #queuedBytes = 0;
  /** What the peer allows in all since the session began. */
  #credit = INITIAL_CREDIT_BYTES;
  #ended = false;
  #replayed = 0;

  constructor(unackedBytesMax) {
    this.#unackedBytesMax = unackedBytesMax;
  }

  push(body) {
    this.#lastQueued += 1;
    this.#ended ||= body.kind === "end";
    this.#unacked.push({ seq: this.#lastQueued, offset: this.#queuedBytes, body });
    this.#queuedBytes += cost(body);
    this.#unackedBytes += cost(body);
  }

  get hasRoom() {
    return this.#unackedBytes < this.#unackedBytesMax && this.#queuedBytes < this.#credit;
  }

  /** A segment may go while any credit is left: it overshoots by itself at most. */
  get wantsTransmit() {
    return this.#next() !== undefined;
  }

  pollTransmit() {
    const kept = this.#next();
    if (kept === undefined) return undefined;
    this.#transmitted += 1;
    if (kept.seq <= this.#transmittedMax) this.#replayed += 1;
    this.#transmittedMax = Math.max(this.#transmittedMax, kept.seq);
    return { seq: kept.seq, body: kept.body };
  }

  /** Forgets what has arrived. Acks are cumulative, so an older one changes nothing. */
  handleAck(ack, credit) {
    if (ack > this.#transmittedMax) {
      const text = `ack of segment ${ack}, but the last one sent is ${this.#transmittedMax}`;
      throw new ProtocolError("ack_beyond_sent", text);
    }
    this.#credit = Math.max(this.#credit, credit);
    while (this.#unacked.length > 0 && this.#unacked.at(0).seq <= ack) {
      const { body } = this.#unacked.shift();
      this.#unackedBytes -= cost(body);
      if (body.kind === "chunk") this.#ackedPayloadBytes += body.payload.length;
      this.#transmitted = Math.max(0, this.#transmitted - 1);
    }
    this.#acked = Math.max(this.#acked, ack);
  }

  /** The peer holds everything up to `received`: transmission goes on from the next one. */
  handleResume(received, credit) {
    if (received < this.#acked) {
      const text = `the peer stands at segment ${received}, but had acknowledged ${this.#acked}`;
      throw new ProtocolError("state_lost", text);
    }
    this.handleAck(received, credit);
    this.#transmitted = 0;
  }

  get isUntouched() {
    return this.#transmittedMax === 0;
  }

  get isEmpty() {
    return this.#unacked.length === 0;
  }

  get isEnded() {
    return this.#ended;
  }

  get unackedBytes() {
    return this.#unackedBytes;
  }

  get ackedPayloadBytes() {
    return this.#ackedPayloadBytes;
  }

  get replayed() {
    return this.#replayed;
  }

  clear() {
    this.#unacked.clear();
    this.#unackedBytes = 0;
    this.#transmitted = 0;
  }

  #next() {
    const kept = this.#unacked.at(this.#transmitted);
    return kept !== undefined && kept.offset < this.#credit ? kept : undefined;
  }
}

// One session: numbering, credit, cumulative acks, and replay after its attachment broke.
//
// A port of proto/src/session.rs, held to the same vectors (proto/tests/vectors). It knows no
// socket and no clock: the driver calls a `handle*` method or `send`, then drains `pollTransmit`
// towards the attachment and `pollDeliver` towards the application, then waits until
// `pollTimeout`. Times are milliseconds of any clock that does not go back.


const SESSION_DEFAULTS = Object.freeze({
  /** Most credit in bytes that is open to the peer at a time. */
  creditBytesMax: 4 * 1024 * 1024,
  /** Most bytes kept for a replay, overhead included. */
  unackedBytesMax: 4 * 1024 * 1024 + 256 * 1024,
  /** How long an acknowledgement waits for a segment to ride on. */
  ackDelayMs: 40,
  /** How long a session without an attachment is kept. */
  resumeWindowMs: 120_000,
});

// Where the session stands with its attachment.
const DETACHED = "detached";
const ATTACHED = "attached";
/** It is up; the peer has to be asked where it stands. */
const ASKING = "asking";
/** Asked; the answer says where the replay starts. */
const ASKED = "asked";
/** The peer asked: answer, then replay. */
const ANSWERING = "answering";

class Session {
  #side;
  #config;
  #link = DETACHED;
  /** Since when nothing has flowed; only while the link is not attached. */
  #since;
  #epoch = 0;
  /** Whether the peer has ever said anything. */
  #confirmed = false;
  #sender;
  #receiver;
  #ended;
  #resetUnsent = false;

  /** `side` is "client", which asks after a break, or "server", which is asked. */
  constructor(side, config, now) {
    this.#side = side;
    this.#config = { ...SESSION_DEFAULTS, ...config };
    this.#since = now;
    this.#sender = new Sender(this.#config.unackedBytesMax);
    this.#receiver = new Receiver(this.#config, now);
  }

  /** Queues a chunk or an end. It is kept until the peer has acknowledged it. */
  send(body) {
    if (this.#ended === undefined) this.#sender.push(body);
  }

  /** Whether the next chunk would stay within the peer's credit and our replay buffer. */
  get hasRoom() {
    return this.#sender.hasRoom;
  }

  /** Ends the session at once and tells the peer. Whatever was under way is dropped. */
  reset(number, detail) {
    if (this.#ended !== undefined) return;
    this.#resetUnsent = !this.isComplete;
    this.#end(number, detail);
  }

  /** Ends the session without a word: the peer is known to be gone. */
  abandon(number, detail) {
    if (this.#ended === undefined) this.#end(number, detail);
  }

  /** There is an attachment to carry the session. A client that moves while its old one still
   * lives calls `handleLinkDown` just before. */
  handleLinkUp() {
    if (this.#link !== DETACHED) return;
    if (this.#epoch === 0) {
      this.#epoch = 1;
      this.#link = ATTACHED;
      // A client acknowledges its welcome at once.
      if (this.#side === "client") this.#receiver.ackAtOnce();
      return;
    }
    if (this.#side === "client") this.#link = ASKING;
  }

  /** What carried the session broke. A server whose client never said a word ends. */
  handleLinkDown(now) {
    if (this.#link === ATTACHED || this.#link === ANSWERING) this.#since = now;
    this.#link = DETACHED;
    if (this.#side === "server" && this.#epoch > 0 && !this.#confirmed) {
      this.#resetUnsent = false;
      this.abandon(CLIENT_LOST, "the client was gone before it had said anything");
    }
  }

  /** Takes one frame from the attachment. Throws a ProtocolError: the driver resets. */
  handleFrame(frame) {
    this.#confirmed = true;
    if (this.#ended !== undefined) {
      // A peer that asks where we stand has to hear of the reset that found no attachment.
      if (frame.kind === "attach" && this.#resetUnsent) this.#link = ATTACHED;
      return;
    }
    switch (frame.kind) {
      case "chunk":
      case "end":
        this.#sender.handleAck(frame.ack, frame.credit);
        this.#receiver.handleSegment(frame.seq, toBody(frame));
        break;
      case "ack":
        this.#sender.handleAck(frame.ack, frame.credit);
        break;
      case "attach":
        this.#handleAttach(frame);
        break;
      case "attached":
        this.#handleAttached(frame);
        break;
      case "reset":
        this.#end(frame.cause, frame.detail);
        break;
      default: // The others are not the machine's.
    }
  }

  /** The driver has given everything up to `seq` to the application, or thrown it away for good. */
  handleConsumed(seq, now) {
    this.#receiver.handleConsumed(seq, now);
  }

  /** Runs whatever is due at `now`. A spurious call does nothing. */
  handleTimeout(now) {
    this.#receiver.handleTimeout(now);
    const deadline = this.#detachedDeadline;
    if (deadline !== undefined && deadline <= now) this.#expire();
  }

  /** Tells the machine whether memory is short: its window shrinks and does not grow. */
  setPressure(pressed) {
    this.#receiver.setPressure(pressed);
  }

  /** The next frame for the attachment; undefined once drained. */
  pollTransmit() {
    if (this.#mayReset) {
      this.#resetUnsent = false;
      return { kind: "reset", cause: this.#ended.cause, detail: this.#ended.detail };
    }
    if (this.#link === ASKING && this.#mayAsk) {
      this.#link = ASKED;
      this.#epoch += 1;
      return { kind: "attach", epoch: this.#epoch, ...this.#receiver.takePosition() };
    }
    if (this.#ended !== undefined) return undefined;
    if (this.#link === ANSWERING) {
      this.#link = ATTACHED;
      return { kind: "attached", epoch: this.#epoch, ...this.#receiver.takePosition() };
    }
    return this.#link === ATTACHED ? this.#pollAttached() : undefined;
  }

  /** Whether `pollTransmit` has something. */
  get wantsTransmit() {
    if (this.#mayReset) return true;
    if (this.#link === ASKING) return this.#mayAsk;
    if (this.#ended !== undefined) return false;
    if (this.#link === ANSWERING) return true;
    const speaks = this.#sender.wantsTransmit || this.#receiver.ackIsReady;
    return this.#link === ATTACHED && speaks;
  }

  /** The next `{ seq, body }` for the application, in order, once. */
  pollDeliver() {
    return this.#ended === undefined ? this.#receiver.pollDeliver() : undefined;
  }

  /** When `handleTimeout` is next of use. Changes after every other method. */
  pollTimeout() {
    const times = [this.ackDeadline, this.#detachedDeadline];
    const due = Math.min(...times.filter((time) => time !== undefined));
    return due === Infinity ? undefined : due;
  }

  get ackDeadline() {
    return this.#receiver.ackDue;
  }

  /** `{ cause, detail }` once the session has ended before its time. */
  get ended() {
    return this.#ended;
  }

  /** Whether segments flow: not before the peer has said where it stands. */
  get isAttached() {
    return this.#link === ATTACHED;
  }

  /** Whether our end is queued: nothing may follow. */
  get isEndQueued() {
    return this.#sender.isEnded;
  }

  /** Whether both directions have come to their end here: ours is queued, the peer's consumed. */
  get isComplete() {
    return this.#sender.isEnded && this.#receiver.endIsConsumed;
  }

  /** Whether the peer has acknowledged everything we had to say, our end included. */
  get isHeardOut() {
    return this.#sender.isEnded && this.#sender.isEmpty;
  }

  /** Whether nothing has to be sent, awaited or delivered any more. */
  get isFinished() {
    if (this.#ended !== undefined) return !this.#resetUnsent;
    return this.isComplete && this.isHeardOut && !this.#receiver.owesAck;
  }

  get epoch() {
    return this.#epoch;
  }

  /** Bytes kept for a replay, overhead included. */
  get unackedBytes() {
    return this.#sender.unackedBytes;
  }

  /** Bytes of payload that the peer has acknowledged since the session began. */
  get ackedPayloadBytes() {
    return this.#sender.ackedPayloadBytes;
  }

  /** Bytes held: kept for a replay, or received and not yet consumed. */
  get heldBytes() {
    if (this.#ended !== undefined) return 0;
    return this.#sender.unackedBytes + this.#receiver.unconsumedBytes;
  }

  /** Segments sent again since the session began. */
  get replayed() {
    return this.#sender.replayed;
  }

  /** Whether this attach would replace the one that counts. */
  attachIsNewer(attach) {
    return attach.epoch > this.#epoch;
  }

  #handleAttach(attach) {
    if (!this.attachIsNewer(attach)) return; // A late word from an older attachment.
    this.#sender.handleResume(attach.received, attach.credit);
    this.#epoch = attach.epoch;
    this.#link = ANSWERING;
  }

  #handleAttached({ epoch, received, credit }) {
    if (this.#link !== ASKED || epoch !== this.#epoch) return;
    try {
      this.#sender.handleResume(received, credit);
      this.#link = ATTACHED;
    } catch (error) {
      if (error.code !== "state_lost" || !this.isComplete) throw error;
      // The peer has forgotten a session in which nothing was left to say.
      this.#end(COMPLETE, "");
    }
  }

  #pollAttached() {
    const segment = this.#sender.pollTransmit();
    if (segment !== undefined) {
      const { kind, ...fields } = segment.body;
      return { kind, seq: segment.seq, ...this.#receiver.takeAck(), ...fields };
    }
    return this.#receiver.ackIsReady ? { kind: "ack", ...this.#receiver.takeAck() } : undefined;
  }

  /** A client has to say which session it speaks of before it can say that it is over. */
  get #mayAsk() {
    return this.#ended === undefined || (this.#side === "client" && this.#resetUnsent);
  }

  get #mayReset() {
    const isTold = this.#link === DETACHED || (this.#link === ASKING && this.#side === "client");
    return this.#resetUnsent && !isTold;
  }

  get #detachedDeadline() {
    const lives = this.#ended === undefined || this.#resetUnsent;
    return this.#link === DETACHED && lives ? this.#since + this.#config.resumeWindowMs : undefined;
  }

  /** The window is over. */
  #expire() {
    this.#resetUnsent = false;
    if (this.#side === "client") {
      this.abandon(SESSION_LOST, "the session could not be resumed in time");
    } else {
      this.abandon(CLIENT_LOST, "the client did not come back");
    }
  }

  #end(number, detail) {
    this.#ended = { cause: known(number), detail: cut(detail, REASON_BYTES_MAX) };
    this.#sender.clear();
    this.#receiver.clear();
  }
}

/** A segment without the numbers of its transmission. */
function toBody({ seq, ack, credit, ...body }) {
  return body;
}

// What the application and the backend say to each other: messages in and out of one session
// machine, and how it ends. Which attachment carries the frames is not its business.


/** The core counts its window from when it notices the loss, which may be later than we do. */
const WINDOW_SLACK_MS = 30_000;

/** After the end was told to the application, the peer has this long to hear of it too. */
const LINGER_MS = 5000;

/** Causes of an end that one of the two applications asked for. */
const ORDERLY = [COMPLETE, CLIENT_CLOSED, BACKEND_CLOSED];

class Conversation {
  #environment;
  #on;
  #session;
  #outbox;
  #assembler;
  #sentBytes = 0;
  #timer;
  #dueAt;
  #lingerTimer;
  /** What is told to the application, once. */
  #isOver = false;
  #isFinished = false;
  #isPumping = false;
  #hasMore = false;

  /**
   * `on` is `{ transmit(frame), message(message), lost({ cause, detail }), over({ code, reason,
   * wasClean, failed }), finished() }`: `lost` at most once and then `over`, `over` once, and
   * `finished` once when there is nothing left to transmit.
   */
  constructor(environment, { windowMs, messageBytesMax }, on) {
    this.#environment = environment;
    this.#on = on;
    const resumeWindowMs = windowMs + WINDOW_SLACK_MS;
    this.#session = new Session("client", { resumeWindowMs }, environment.now());
    this.#outbox = new Outbox((error) => this.#handleRead(error));
    this.#assembler = new Assembler(messageBytesMax);
  }

  get isAttached() {
    return this.#session.isAttached;
  }

  /** The highest epoch that was asked for. */
  get epoch() {
    return this.#session.epoch;
  }

  get replayed() {
    return this.#session.replayed;
  }

  /** Bytes that the application sent and that have not reached the backend, as far as is known. */
  get bufferedBytes() {
    return this.#sentBytes - this.#session.ackedPayloadBytes;
  }

  /** An attachment is there; the machine says whether it has to ask. */
  linkUp() {
    this.#session.handleLinkUp();
    this.#pump();
  }

  linkDown(at) {
    this.#session.handleLinkDown(at);
    this.#pump();
  }

  /** Acknowledges now what could have waited a little. */
  flush() {
    const { ackDeadline } = this.#session;
    if (ackDeadline !== undefined) this.#session.handleTimeout(ackDeadline);
    this.#pump();
  }

  /** Takes a frame of the session. */
  handle(frame) {
    this.#guard(() => this.#session.handleFrame(frame));
    this.#pump();
  }

  send(item) {
    this.#sentBytes += item.size;
    this.#outbox.push(item);
    this.#pump();
  }

  /** The application closes: everything it sent before goes first. */
  close(code, reason) {
    this.#outbox.end({ kind: "end", cause: CLIENT_CLOSED, close_code: code ?? 0, reason });
    this.#pump();
  }

  /** Ends it at once, the peer is told; the application sees what a failed socket looks like. */
  fail(cause, detail) {
    this.#session.reset(cause, detail);
    this.#tellOver({ code: CLOSE_ABNORMAL, reason: detail, wasClean: false, failed: true });
    this.#pump();
  }

  /** The relay says that it is over, and that nothing can be resumed. */
  refuse(cause, detail) {
    this.#session.abandon(cause, detail);
    this.#tellLost(cause, detail, CLOSE_NOT_RESUMED);
    this.#pump();
  }

  /** The session is over, and the peer knows. */
  abandon(cause, detail) {
    this.#session.abandon(cause, detail);
    this.#pump();
  }

  /** The page goes: a goodbye as from a browser's own socket, and not a word to the application. */
  leave() {
    this.#isOver = true;
    this.close(CLOSE_GOING_AWAY, "");
    if (!this.#session.isEndQueued) this.#session.reset(CLIENT_CLOSED, "the page is gone");
    this.#pump();
    this.#finish();
  }

  #handleRead(error) {
    if (error === undefined) this.#pump();
    else this.fail(CLIENT_CLOSED, "a Blob could not be read");
  }

  /** Everything that can be done now; calls back from within are done in the same turn. */
  #pump() {
    this.#hasMore = true;
    if (this.#isPumping || this.#isFinished) return;
    this.#isPumping = true;
    while (this.#hasMore) {
      this.#hasMore = false;
      this.#guard(() => this.#deliver());
      this.#outbox.fill(this.#session);
      for (let frame; (frame = this.#session.pollTransmit()) !== undefined; ) {
        this.#on.transmit(frame);
      }
    }
    this.#isPumping = false;
    this.#settle();
  }

  #deliver() {
    for (let delivery; (delivery = this.#session.pollDeliver()) !== undefined; ) {
      const { seq, body } = delivery;
      if (body.kind === "end") {
        this.#session.handleConsumed(seq, this.#environment.now());
        this.#handleEnd(body);
        continue;
      }
      const message = this.#assembler.push(body);
      if (message !== undefined && !this.#isOver) this.#on.message(message);
      // Told to the application, or kept until its message is whole: neither depends on a relay.
      this.#session.handleConsumed(seq, this.#environment.now());
    }
  }

  /** Nothing more comes from the backend, and it will read nothing more. */
  #handleEnd({ cause, close_code, reason }) {
    if (!this.#session.isEndQueued) {
      this.#outbox.clear();
      this.#outbox.end({ kind: "end", cause: CLIENT_CLOSED, close_code, reason: "" });
    }
    const told = telling(cause);
    const isOrderly = ORDERLY.includes(cause);
    this.#tellOver({
      code: close_code || (isOrderly ? CLOSE_NO_CODE : told.code),
      reason: reason || (close_code || isOrderly ? "" : told.text),
      wasClean: true,
      failed: false,
    });
  }

  /** Runs what reads the peer's words: where they are wrong, the session ends. */
  #guard(read) {
    try {
      read();
    } catch (error) {
      if (error instanceof ProtocolError) {
        this.#session.reset(error.cause, error.message);
      } else if (error instanceof MessageError) {
        this.fail(CLIENT_PROTOCOL, error.message);
      } else {
        throw error;
      }
    }
  }

  #settle() {
    const { ended } = this.#session;
    if (ended !== undefined) this.#tellLost(ended.cause, ended.detail, telling(ended.cause).code);
    if (this.#session.isFinished) this.#finish();
    else this.#schedule();
  }

  #tellLost(cause, detail, code) {
    if (this.#isOver) return;
    const { word, text } = telling(cause);
    this.#on.lost({ cause: word, detail: detail || text });
    this.#tellOver({ code, reason: detail || text, wasClean: false, failed: true });
  }

  #tellOver(how) {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#lingerTimer = this.#environment.setTimeout(() => this.#finish(), LINGER_MS);
    this.#on.over(how);
  }

  #finish() {
    if (this.#isFinished) return;
    this.#isFinished = true;
    this.#isOver = true;
    this.#outbox.clear();
    this.#environment.clearTimeout(this.#timer);
    this.#environment.clearTimeout(this.#lingerTimer);
    this.#on.finished();
  }

  #schedule() {
    const due = this.#session.pollTimeout();
    if (due === this.#dueAt) return;
    this.#dueAt = due;
    this.#environment.clearTimeout(this.#timer);
    if (due === undefined) return;
    const run = () => {
      this.#dueAt = undefined;
      this.#session.handleTimeout(this.#environment.now());
      this.#pump();
    };
    this.#timer = this.#environment.setTimeout(run, Math.max(0, due - this.#environment.now()));
  }
}

// What happens to the page and to its network, as four words: wake, rest, suspend, leave.
//
// | event | means |
// |---|---|
// | online, connection change, visible, resume, pageshow | wake: look at once if the way is there |
// | offline | wake: the sooner the silence is noticed, the sooner the application knows |
// | freeze | rest: the last chance to acknowledge; the socket stays, nobody judges its silence |
// | pagehide, the page is kept | suspend: let go of the socket, or the browser drops the page |
// | pagehide, the page goes | leave: say goodbye, as a browser's own socket does |

/** Calls `wake(reason)`, `rest()`, `suspend()` and `leave()`. Returns what ends that. */
function watchLifecycle({ events, document, navigator }, { wake, rest, suspend, leave }) {
  const watched = [];
  const watch = (target, type, listener) => {
    if (typeof target?.addEventListener !== "function") return;
    target.addEventListener(type, listener);
    watched.push(() => target.removeEventListener(type, listener));
  };
  for (const type of ["online", "offline"]) watch(events, type, () => wake(type));
  watch(navigator?.connection, "change", () => wake("change"));
  if (document !== undefined) {
    watch(document, "visibilitychange", () => {
      if (document.visibilityState === "visible") wake("visible");
    });
    watch(document, "freeze", rest);
    watch(document, "resume", () => wake("resume"));
    watch(events, "pageshow", () => wake("pageshow"));
    watch(events, "pagehide", (event) => (event.persisted ? suspend() : leave()));
  }
  return () => {
    for (const stop of watched.splice(0)) stop();
  };
}

// Several addresses, one winner: the next one starts when the one before has not won within the
// stagger, or at once when it failed (after RFC 8305, "Happy Eyeballs").

class Race {
  #environment;
  #dial;
  #urls;
  #times;
  #finish;
  #running = new Set();
  #staggerTimer;
  #isOver = false;

  /**
   * `dial(url, { won, failed })` starts an attempt and returns `{ close() }`; it may throw.
   * `times` is `{ staggerMs, dialMs }`. `finish(winner)` is called once, in a task of its own if
   * nothing could be started; without a winner if all have failed.
   */
  constructor(environment, dial, urls, times, finish) {
    this.#environment = environment;
    this.#dial = dial;
    this.#urls = [...urls];
    this.#times = times;
    this.#finish = finish;
    this.#startNext();
  }

  /** Ends it without a winner and without a word. */
  cancel() {
    this.#isOver = true;
    this.#environment.clearTimeout(this.#staggerTimer);
    for (const attempt of [...this.#running]) this.#stop(attempt);
  }

  #startNext() {
    this.#environment.clearTimeout(this.#staggerTimer);
    const url = this.#urls.shift();
    if (url === undefined) {
      if (this.#running.size === 0) {
        this.#staggerTimer = this.#environment.setTimeout(() => this.#end(undefined), 0);
      }
      return;
    }
    this.#start(url);
    if (this.#urls.length > 0 && !this.#isOver) {
      const next = () => this.#startNext();
      this.#staggerTimer = this.#environment.setTimeout(next, this.#times.staggerMs);
    }
  }

  #start(url) {
    const attempt = { socket: undefined, timer: undefined };
    this.#running.add(attempt);
    const failed = () => this.#fail(attempt);
    attempt.timer = this.#environment.setTimeout(failed, this.#times.dialMs);
    const won = () => this.#win(attempt);
    try {
      attempt.socket = this.#dial(url, { won, failed });
    } catch {
      failed(); // Such as a `ws:` address on a page that came by `https:`.
    }
  }

  #win(attempt) {
    if (!this.#running.delete(attempt)) return;
    this.#environment.clearTimeout(attempt.timer);
    this.#end(attempt.socket);
  }

  #fail(attempt) {
    if (!this.#running.has(attempt)) return;
    this.#stop(attempt);
    this.#startNext();
  }

  #stop(attempt) {
    this.#running.delete(attempt);
    this.#environment.clearTimeout(attempt.timer);
    attempt.socket?.close();
  }

  #end(winner) {
    if (this.#isOver) return;
    this.cancel();
    this.#finish(winner);
  }
}

// How long to wait before the next attempt: full jitter, so that clients of a relay that went away
// don't come back in step.

const BASE_MS = 250;
const CAP_MS = 10_000;

class Backoff {
  #random;
  #failures = 0;

  /** `random` gives numbers from 0 up to 1. */
  constructor(random) {
    this.#random = random;
  }

  /** Milliseconds until the next attempt; the mean doubles each time, up to a cap. */
  next() {
    const most = Math.min(CAP_MS, BASE_MS * 2 ** this.#failures);
    // Beyond this the cap is reached, whatever the number.
    this.#failures = Math.min(this.#failures + 1, 16);
    return this.#random() * most;
  }

  reset() {
    this.#failures = 0;
  }
}

// Whether the attachment still carries anything: a ping at times, and patience for any answer.

/** How long after a ping nothing may be heard. */
const PATIENCE_MS = 2000;

/** The same when something happened to the network: then a silence is likely to be the end. */
const URGENT_PATIENCE_MS = 1000;

/** Silence after which the application's own words are accompanied by a ping. */
const QUIET_MS = 500;

/** A timer this late tells that the page itself stood still: its messages wait to be read, too. */
const STALL_MS = 500;

/** What they are given then. */
const GRACE_MS = 250;

class Liveness {
  #environment;
  #on;
  #pingMs;
  #pings = 0;
  #heardAt = 0;
  #pingedAt = 0;
  #isAnswered = false;
  #dueAt = 0;
  #timer;
  // idle: waits for the time of the next ping; waiting: a ping is out; silent; stopped.
  #state = "stopped";

  /** `on` is `{ ping(n), silent() }`. */
  constructor(environment, on) {
    this.#environment = environment;
    this.#on = on;
  }

  /** There is a new attachment, heard just now. */
  start(pingMs) {
    this.#pingMs = pingMs;
    this.#heardAt = this.#environment.now();
    this.#idle(this.#heardAt + pingMs);
  }

  stop() {
    this.#state = "stopped";
    this.#environment.clearTimeout(this.#timer);
  }

  get isSilent() {
    return this.#state === "silent";
  }

  /** Something came. Called for every frame, so it sets no timer but after a silence. */
  heard() {
    this.#heardAt = this.#environment.now();
    if (this.#state === "waiting") this.#isAnswered = true;
    if (this.#state === "silent") this.#idle(this.#heardAt + this.#pingMs);
  }

  /** The application spoke after a silence: is there anybody? */
  spoke() {
    const isQuiet = this.#environment.now() - this.#heardAt >= QUIET_MS;
    if (this.#state === "idle" && isQuiet) this.#ping(PATIENCE_MS);
  }

  /** Nobody will be there to hear for a while. A probe ends that. */
  pause() {
    if (this.#state === "stopped" || this.#state === "silent") return;
    this.#state = "idle";
    this.#environment.clearTimeout(this.#timer);
  }

  /** Something happened to the page or to its network: is there still anybody? */
  probe() {
    if (this.#state === "idle" || this.#state === "waiting") this.#ping(URGENT_PATIENCE_MS);
  }

  #idle(until) {
    this.#state = "idle";
    this.#at(until, () => this.#ping(PATIENCE_MS));
  }

  #ping(patienceMs) {
    const now = this.#environment.now();
    this.#pings += 1;
    this.#pingedAt = now;
    this.#isAnswered = false;
    this.#state = "waiting";
    this.#at(now + patienceMs, () => this.#judge());
    this.#on.ping(this.#pings);
  }

  #judge() {
    const now = this.#environment.now();
    if (this.#isAnswered) {
      this.#idle(this.#pingedAt + this.#pingMs);
      return;
    }
    if (now - this.#dueAt >= STALL_MS) {
      this.#at(now + GRACE_MS, () => this.#judge());
      return;
    }
    this.#state = "silent";
    this.#on.silent();
  }

  #at(time, call) {
    this.#environment.clearTimeout(this.#timer);
    this.#dueAt = time;
    this.#timer = this.#environment.setTimeout(call, Math.max(0, time - this.#environment.now()));
  }
}

// Which attachment carries the session, and when to look for another one.
//
// | what happened | then |
// |---|---|
// | the attachment closed | another one, after a jittered moment; then with backoff |
// | nothing heard 2 s after a ping | another one at once; the old one is kept until that has it |
// | go-away | another one after the told delay, there or where the gateway says |
// | the page woke, the network changed | a ping with less patience; if there is none: at once |
// | `moved` to the older one | it is closed: ours has taken over |


/** What stands before a core's member id in the subprotocol that names the core of a session. */
const CORE_PREFIX = "antipode.core.";

// The relay answers these upgrades itself, so a round trip to a region is all there is to wait for.
const RESUME_RACE = { staggerMs: 250, dialMs: 5000 };

/** The core answers an attach: a round trip to it. */
const ATTACH_PATIENCE_MS = 5000;

/** A race this young is left alone when the page wakes. */
const RACE_YOUNG_MS = 250;

/** What a timer can wait. */
const TIMER_MAX_MS = 2 ** 31 - 1;

class Roaming {
  #environment;
  #candidates;
  #conversation;
  #on;
  #token;
  #core;
  #windowMs;
  #pingMs;
  /** Carries the session, or did until the fresh one was asked. */
  #live;
  /** Opened and asked to take over. */
  #fresh;
  #freshTimer;
  #race;
  #raceStartedAt = 0;
  #roundTimer;
  #silenceTimer;
  #invitationTimer;
  /** Where a go-away invites to; empty: wherever the gateway says. */
  #invitation;
  /** The one that failed last is tried last. */
  #lastUrl;
  #liveness;
  #backoff;
  #attempt = 0;
  /** Since when nothing flows; undefined while it does. */
  #downSince;
  #isSuspended = false;
  #isOver = false;

  /** `on` is `{ detached(), resumed({ attempt, replayed, downtime }) }`. */
  constructor(environment, candidates, welcome, on) {
    this.#environment = environment;
    this.#candidates = candidates;
    this.#on = on;
    this.#token = welcome.token;
    this.#core = welcome.core;
    this.#windowMs = welcome.window_ms + WINDOW_SLACK_MS;
    this.#pingMs = welcome.ping_ms;
    this.#backoff = new Backoff(environment.random);
    const ping = (n) => this.#live?.sendFrame({ kind: "ping", n });
    this.#liveness = new Liveness(environment, { ping, silent: () => this.#handleSilence() });
  }

  /** The session begins on the attachment that was welcomed. */
  start(conversation, attachment) {
    this.#conversation = conversation;
    this.#live = attachment;
    attachment.on = this.#listenerOf(attachment);
    this.#liveness.start(this.#pingMs);
  }

  /** The address of the relay that carries the session, if one does. */
  get url() {
    return this.#live?.url;
  }

  /** Takes a frame of the session machine to whoever carries it. */
  transmit(frame) {
    if (frame.kind === "attach") frame.token = this.#token;
    (this.#fresh ?? this.#live)?.sendFrame(frame);
    if (frame.kind === "chunk" && this.#fresh === undefined) this.#liveness.spoke();
  }

  /** Something happened to the page or to its network: look at once. */
  wake(reason) {
    if (this.#isOver) return;
    if (this.#live !== undefined && !this.#liveness.isSilent) {
      this.#liveness.probe();
    } else if (reason !== "offline" && this.#fresh === undefined) {
      this.#isSuspended = false;
      this.#backoff.reset();
      this.#restart();
    }
  }

  /** The page is about to stand still, with its socket open. */
  rest() {
    this.#conversation.flush();
    this.#liveness.pause();
  }

  /** The page is put aside: lets go of the attachment, and comes back when it wakes. */
  suspend() {
    if (this.#isOver) return;
    this.#isSuspended = true;
    this.#cancel();
    this.#drop();
    this.#conversation.linkDown(this.#environment.now());
    this.#goDown();
  }

  /** Nothing has to be carried any more. */
  stop() {
    this.#isOver = true;
    this.#cancel();
    this.#drop();
  }

  #listenerOf(attachment) {
    return {
      frame: (frame) => this.#handle(attachment, frame),
      malformed: (error) => this.#handleMalformed(attachment, error),
      closed: (how) => this.#handleClosed(attachment, how),
    };
  }

  #handle(attachment, frame) {
    if (attachment === this.#live) this.#handleHeard();
    switch (frame.kind) {
      case "pong":
        return;
      case "chunk":
      case "end":
      case "ack":
      case "reset":
        this.#conversation.handle(frame);
        return;
      case "attached":
        if (attachment === this.#fresh) this.#handleAttached(frame);
        return;
      case "refused":
        if (attachment === this.#fresh) this.#conversation.refuse(frame.cause, frame.detail);
        return;
      case "go_away":
        if (attachment === this.#live) this.#handleInvitation(frame);
        return;
      case "moved":
        if (attachment === this.#live) this.#handleMoved(frame.epoch);
        return;
      default:
        this.#conversation.fail(TRUNK_PROTOCOL, `the core has no reason to say "${frame.kind}"`);
    }
  }

  #handleHeard() {
    const wasSilent = this.#liveness.isSilent;
    this.#liveness.heard();
    if (!wasSilent) return;
    this.#environment.clearTimeout(this.#silenceTimer);
    if (!this.#conversation.isAttached) {
      this.#hurry();
      return;
    }
    if (this.#invitation === undefined) this.#cancelRace();
    this.#comeUp(0);
  }

  #handleAttached(frame) {
    const before = this.#conversation.replayed;
    this.#conversation.handle(frame);
    if (!this.#conversation.isAttached || this.#isOver) return;
    const replayed = this.#conversation.replayed - before;
    this.#live?.close();
    this.#cancel();
    this.#live = this.#fresh;
    this.#fresh = undefined;
    this.#invitation = undefined;
    this.#backoff.reset();
    this.#liveness.start(this.#pingMs);
    this.#comeUp(replayed);
  }

  /** A newer attachment has the session: one of ours, or that of somebody who has our token. */
  #handleMoved(epoch) {
    if (epoch > this.#conversation.epoch) {
      this.#conversation.abandon(REPLACED, telling(REPLACED).text);
      return;
    }
    this.#live.close();
    this.#handleClosed(this.#live, {});
  }

  #handleInvitation({ after_ms, url, token }) {
    if (token.length > 0) this.#token = token;
    this.#environment.clearTimeout(this.#invitationTimer);
    const go = () => {
      this.#invitation = url;
      this.#attempt = 0;
      if (url !== "") {
        this.#startRace();
        return;
      }
      this.#candidates.expire();
      this.#candidates.prepare(() => this.#startRace());
    };
    this.#invitationTimer = this.#environment.setTimeout(go, Math.min(after_ms, TIMER_MAX_MS));
  }

  #handleMalformed(attachment, error) {
    this.#forget(attachment);
    this.#conversation.fail(TRUNK_PROTOCOL, error.message);
  }

  #handleClosed(attachment, { code, reason }) {
    const wasFresh = attachment === this.#fresh;
    const wasCarrier = wasFresh || this.#fresh === undefined;
    const wasAttached = this.#conversation.isAttached;
    this.#forget(attachment);
    this.#lastUrl = attachment.url;
    if (wasFresh && code === CLOSE_NOT_RESUMED) {
      this.#conversation.refuse(SESSION_LOST, reason);
    } else if (wasAttached && code === CLOSE_MOVED) {
      this.#conversation.abandon(REPLACED, reason || telling(REPLACED).text);
    } else if (wasCarrier) {
      this.#conversation.linkDown(this.#downSince ?? this.#environment.now());
      this.#goDown();
      this.#retry();
    }
  }

  #handleSilence() {
    this.#goDown();
    // The socket may never learn that nobody is there: the session's window is open none the less.
    const giveUp = () => {
      this.#live?.close();
      this.#live = undefined;
      this.#conversation.linkDown(this.#downSince ?? this.#environment.now());
    };
    this.#silenceTimer = this.#environment.setTimeout(giveUp, this.#windowMs);
    this.#lastUrl = this.#live.url;
    this.#startRace();
  }

  #goDown() {
    if (this.#downSince !== undefined || this.#isOver) return;
    this.#downSince = this.#environment.now();
    this.#attempt = 0;
    this.#on.detached();
  }

  #comeUp(replayed) {
    const now = this.#environment.now();
    const detail = { attempt: this.#attempt, replayed, downtime: now - (this.#downSince ?? now) };
    this.#downSince = undefined;
    this.#on.resumed(detail);
  }

  /** Another round after a while; one that is awaited already stays as it is. */
  #retry() {
    if (this.#isOver || this.#isSuspended || this.#roundTimer !== undefined) return;
    const start = () => {
      this.#roundTimer = undefined;
      this.#startRace();
    };
    this.#roundTimer = this.#environment.setTimeout(start, this.#backoff.next());
  }

  /** The core is heard while the next round is awaited: whoever is on the way elsewhere goes on. */
  #hurry() {
    if (this.#roundTimer === undefined) return;
    this.#backoff.reset();
    this.#startRace();
  }

  /** As {@link Roaming#startRace}, instead of one that may wait for what was there before. */
  #restart() {
    const age = this.#environment.now() - this.#raceStartedAt;
    if (this.#race !== undefined && age < RACE_YOUNG_MS) return;
    this.#cancelRace();
    this.#startRace();
  }

  #startRace() {
    const isBusy = this.#race !== undefined || this.#fresh !== undefined;
    if (this.#isOver || this.#isSuspended || isBusy) return;
    this.#clearRound();
    this.#attempt += 1;
    const last = this.#live?.url ?? this.#lastUrl;
    const urls = this.#candidates.urls({ first: this.#invitation, last });
    // The first round takes what is known: not everybody asks the gateway when a relay goes.
    if (this.#attempt > 1 || urls.length === 1) this.#candidates.doubt();
    this.#raceStartedAt = this.#environment.now();
    const dial = (url, attempt) => this.#dial(url, attempt);
    this.#race = new Race(this.#environment, dial, urls, RESUME_RACE, (winner) => {
      this.#race = undefined;
      if (winner === undefined) this.#retry();
      else this.#ask(winner);
    });
  }

  #dial(url, { won, failed }) {
    const protocols = [RESUME_PROTOCOL, CORE_PREFIX + this.#core];
    const attachment = new Attachment(this.#environment, url, protocols, {
      open: () => (attachment.isResumable ? won() : failed()),
      frame: failed,
      malformed: failed,
      closed: failed,
    });
    return attachment;
  }

  /** Asks the core to go on here. */
  #ask(attachment) {
    this.#fresh = attachment;
    attachment.on = this.#listenerOf(attachment);
    const giveUp = () => {
      attachment.close();
      this.#handleClosed(attachment, {});
    };
    this.#freshTimer = this.#environment.setTimeout(giveUp, ATTACH_PATIENCE_MS);
    this.#conversation.linkDown(this.#downSince ?? this.#environment.now());
    this.#conversation.linkUp();
  }

  #forget(attachment) {
    if (attachment === this.#fresh) {
      this.#environment.clearTimeout(this.#freshTimer);
      this.#fresh = undefined;
    } else if (attachment === this.#live) {
      this.#liveness.stop();
      this.#live = undefined;
    }
  }

  #cancelRace() {
    this.#race?.cancel();
    this.#race = undefined;
    this.#clearRound();
  }

  #clearRound() {
    this.#environment.clearTimeout(this.#roundTimer);
    this.#roundTimer = undefined;
  }

  #cancel() {
    this.#cancelRace();
    for (const timer of [this.#freshTimer, this.#silenceTimer, this.#invitationTimer]) {
      this.#environment.clearTimeout(timer);
    }
  }

  #drop() {
    this.#liveness.stop();
    for (const attachment of [this.#fresh, this.#live]) attachment?.close();
    this.#fresh = undefined;
    this.#live = undefined;
  }
}

// From a URL to an open socket, resumable or plain, and what both have in common afterwards.


// The answer to a first connect comes from the backend, and the loser of a race has opened a socket
// there for nothing: the next one starts when the one before is likely to have failed.
const FIRST_RACE = { staggerMs: 1000, dialMs: 10_000 };

/** A welcome follows the answer to the upgrade on its heels. */
const WELCOME_PATIENCE_MS = 2000;

class Connection {
  #environment;
  #protocols;
  #options;
  #on;
  #candidates;
  #race;
  /** An address whose server may know no resumable sockets. */
  #plainUrl;
  /** The socket itself, where the relay did not choose to make it resumable. */
  #plain;
  #conversation;
  #roaming;
  #unwatch = () => {};
  #isAborted = false;
  #isOver = false;

  /**
   * `on` is `{ open(protocol), message(message), detached(), resumed(detail), lost(detail),
   * closed({ code, reason, wasClean, failed }) }`; nothing comes after `closed`.
   */
  constructor(environment, { url, protocols }, options, on) {
    this.#environment = environment;
    this.#protocols = protocols;
    this.#options = options;
    this.#on = on;
    this.#candidates = new Candidates(environment, url, options);
    this.#candidates.prepare(() => this.#connect());
  }

  get bufferedAmount() {
    return this.#conversation?.bufferedBytes ?? this.#plain?.bufferedAmount ?? 0;
  }

  /** The address of the relay in use. */
  get relay() {
    return this.#plain?.url ?? this.#roaming?.url;
  }

  /** `item` is `{ data, isText, bytes, blob, size }`. */
  send(item) {
    if (this.#plain !== undefined) this.#plain.send(item.data);
    else this.#conversation.send(item);
  }

  /** Begins an orderly end; of one that is not open yet: ends it. */
  close(code, reason) {
    if (this.#plain !== undefined) this.#plain.closeGently(code, reason);
    else if (this.#conversation !== undefined) this.#conversation.close(code, reason);
    else this.#failSoon("closed before it was open");
  }

  /** The application wanted more kept than it allowed: as in a browser, that is the end. */
  overflow() {
    const reason = "too much is buffered";
    if (this.#conversation !== undefined) {
      this.#environment.setTimeout(() => this.#conversation.fail(POLICY, reason), 0);
    } else {
      this.#plain.close();
      this.#failSoon(reason);
    }
  }

  #connect() {
    if (this.#isAborted) return;
    const dial = (url, attempt) => this.#dial(url, attempt);
    const urls = this.#candidates.urls();
    this.#race = new Race(this.#environment, dial, urls, FIRST_RACE, (winner) => {
      if (winner === undefined) this.#handleNone();
      else this.#begin(winner);
    });
  }

  #dial(url, { won, failed }) {
    // Some servers choose the last subprotocol, or the first, whatever it says.
    const blind = () => {
      this.#plainUrl ??= url;
      failed();
    };
    const on = {
      open: () => {
        if (attachment.isResumable) attachment.expect(WELCOME_PATIENCE_MS, blind);
        else won();
      },
      frame: (frame) => {
        attachment.welcome = frame;
        if (frame.kind !== "welcome") blind();
        else if (this.#isAcceptable(frame)) won();
        else failed();
      },
      malformed: blind,
      closed: () => {
        // Browsers refuse a server that chose no subprotocol where one was offered.
        if (this.#protocols.length === 0 || attachment.isResumable) blind();
        else failed();
      },
    };
    const protocols = [...this.#protocols, RESUME_PROTOCOL];
    const attachment = new Attachment(this.#environment, url, protocols, on);
    return attachment;
  }

  /** As a browser does with a server's choice of a subprotocol: one of those that were offered. */
  #isAcceptable({ core, protocol }) {
    const isOffered = this.#protocols.includes(protocol);
    return isToken(core) && (isOffered || (protocol === "" && this.#protocols.length === 0));
  }

  /** A server that seems not to know our subprotocol is asked again without. */
  #handleNone() {
    const url = this.#plainUrl;
    this.#plainUrl = undefined;
    if (url === undefined) {
      this.#end({ code: CLOSE_ABNORMAL, reason: "", wasClean: false, failed: true });
      return;
    }
    const on = ({ won, failed }) => ({ open: won, message: () => {}, closed: failed });
    const dial = (_, attempt) =>
      new Attachment(this.#environment, url, this.#protocols, on(attempt));
    this.#race = new Race(this.#environment, dial, [url], FIRST_RACE, (winner) => {
      if (winner === undefined) this.#handleNone();
      else this.#beginPlain(winner);
    });
  }

  #begin(attachment) {
    this.#race = undefined;
    if (attachment.isResumable) this.#beginResumable(attachment);
    else this.#beginPlain(attachment);
  }

  #beginPlain(attachment) {
    this.#race = undefined;
    attachment.hold();
    this.#plain = attachment;
    attachment.on = {
      message: (data) => this.#on.message({ data }),
      closed: (how) => this.#end({ ...how, failed: !how.wasClean }),
    };
    this.#on.open(attachment.protocol);
  }

  #beginResumable(attachment) {
    const environment = this.#environment;
    const { welcome } = attachment;
    const limits = {
      windowMs: welcome.window_ms,
      messageBytesMax: this.#options.maxMessageBytes,
    };
    // While the peer still hears of the end, the application has heard of it.
    this.#roaming = new Roaming(environment, this.#candidates, welcome, {
      detached: () => this.#isOver || this.#on.detached(),
      resumed: (detail) => this.#isOver || this.#on.resumed(detail),
    });
    this.#conversation = new Conversation(environment, limits, {
      transmit: (frame) => this.#roaming.transmit(frame),
      message: (message) => this.#on.message(message),
      lost: (detail) => this.#on.lost(detail),
      over: (how) => this.#end(how),
      finished: () => this.#roaming.stop(),
    });
    attachment.hold();
    this.#roaming.start(this.#conversation, attachment);
    this.#conversation.linkUp();
    this.#conversation.handle({ kind: "ack", ack: 0, credit: welcome.credit });
    this.#unwatch = watchLifecycle(environment, {
      wake: (reason) => this.#roaming.wake(reason),
      rest: () => this.#roaming.rest(),
      suspend: () => this.#roaming.suspend(),
      leave: () => this.#leave(),
    });
    this.#on.open(welcome.protocol);
  }

  #leave() {
    this.#isOver = true;
    this.#unwatch();
    this.#conversation.leave();
  }

  #failSoon(reason) {
    this.#isAborted = true;
    this.#race?.cancel();
    const end = () => this.#end({ code: CLOSE_ABNORMAL, reason, wasClean: false, failed: true });
    this.#environment.setTimeout(end, 0);
  }

  #end(how) {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#unwatch();
    this.#on.closed(how);
  }
}

// What the client needs of the place it runs in: time, chance, sockets, and the page if there is
// one. Everything else takes it from here, so that tests can be the place.

/** The browser, or Node.js with a WebSocket implementation such as npm's `ws`. */
function environmentOf(scope, WebSocket) {
  return {
    WebSocket: WebSocket ?? scope.WebSocket,
    fetch: scope.fetch?.bind(scope),
    now: () => scope.performance.now(),
    random: Math.random,
    setTimeout: (call, ms) => scope.setTimeout(call, ms),
    clearTimeout: (timer) => scope.clearTimeout(timer),
    baseUrl: scope.location?.href,
    timeZone: timeZone(),
    // Only a page has a life to watch. A worker's network comes and goes, too.
    document: scope.document,
    events: typeof scope.addEventListener === "function" ? scope : undefined,
    navigator: scope.navigator,
    // Other places than pages have one that isn't the user's.
    storage: scope.document && storageOf(scope),
  };
}

function timeZone() {
  try {
    return Intl.DateTimeFormat().resolvedOptions().timeZone;
  } catch {
    return undefined;
  }
}

/** Reading the property throws where the user forbids storage. */
function storageOf(scope) {
  try {
    return scope.localStorage;
  } catch {
    return undefined;
  }
}

// What EventTarget leaves open: `on…` attributes, and CloseEvent where there is none.

/** Node.js has its own since version 23. */
const CloseEventClass =
  globalThis.CloseEvent ??
  class CloseEvent extends Event {
    #init;

    constructor(type, init = {}) {
      super(type, init);
      this.#init = init;
    }

    get code() {
      return this.#init.code ?? 0;
    }

    get reason() {
      return this.#init.reason ?? "";
    }

    get wasClean() {
      return this.#init.wasClean ?? false;
    }
  };

/** By socket: by type, the handler and the listener that calls it. */
const handlers = new WeakMap();

/** Defines event handler attributes as the HTML standard has them: a handler is called in the place
 * that its first assignment gave it among the listeners. */
function handlerAttributes(prototype, types) {
  for (const type of types) {
    Object.defineProperty(prototype, `on${type}`, {
      enumerable: true,
      configurable: true,
      get() {
        return handlers.get(this)?.get(type)?.handler ?? null;
      },
      set(value) {
        setHandler(this, type, value);
      },
    });
  }
}

function setHandler(socket, type, value) {
  const isCallback = typeof value === "function" || (typeof value === "object" && value !== null);
  const ofSocket = handlers.get(socket) ?? new Map();
  handlers.set(socket, ofSocket);
  const known = ofSocket.get(type);
  if (!isCallback) {
    if (known !== undefined) socket.removeEventListener(type, known.listener);
    ofSocket.delete(type);
  } else if (known !== undefined) {
    known.handler = value;
  } else {
    const entry = { handler: value };
    entry.listener = (event) => {
      if (typeof entry.handler !== "function") return;
      if (entry.handler.call(socket, event) === false) event.preventDefault();
    };
    ofSocket.set(type, entry);
    socket.addEventListener(type, entry.listener);
  }
}

// What the methods of a WebSocket take, checked as the browser's checks it
// (https://websockets.spec.whatwg.org/#the-websocket-interface).


/** The address as a URL with the scheme `ws:` or `wss:`. */
function toUrl(given, baseUrl) {
  let url;
  try {
    url = new URL(given, baseUrl);
  } catch {
    throw new DOMException(`not a URL: ${given}`, "SyntaxError");
  }
  if (url.protocol === "http:") url.protocol = "ws:";
  if (url.protocol === "https:") url.protocol = "wss:";
  if (url.protocol !== "ws:" && url.protocol !== "wss:") {
    throw new DOMException(`not the scheme of a WebSocket: ${url.protocol}`, "SyntaxError");
  }
  if (url.hash !== "" || url.href.endsWith("#")) {
    throw new DOMException("a fragment in the URL of a WebSocket", "SyntaxError");
  }
  return url;
}

/** The application's subprotocols as a list. */
function toProtocols(given) {
  const isList = typeof given === "object" && given !== null && Symbol.iterator in given;
  const protocols = isList ? Array.from(given, String) : [String(given)];
  for (const protocol of protocols) {
    const isReserved = protocol.toLowerCase().startsWith("antipode.");
    const isRepeated = protocols.filter((other) => other === protocol).length > 1;
    if (!isToken(protocol) || isReserved || isRepeated) {
      throw new DOMException(`not to be offered as a subprotocol: ${protocol}`, "SyntaxError");
    }
  }
  return protocols;
}

/** The code of a close; undefined if none was given. */
function toCloseCode(given) {
  if (given === undefined) return undefined;
  const code = clamp(Number(given));
  if (code !== 1000 && (code < 3000 || code > 4999)) {
    throw new DOMException(`not 1000 or between 3000 and 4999: ${code}`, "InvalidAccessError");
  }
  return code;
}

/** The reason of a close; empty if none was given. */
function toReason(given) {
  const reason = given === undefined ? "" : toWellFormed(String(given));
  if (toUtf8(reason).length > REASON_BYTES_MAX) {
    throw new DOMException(`a reason of more than ${REASON_BYTES_MAX} bytes`, "SyntaxError");
  }
  return reason;
}

/** What send() was given, with its size; buffers are copied, for they may change afterwards. */
function toItem(data) {
  if (typeof Blob === "function" && data instanceof Blob) {
    return { data, isText: false, blob: data, size: data.size };
  }
  const isView = ArrayBuffer.isView(data);
  if (isView || data instanceof ArrayBuffer) {
    const view = isView ? [data.buffer, data.byteOffset, data.byteLength] : [data];
    const bytes = new Uint8Array(...view).slice();
    return { data: bytes, isText: false, bytes, size: bytes.length };
  }
  const text = String(data);
  const bytes = toUtf8(text);
  return { data: text, isText: true, bytes, size: bytes.length };
}

/** `[Clamp] unsigned short` of Web IDL: to the nearest, and of two to the even one. */
function clamp(number) {
  if (Number.isNaN(number)) return 0;
  const bounded = Math.min(Math.max(number, 0), 65_535);
  const floor = Math.floor(bounded);
  const isUp = bounded - floor > 0.5 || (bounded - floor === 0.5 && floor % 2 === 1);
  return isUp ? floor + 1 : floor;
}

// The browser's WebSocket interface (https://websockets.spec.whatwg.org/) over a connection.


const CONNECTING = 0;
const OPEN = 1;
const CLOSING = 2;
const CLOSED = 3;

/** What send() keeps for a peer that does not take it. */
const BUFFERED_BYTES_MAX = 16 * 1024 * 1024;

/** What is kept of a message that is not whole yet. */
const MESSAGE_BYTES_MAX = 64 * 1024 * 1024;

class AntipodeWebSocket extends EventTarget {
  #environment;
  #url;
  #readyState = CONNECTING;
  #protocol = "";
  #binaryType = "blob";
  #connection;
  #bufferedBytesMax;
  /** What send() was given after the end, or more than fits: it counts, and goes nowhere. */
  #discardedBytes = 0;
  #unabort = () => {};

  constructor(url, protocols = [], options = {}, environment = undefined) {
    super();
    if (arguments.length === 0) throw new TypeError("a WebSocket needs a URL");
    const { maxBufferedBytes = BUFFERED_BYTES_MAX, maxMessageBytes = MESSAGE_BYTES_MAX } = options;
    this.#environment = environment ?? environmentOf(globalThis, options.WebSocket);
    this.#url = toUrl(url, this.#environment.baseUrl);
    const target = { url: this.#url, protocols: toProtocols(protocols) };
    if (this.#environment.WebSocket === undefined) {
      throw new TypeError("no WebSocket here: give one as options.WebSocket, such as npm's ws");
    }
    this.#bufferedBytesMax = maxBufferedBytes;
    this.#connection = new Connection(
      this.#environment,
      target,
      { ...options, maxMessageBytes },
      {
        open: (protocol) => this.#handleOpen(protocol),
        message: (message) => this.#handleMessage(message),
        detached: () => this.#tell("detached", {}),
        resumed: (detail) => this.#tell("resumed", { ...detail, relay: this.relay }),
        lost: (detail) => this.#tell("lost", { resumed: false, ...detail }),
        closed: (how) => this.#handleClosed(how),
      },
    );
    this.#watch(options.signal);
  }

  get url() {
    return this.#url.href;
  }

  get readyState() {
    return this.#readyState;
  }

  get bufferedAmount() {
    return this.#discardedBytes + this.#connection.bufferedAmount;
  }

  get extensions() {
    return "";
  }

  get protocol() {
    return this.#protocol;
  }

  get binaryType() {
    return this.#binaryType;
  }

  set binaryType(value) {
    // As an enumeration of Web IDL: anything else is ignored.
    if (value === "blob" || value === "arraybuffer") this.#binaryType = value;
  }

  /** The address of the relay in use; undefined while there is none. Not a browser's. */
  get relay() {
    return this.#connection.relay;
  }

  send(...given) {
    if (given.length === 0) throw new TypeError("send needs something to send");
    const item = toItem(given[0]);
    if (this.#readyState === CONNECTING) {
      throw new DOMException("the socket is still connecting", "InvalidStateError");
    }
    const isFull = this.bufferedAmount + item.size > this.#bufferedBytesMax;
    if (this.#readyState !== OPEN || isFull) {
      this.#discardedBytes += item.size;
      if (this.#readyState !== OPEN) return;
      this.#readyState = CLOSING;
      this.#connection.overflow();
      return;
    }
    this.#connection.send(item);
  }

  close(code = undefined, reason = undefined) {
    const closeCode = toCloseCode(code);
    const text = toReason(reason);
    if (this.#readyState === CLOSING || this.#readyState === CLOSED) return;
    this.#readyState = CLOSING;
    this.#connection.close(closeCode ?? (text === "" ? undefined : CLOSE_NORMAL), text);
  }

  #watch(signal) {
    if (signal === undefined) return;
    const abort = () => this.close();
    if (signal.aborted) {
      abort();
      return;
    }
    signal.addEventListener("abort", abort, { once: true });
    this.#unabort = () => signal.removeEventListener("abort", abort);
  }

  #handleOpen(protocol) {
    this.#readyState = OPEN;
    this.#protocol = protocol;
    this.dispatchEvent(new Event("open"));
  }

  #handleMessage(message) {
    if (this.#readyState !== OPEN) return;
    const { origin } = this.#url;
    this.dispatchEvent(new MessageEvent("message", { data: this.#toData(message), origin }));
  }

  /** What came, as `binaryType` wants it; a plain socket has made it text or a buffer already. */
  #toData({ text, bytes, data = text }) {
    if (typeof data === "string") return data;
    const binary = data ?? bytes;
    if (this.#binaryType === "blob") return new Blob([binary]);
    return binary instanceof Uint8Array ? binary.slice().buffer : binary;
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  #handleClosed({ code, reason, wasClean, failed }) {
    this.#readyState = CLOSED;
    this.#unabort();
    if (failed) this.dispatchEvent(new Event("error"));
    this.dispatchEvent(new CloseEventClass("close", { code, reason, wasClean }));
  }
}

for (const [name, value] of Object.entries({ CONNECTING, OPEN, CLOSING, CLOSED })) {
  for (const target of [AntipodeWebSocket, AntipodeWebSocket.prototype]) {
    Object.defineProperty(target, name, { value, enumerable: true });
  }
}

handlerAttributes(AntipodeWebSocket.prototype, [
  "open",
  "message",
  "error",
  "close",
  "detached",
  "resumed",
  "lost",
]);

export { AntipodeWebSocket, AntipodeWebSocket as default };
