// One real WebSocket. Whether it carries frames of antipode.resume.v1 or the application's own
// messages is the relay's choice.

import { decode, DecodeError, encode } from "./codec.js";

export const RESUME_PROTOCOL = "antipode.resume.v1";

export class Attachment {
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
