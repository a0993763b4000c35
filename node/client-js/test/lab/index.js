// A client, relays and a core in one virtual world.

import { decode, encode } from "../../src/codec.js";
import { forgetAnswers } from "../../src/candidates.js";
import { AntipodeWebSocket } from "../../src/index.js";
import { Core } from "./core.js";
import { Network } from "./network.js";
import { Clock, makePlace } from "./place.js";

export const HOME = "wss://a.example/chat?room=1";

/** Everything that an application could see of a socket, in order. */
export function watch(socket) {
  const seen = [];
  for (const type of ["open", "message", "error", "close", "detached", "resumed", "lost"]) {
    socket.addEventListener(type, (event) => {
      const { data, detail, code, reason, wasClean } = event;
      seen.push({ type, data, detail, code, reason, wasClean, state: socket.readyState });
    });
  }
  return seen;
}

/** The relays a, b and c of one core, and a client that knows them. */
export function makeLab({ place = {}, latencyMs = 10, hosts = ["a", "b", "c"] } = {}) {
  forgetAnswers();
  const clock = new Clock();
  const network = new Network(clock, latencyMs);
  const core = new Core(clock);
  for (const host of hosts) network.relays.set(`${host}.example`, core.relay);
  const environment = makePlace(network, place);
  const candidates = hosts.map((host) => `wss://${host}.example`);
  return {
    clock,
    network,
    core,
    environment,
    /** A socket, and what is seen of it. */
    connect({ url = HOME, protocols = [], ...options } = {}) {
      const all = { candidates, ...options };
      const socket = new AntipodeWebSocket(url, protocols, all, environment);
      socket.binaryType = "arraybuffer";
      return { socket, seen: watch(socket) };
    },
    /** An open one, with the core's end of it. */
    async open(options) {
      const { socket, seen } = this.connect(options);
      await clock.advance(100);
      return { socket, seen, session: core.sessions.at(-1) };
    },
  };
}

/** A relay that welcomes everybody, and writes down what it is told. */
export function welcoming(frames, { credit = 262_144, then = () => {} } = {}) {
  return {
    upgrade(socket) {
      socket.accept("antipode.resume.v1");
      const fields = { window_ms: 30_000, ping_ms: 10_000, core: "c1", protocol: "" };
      const token = Uint8Array.of(1);
      socket.send(encode({ kind: "welcome", credit, token, ...fields }));
      socket.onmessage = (data) => {
        const frame = decode(new Uint8Array(data));
        frames.push(frame);
        then(frame, socket);
      };
    },
  };
}

export const types = (seen) => seen.map(({ type }) => type);

export function texts(seen) {
  return seen.filter(({ type }) => type === "message").map(({ data }) => data);
}
