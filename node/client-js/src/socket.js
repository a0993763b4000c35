// The browser's WebSocket interface (https://websockets.spec.whatwg.org/) over a connection.

import { CLOSE_NORMAL } from "./close.js";
import { Connection } from "./connection.js";
import { environmentOf } from "./environment.js";
import { CloseEventClass, handlerAttributes } from "./events.js";
import { toCloseCode, toItem, toProtocols, toReason, toUrl } from "./arguments.js";

const CONNECTING = 0;
const OPEN = 1;
const CLOSING = 2;
const CLOSED = 3;

/** What send() keeps for a peer that does not take it. */
const BUFFERED_BYTES_MAX = 16 * 1024 * 1024;

/** What is kept of a message that is not whole yet. */
const MESSAGE_BYTES_MAX = 64 * 1024 * 1024;

export class AntipodeWebSocket extends EventTarget {
  #environment;
  #url;
  #readyState = CONNECTING;
  #protocol = "";
  #binaryType = "blob";
  #connection;
  #bufferedBytesMax;
  /** What send() was given after the end, or more than fits: it counts, and goes nowhere. */
  #discardedBytes = 0;
  #unabort = () => {};

  constructor(url, protocols = [], options = {}, environment = undefined) {
    super();
    if (arguments.length === 0) throw new TypeError("a WebSocket needs a URL");
    const { maxBufferedBytes = BUFFERED_BYTES_MAX, maxMessageBytes = MESSAGE_BYTES_MAX } = options;
    this.#environment = environment ?? environmentOf(globalThis, options.WebSocket);
    this.#url = toUrl(url, this.#environment.baseUrl);
    const target = { url: this.#url, protocols: toProtocols(protocols) };
    if (this.#environment.WebSocket === undefined) {
      throw new TypeError("no WebSocket here: give one as options.WebSocket, such as npm's ws");
    }
    this.#bufferedBytesMax = maxBufferedBytes;
    this.#connection = new Connection(
      this.#environment,
      target,
      { ...options, maxMessageBytes },
      {
        open: (protocol) => this.#handleOpen(protocol),
        message: (message) => this.#handleMessage(message),
        detached: () => this.#tell("detached", {}),
        resumed: (detail) => this.#tell("resumed", { ...detail, relay: this.relay }),
        lost: (detail) => this.#tell("lost", { resumed: false, ...detail }),
        closed: (how) => this.#handleClosed(how),
      },
    );
    this.#watch(options.signal);
  }

  get url() {
    return this.#url.href;
  }

  get readyState() {
    return this.#readyState;
  }

  get bufferedAmount() {
    return this.#discardedBytes + this.#connection.bufferedAmount;
  }

  get extensions() {
    return "";
  }

  get protocol() {
    return this.#protocol;
  }

  get binaryType() {
    return this.#binaryType;
  }

  set binaryType(value) {
    // As an enumeration of Web IDL: anything else is ignored.
    if (value === "blob" || value === "arraybuffer") this.#binaryType = value;
  }

  /** The address of the relay in use; undefined while there is none. Not a browser's. */
  get relay() {
    return this.#connection.relay;
  }

  send(...given) {
    if (given.length === 0) throw new TypeError("send needs something to send");
    const item = toItem(given[0]);
    if (this.#readyState === CONNECTING) {
      throw new DOMException("the socket is still connecting", "InvalidStateError");
    }
    const isFull = this.bufferedAmount + item.size > this.#bufferedBytesMax;
    if (this.#readyState !== OPEN || isFull) {
      this.#discardedBytes += item.size;
      if (this.#readyState !== OPEN) return;
      this.#readyState = CLOSING;
      this.#connection.overflow();
      return;
    }
    this.#connection.send(item);
  }

  close(code = undefined, reason = undefined) {
    const closeCode = toCloseCode(code);
    const text = toReason(reason);
    if (this.#readyState === CLOSING || this.#readyState === CLOSED) return;
    this.#readyState = CLOSING;
    this.#connection.close(closeCode ?? (text === "" ? undefined : CLOSE_NORMAL), text);
  }

  #watch(signal) {
    if (signal === undefined) return;
    const abort = () => this.close();
    if (signal.aborted) {
      abort();
      return;
    }
    signal.addEventListener("abort", abort, { once: true });
    this.#unabort = () => signal.removeEventListener("abort", abort);
  }

  #handleOpen(protocol) {
    this.#readyState = OPEN;
    this.#protocol = protocol;
    this.dispatchEvent(new Event("open"));
  }

  #handleMessage(message) {
    if (this.#readyState !== OPEN) return;
    const { origin } = this.#url;
    this.dispatchEvent(new MessageEvent("message", { data: this.#toData(message), origin }));
  }

  /** What came, as `binaryType` wants it; a plain socket has made it text or a buffer already. */
  #toData({ text, bytes, data = text }) {
    if (typeof data === "string") return data;
    const binary = data ?? bytes;
    if (this.#binaryType === "blob") return new Blob([binary]);
    return binary instanceof Uint8Array ? binary.slice().buffer : binary;
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  #handleClosed({ code, reason, wasClean, failed }) {
    this.#readyState = CLOSED;
    this.#unabort();
    if (failed) this.dispatchEvent(new Event("error"));
    this.dispatchEvent(new CloseEventClass("close", { code, reason, wasClean }));
  }
}

for (const [name, value] of Object.entries({ CONNECTING, OPEN, CLOSING, CLOSED })) {
  for (const target of [AntipodeWebSocket, AntipodeWebSocket.prototype]) {
    Object.defineProperty(target, name, { value, enumerable: true });
  }
}

handlerAttributes(AntipodeWebSocket.prototype, [
  "open",
  "message",
  "error",
  "close",
  "detached",
  "resumed",
  "lost",
]);
