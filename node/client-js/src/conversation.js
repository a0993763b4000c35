// What the application and the backend say to each other: messages in and out of one session
// machine, and how it ends. Which attachment carries the frames is not its business.

import { ProtocolError } from "./body.js";
import { BACKEND_CLOSED, CLIENT_CLOSED, CLIENT_PROTOCOL, COMPLETE, telling } from "./cause.js";
import {
  CLOSE_ABNORMAL,
  CLOSE_GOING_AWAY,
  CLOSE_NO_CODE,
  CLOSE_NOT_RESUMED,
} from "./close.js";
import { Assembler, MessageError } from "./message.js";
import { Outbox } from "./outbox.js";
import { Session } from "./session.js";

/** The core counts its window from when it notices the loss, which may be later than we do. */
export const WINDOW_SLACK_MS = 30_000;

/** After the end was told to the application, the peer has this long to hear of it too. */
const LINGER_MS = 5000;

/** Causes of an end that one of the two applications asked for. */
const ORDERLY = [COMPLETE, CLIENT_CLOSED, BACKEND_CLOSED];

export class Conversation {
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
