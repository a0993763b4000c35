// The outgoing half of a session: what is kept until it is acknowledged, and where the next
// transmission starts. A port of proto/src/session/sender.rs.

import { cost, INITIAL_CREDIT_BYTES, ProtocolError } from "./body.js";
import { Queue } from "./queue.js";

export class Sender {
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
