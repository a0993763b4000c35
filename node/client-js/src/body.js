// What a segment carries, what it costs in credit, and what the peer may do wrong with it.

import { SESSION_LOST, TRUNK_PROTOCOL } from "./cause.js";
import { toUtf8 } from "./text.js";

/** Credit that each segment costs beside its bytes. */
const SEGMENT_OVERHEAD_BYTES = 64;

/** Credit in bytes that each end may take for granted before it has heard from the other. */
export const INITIAL_CREDIT_BYTES = 256 * 1024;

/** What a chunk or an end counts against credit. Both ends must agree on it to the byte. */
export function cost(body) {
  const bytes = body.kind === "end" ? toUtf8(body.reason).length : body.payload.length;
  return SEGMENT_OVERHEAD_BYTES + bytes;
}

/** What the peer did against the protocol. `code` is from a closed set. */
export class ProtocolError extends Error {
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
