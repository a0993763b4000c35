// Messages to chunks and back. A chunk is a piece of a WebSocket frame (RFC 6455 section 5.2): the
// first one of a frame carries the frame's first byte, and its length if there are more.

import { CHUNK_BYTES_MAX, FIN } from "./codec.js";
import { fromUtf8 } from "./text.js";

const CONTINUATION = 0;
const TEXT = 1;
const BINARY = 2;

/** The peer sent what is no message. `closeCode` is RFC 6455's. */
export class MessageError extends Error {
  name = "MessageError";

  constructor(closeCode, message) {
    super(message);
    this.closeCode = closeCode;
  }
}

/** Cuts one message into chunks, one at a time. */
export class Pieces {
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
export class Assembler {
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
