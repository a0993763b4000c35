// The incoming half of a session: order, credit, and when an acknowledgement is due.
// A port of proto/src/session/receiver.rs.

import { cost, INITIAL_CREDIT_BYTES, ProtocolError } from "./body.js";
import { Queue } from "./queue.js";

/** A window spent within this time doubles. */
const GROWTH_PERIOD_MS = 1000;

/** What the window shrinks to under pressure. */
const PRESSURE_WINDOW_BYTES = 32 * 1024;

/** An acknowledgement goes at once when this share of the window was consumed since the last. */
const ACK_SHARE = 4;

export class Receiver {
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
