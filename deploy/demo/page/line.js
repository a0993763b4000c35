// One WebSocket that is kept open: how long it took to open, how long an echo takes, and what
// happened when it fails.

const ECHO_EVERY_MS = 1_000;
const ECHO_PATIENCE_MS = 8_000;
const OPEN_PATIENCE_MS = 10_000;
const RETRY_FIRST_MS = 500;
const RETRY_MAX_MS = 8_000;

/** Opens a fresh WebSocket, tells in milliseconds how long that took, and closes it again. */
export function timeToOpen(url) {
  return new Promise((resolve, reject) => {
    const began = performance.now();
    const socket = new WebSocket(url);
    const patience = setTimeout(() => socket.close(), OPEN_PATIENCE_MS);
    socket.onopen = () => {
      clearTimeout(patience);
      resolve(performance.now() - began);
      socket.close(1000, "measured");
    };
    socket.onclose = () => {
      clearTimeout(patience);
      reject(new Error("did not open"));
    };
  });
}

/**
 * A WebSocket that comes back. Tells its events by dispatching: "open" {ms}, "trip" {ms},
 * "message" {message}, "lost" {why, retryMs}.
 */
export class Line extends EventTarget {
  #url;
  #socket;
  #beat;
  #retry;
  #retryMs = RETRY_FIRST_MS;
  #echoId = 0;
  #echoes = new Map();
  #stopped = false;

  constructor(url) {
    super();
    this.#url = url;
  }

  get isOpen() {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  start() {
    const began = performance.now();
    const socket = new WebSocket(this.#url);
    this.#socket = socket;
    let opened = false;
    let silent = false;
    const patience = setTimeout(() => socket.close(), OPEN_PATIENCE_MS);
    socket.onopen = () => {
      clearTimeout(patience);
      opened = true;
      this.#retryMs = RETRY_FIRST_MS;
      this.#tell("open", { ms: performance.now() - began });
      this.#echo();
      this.#beat = setInterval(() => {
        if (this.#overdue()) {
          silent = true;
          socket.close();
        } else {
          this.#echo();
        }
      }, ECHO_EVERY_MS);
    };
    socket.onmessage = (event) => this.#take(event.data);
    // A failed socket tells its reason in onclose, if there is one to tell.
    socket.onclose = (event) => {
      clearTimeout(patience);
      clearInterval(this.#beat);
      this.#echoes.clear();
      if (this.#stopped || socket !== this.#socket) return;
      const retryMs = this.#retryMs * (0.75 + Math.random() / 2);
      this.#retryMs = Math.min(this.#retryMs * 2, RETRY_MAX_MS);
      this.#tell("lost", { why: reason(event, opened, silent), retryMs });
      this.#retry = setTimeout(() => this.start(), retryMs);
    };
  }

  /** Tries again now, if it is waiting to. */
  hurry() {
    if (this.#stopped || this.#socket?.readyState !== WebSocket.CLOSED) return;
    clearTimeout(this.#retry);
    this.start();
  }

  send(message) {
    if (!this.isOpen) return false;
    this.#socket.send(JSON.stringify(message));
    return true;
  }

  stop() {
    this.#stopped = true;
    clearTimeout(this.#retry);
    clearInterval(this.#beat);
    this.#socket?.close(1000, "elsewhere");
  }

  #echo() {
    this.#echoId += 1;
    this.#echoes.set(this.#echoId, performance.now());
    this.send({ op: "echo", id: this.#echoId });
    this.#tell("beat", {});
  }

  #overdue() {
    const [oldest] = this.#echoes.values();
    return oldest !== undefined && performance.now() - oldest > ECHO_PATIENCE_MS;
  }

  #take(text) {
    const now = performance.now();
    let message;
    try {
      message = JSON.parse(text);
    } catch {
      return;
    }
    if (message.op !== "echo") {
      this.#tell("message", { message });
      return;
    }
    const sent = this.#echoes.get(message.id);
    this.#echoes.delete(message.id);
    if (sent !== undefined) this.#tell("trip", { ms: now - sent });
  }

  #tell(type, detail) {
    if (!this.#stopped) this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/** What a close means, in words for people. */
function reason(event, opened, silent) {
  if (silent) return "nothing came back for eight seconds";
  if (event.reason) return `“${event.reason}” (close code ${event.code})`;
  if (!opened) return "could not be reached";
  if (event.code === 1006) return "broke off without a word";
  return `was closed with code ${event.code}`;
}
