// Sockets that lead to relays of the lab, over ways that can break.

const CONNECTING = 0;
const OPEN = 1;
const CLOSING = 2;
const CLOSED = 3;

/** How soon what was held is delivered after the way is back. */
const RETRANSMIT_MS = 50;

/**
 * Relays by host. `ways` says how the way to a host is: "up"; "silent": packets vanish, and come
 * late if it is up again; "down": nobody listens to new sockets, and open ones fall silent.
 */
export class Network {
  sockets = [];
  ways = new Map();
  relays = new Map();

  constructor(clock, latencyMs = 10) {
    this.clock = clock;
    this.latencyMs = latencyMs;
    const network = this;
    this.WebSocket = class extends FakeSocket {
      constructor(url, protocols) {
        super(network, url, protocols);
      }
    };
  }

  way(host) {
    return this.ways.get(host) ?? "up";
  }

  /** Sockets to a host that were opened, or are being opened, and not closed. */
  openTo(host) {
    return this.sockets.filter((socket) => socket.host === host && socket.readyState < CLOSING);
  }

  /** Whoever holds sockets through this host sees them close, as when its process dies. */
  reset(host, code = 1006, reason = "") {
    for (const socket of this.openTo(host)) socket.serverCloses(code, reason);
  }
}

/** The browser's end; the relay gets `{ url, protocols, accept(protocol), send(bytes), close(code),
 * onmessage, onclose }`. */
class FakeSocket {
  readyState = CONNECTING;
  protocol = "";
  binaryType = "blob";
  bufferedAmount = 0;
  #up;
  #down;

  constructor(network, url, protocols) {
    this.network = network;
    this.url = url;
    this.host = new URL(url).hostname;
    this.protocols = protocols;
    this.openedAt = network.clock.now();
    network.sockets.push(this);
    this.#up = new Stream(network, this.host);
    this.#down = new Stream(network, this.host);
    this.server = {
      url,
      protocols,
      accept: (protocol) => this.#toClient(() => this.#open(protocol)),
      reject: () => this.#toClient(() => this.#closed(1006, "", false)),
      send: (data) => this.#toClient(() => this.#receive(data)),
      close: (code, reason) => this.#toClient(() => this.#closed(code, reason ?? "", true)),
      onmessage() {},
      onclose() {},
    };
    if (network.way(this.host) === "down") {
      this.#later(() => this.#closed(1006, "", false));
      return;
    }
    this.#toServer(() => {
      const relay = network.relays.get(this.host);
      if (relay === undefined) this.server.reject();
      else relay.upgrade(this.server);
    });
  }

  send(data) {
    if (this.readyState === CONNECTING) throw new DOMException("connecting", "InvalidStateError");
    if (this.readyState !== OPEN) return;
    this.#toServer(() => this.server.onmessage(data));
  }

  close(code, reason) {
    if (this.readyState >= CLOSING) return;
    const wasOpen = this.readyState === OPEN;
    this.readyState = CLOSING;
    this.closedWith = code;
    this.#toServer(() => this.server.onclose(code));
    this.#later(() => this.#closed(wasOpen ? (code ?? 1005) : 1006, reason ?? "", wasOpen));
  }

  serverCloses(code, reason) {
    this.server.onclose(code);
    this.#later(() => this.#closed(code, reason, code !== 1006));
  }

  #open(protocol) {
    if (this.readyState !== CONNECTING) return;
    this.readyState = OPEN;
    this.protocol = protocol;
    this.onopen?.({});
  }

  #receive(data) {
    if (this.readyState !== OPEN) return;
    const isText = typeof data === "string";
    this.onmessage?.({ data: isText ? data : new Uint8Array(data).slice().buffer });
  }

  #closed(code, reason, wasClean) {
    if (this.readyState === CLOSED) return;
    this.readyState = CLOSED;
    if (!wasClean) this.onerror?.({});
    this.onclose?.({ code, reason, wasClean });
  }

  #later(call) {
    this.network.clock.setTimeout(call, this.network.latencyMs);
  }

  #toClient(call) {
    this.#down.push(call);
  }

  #toServer(call) {
    this.#up.push(call);
  }
}

/** One direction of a TCP connection: in order, held while the way is not up. */
class Stream {
  #network;
  #host;
  #waiting = [];

  constructor(network, host) {
    this.#network = network;
    this.#host = host;
  }

  push(call) {
    const { clock, latencyMs } = this.#network;
    this.#waiting.push({ call, at: clock.now() + latencyMs });
    if (this.#waiting.length === 1) clock.setTimeout(() => this.#deliver(), latencyMs);
  }

  #deliver() {
    const { clock } = this.#network;
    const isUp = this.#network.way(this.#host) === "up";
    while (isUp && this.#waiting[0]?.at <= clock.now()) this.#waiting.shift().call();
    if (this.#waiting.length === 0) return;
    const wait = isUp ? this.#waiting[0].at - clock.now() : RETRANSMIT_MS;
    clock.setTimeout(() => this.#deliver(), wait);
  }
}
