// A core, and the relays in front of it: sessions by token, on the machine that the vectors hold to
// Rust's. The backend is a list of what it was told.

import { decode, encode } from "../../src/codec.js";
import { CLIENT_LOST, REPLACED, SESSION_LOST } from "../../src/cause.js";
import { Assembler, Pieces } from "../../src/message.js";
import { Session } from "../../src/session.js";

const RESUME = "antipode.resume.v1";

export class Core {
  sessions = [];
  /** What the backend says to an upgrade: `{ protocol }`, or undefined to refuse. */
  answer = () => ({ protocol: "" });
  /** Whether it speaks antipode.resume.v1. */
  isEnabled = true;
  windowMs = 120_000;
  pingMs = 10_000;
  credit = 262_144;
  upgrades = [];

  constructor(clock) {
    this.clock = clock;
  }

  /** A relay: all of them lead here. */
  get relay() {
    return { upgrade: (socket) => this.#upgrade(socket) };
  }

  /** As a process that was killed and started anew. */
  forget() {
    for (const session of this.sessions) this.clock.clearTimeout(session.timer);
    this.sessions = [];
  }

  #upgrade(socket) {
    const offered = socket.protocols ?? [];
    this.upgrades.push({ url: socket.url, protocols: offered });
    if (offered.some((protocol) => protocol.startsWith("antipode.core."))) {
      socket.accept(RESUME);
      socket.onmessage = (data) => this.#attach(socket, data);
      return;
    }
    const protocols = offered.filter((protocol) => !protocol.startsWith("antipode."));
    const answer = this.answer(protocols);
    if (answer === undefined) {
      socket.reject();
    } else if (this.isEnabled && offered.includes(RESUME)) {
      this.sessions.push(new CoreSession(this, socket, answer.protocol, this.sessions.length));
    } else if (offered.length > 0 && answer.protocol === "") {
      socket.reject(); // As browsers do with a server that chose none of what they offered.
    } else {
      this.#acceptPlain(socket, answer.protocol);
    }
  }

  #acceptPlain(socket, protocol) {
    socket.accept(protocol);
    const plain = { messages: [], socket, closedWith: undefined };
    this.sessions.push(plain);
    socket.onmessage = (data) => plain.messages.push(data);
    socket.onclose = (code) => (plain.closedWith = code);
  }

  #attach(socket, data) {
    const frame = decode(new Uint8Array(data));
    const session = this.sessions.find((one) => one.token?.[0] === frame.token[0]);
    if (session === undefined || session.isGone) {
      socket.send(encode({ kind: "refused", cause: SESSION_LOST, detail: "unknown session" }));
      socket.close(4410, "unknown session");
    } else if (!session.machine.attachIsNewer(frame)) {
      socket.send(encode({ kind: "refused", cause: REPLACED, detail: "an older epoch" }));
      socket.close(4410, "an older epoch");
    } else {
      session.attach(socket, frame);
    }
  }
}

/** The core's end of one session. */
class CoreSession {
  messages = [];
  frames = [];
  closedWith = undefined;
  /** Whether the backend reads. */
  isReading = true;
  #assembler = new Assembler(1 << 30);
  #outbox = [];

  constructor(core, socket, protocol, number) {
    this.core = core;
    this.clock = core.clock;
    this.token = new Uint8Array([number + 1, 7, 7]);
    const config = { resumeWindowMs: core.windowMs };
    this.machine = new Session("server", config, this.clock.now());
    socket.accept(RESUME);
    this.#use(socket);
    const { credit, windowMs: window_ms, pingMs: ping_ms } = core;
    const welcome = { kind: "welcome", credit, window_ms, ping_ms, token: this.token };
    socket.send(encode({ ...welcome, core: "c1", protocol }));
    this.machine.handleLinkUp();
    this.#pump();
  }

  get isGone() {
    return this.machine.ended !== undefined;
  }

  /** The backend says something. */
  say(message) {
    const bytes = typeof message === "string" ? new TextEncoder().encode(message) : message;
    const pieces = new Pieces(bytes, typeof message === "string");
    for (let next; next?.isLast !== true; ) {
      next = pieces.next();
      this.#outbox.push(next.chunk);
    }
    this.#pump();
  }

  sayChunk(chunk) {
    this.#outbox.push({ kind: "chunk", ...chunk });
    this.#pump();
  }

  end(cause, close_code, reason = "") {
    this.#outbox.push({ kind: "end", cause, close_code, reason });
    this.#pump();
  }

  reset(cause, detail) {
    this.machine.reset(cause, detail);
    this.#pump();
  }

  /** A frame beside the machine's, such as a go-away. */
  tell(frame) {
    this.socket.send(encode(frame));
  }

  attach(socket, frame) {
    const older = this.socket;
    this.machine.handleLinkDown(this.clock.now());
    this.machine.handleFrame(frame);
    this.#use(socket);
    this.#pump();
    older?.send(encode({ kind: "moved", epoch: frame.epoch }));
    older?.close(4411);
  }

  read() {
    this.isReading = true;
    this.#pump();
  }

  #use(socket) {
    this.socket = socket;
    socket.onmessage = (data) => this.#receive(socket, decode(new Uint8Array(data)));
    socket.onclose = () => {
      if (this.socket !== socket) return;
      this.socket = undefined;
      this.machine.handleLinkDown(this.clock.now());
      this.#pump();
    };
  }

  #receive(socket, frame) {
    this.frames.push(frame);
    if (this.socket !== socket) return; // A late word on an older attachment.
    if (frame.kind === "ping") socket.send(encode({ kind: "pong", n: frame.n }));
    else this.machine.handleFrame(frame);
    this.#pump();
  }

  #pump() {
    const now = this.clock.now();
    for (let next; this.isReading && (next = this.machine.pollDeliver()); ) this.#read(next);
    while (this.#outbox.length > 0 && this.machine.hasRoom) this.machine.send(this.#outbox.shift());
    for (let frame; (frame = this.machine.pollTransmit()); ) this.socket.send(encode(frame));
    this.clock.clearTimeout(this.timer);
    const due = this.machine.isFinished ? undefined : this.machine.pollTimeout();
    if (due === undefined) return;
    const run = () => {
      this.machine.handleTimeout(this.clock.now());
      if (this.machine.ended?.cause === CLIENT_LOST) this.closedWith ??= "lost";
      this.#pump();
    };
    this.timer = this.clock.setTimeout(run, Math.max(0, due - now));
  }

  #read({ seq, body }) {
    if (body.kind === "end") {
      this.closedWith = body.close_code;
      this.machine.handleConsumed(seq, this.clock.now());
      if (!this.machine.isEndQueued) this.#outbox.push({ ...body, cause: 3 });
      return;
    }
    const message = this.#assembler.push(body);
    if (message !== undefined) this.messages.push(message.text ?? message.bytes);
    this.machine.handleConsumed(seq, this.clock.now());
  }
}
