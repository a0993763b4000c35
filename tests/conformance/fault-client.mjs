// Resumable clients of the ledger (tests/src/faults/ledger.rs): each sends numbers and tells what it gets.
//
//   node fault-client.mjs '{"candidates": [...], "first": 1, "count": 10, "everyMs": 100, "bytes": 128}'
//
// NODE_EXTRA_CA_CERTS names the relays' authority. Prints one JSON line an event: session, event, number or
// code, milliseconds since 1970. At SIGTERM every client says goodbye; the program ends when all are answered.

import WebSocket from "ws";
import { AntipodeWebSocket } from "../../node/client-js/src/index.js";

const { candidates, gateway, first, count, everyMs, bytes } = JSON.parse(process.argv[2]);
const FAREWELL_MS = 60_000;

let open = 0;
let here = count;
const people = [];

function tell(session, event, value) {
  process.stdout.write(`${JSON.stringify({ session, event, value, at: Date.now() })}\n`);
}

class Person {
  constructor(session) {
    this.session = session;
    this.sent = 0;
    this.isLeaving = false;
    const target = `/ledger?session=${session}&every_ms=${everyMs}&bytes=${bytes}`;
    const options = { candidates, gateway, WebSocket };
    this.socket = new AntipodeWebSocket(candidates[0] + target, [], options);
    this.socket.addEventListener("open", () => this.opened());
    this.socket.addEventListener("message", ({ data }) => this.take(data));
    this.socket.addEventListener("detached", () => tell(session, "detached"));
    this.socket.addEventListener("resumed", () => tell(session, "resumed"));
    this.socket.addEventListener("lost", () => tell(session, "lost"));
    this.socket.addEventListener("close", ({ code, reason }) => this.closed(code, reason));
  }

  opened() {
    tell(this.session, "open");
    open += 1;
    if (open === count) process.stdout.write('{"all":"open"}\n');
    this.timer = setInterval(() => this.send(), everyMs);
  }

  send() {
    if (this.isLeaving) return;
    this.sent += 1;
    this.socket.send(`n ${this.sent} `.padEnd(bytes, "."));
  }

  take(data) {
    const [word, number] = data.split(" ");
    tell(this.session, word, Number(number));
    if (word === "bye") this.socket.close(1000);
  }

  leave() {
    this.isLeaving = true;
    clearInterval(this.timer);
    tell(this.session, "sent", this.sent);
    if (this.socket.readyState === AntipodeWebSocket.OPEN) this.socket.send(`bye ${this.sent}`);
  }

  closed(code, reason) {
    clearInterval(this.timer);
    if (!this.isLeaving) tell(this.session, "sent", this.sent);
    tell(this.session, "close", code);
    if (reason) tell(this.session, "reason", reason);
    here -= 1;
    // Not before all that was told is out: an exit throws away what the pipe had no room for.
    if (here === 0) process.stdout.write("\n", () => process.exit(0));
  }
}

process.on("SIGTERM", () => {
  for (const person of people) person.leave();
  setTimeout(() => process.exit(here === 0 ? 0 : 1), FAREWELL_MS);
});

for (let session = first; session < first + count; session += 1) people.push(new Person(session));
