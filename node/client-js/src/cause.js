// Why a session ended: the numbers of `Cause` in trunk.proto, and what close code each one becomes.
// The codes are those that a node tells a client without resume (docs/operations.md).

export const COMPLETE = 1;
export const CLIENT_CLOSED = 2;
export const BACKEND_CLOSED = 3;
export const CLIENT_LOST = 4;
export const CLIENT_PROTOCOL = 6;
export const POLICY = 15;
export const REPLACED = 16;
export const SESSION_LOST = 17;
export const TRUNK_LOST = 18;
export const TRUNK_PROTOCOL = 19;

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
export function known(number) {
  return number < CAUSES.length ? number : 0;
}

/** `{ word, code, text }` of a cause; of `unspecified` for a number that is not known. */
export function telling(cause) {
  const [word, code, text] = CAUSES[cause] ?? CAUSES[0];
  return { word, code, text };
}
