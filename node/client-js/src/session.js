// One session: numbering, credit, cumulative acks, and replay after its attachment broke.
//
// A port of proto/src/session.rs, held to the same vectors (proto/tests/vectors). It knows no
// socket and no clock: the driver calls a `handle*` method or `send`, then drains `pollTransmit`
// towards the attachment and `pollDeliver` towards the application, then waits until
// `pollTimeout`. Times are milliseconds of any clock that does not go back.

import { CLIENT_LOST, COMPLETE, known, SESSION_LOST } from "./cause.js";
import { REASON_BYTES_MAX } from "./codec.js";
import { Receiver } from "./receiver.js";
import { Sender } from "./sender.js";
import { cut } from "./text.js";

export const SESSION_DEFAULTS = Object.freeze({
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

export class Session {
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
