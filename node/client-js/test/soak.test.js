// Random worlds: relays die, fall silent, come back, invite and are slow, while both sides talk.
// What each side was told is always a beginning of what the other said, and in the end all of it.
//
//   SEED=17 WORLDS=1 node --test test/soak.test.js

import assert from "node:assert/strict";
import { test } from "node:test";

import { randomFrom } from "./lab/place.js";
import { makeLab, texts, types } from "./lab/index.js";

const WORLDS = Number(process.env.WORLDS ?? 100);
const FIRST = Number(process.env.SEED ?? 1);
const HOSTS = ["a.example", "b.example", "c.example"];

for (let block = 0; block < WORLDS; block += 25) {
  const seeds = Array.from({ length: Math.min(25, WORLDS - block) }, (_, n) => FIRST + block + n);
  test(`worlds ${seeds[0]} to ${seeds.at(-1)}`, async () => {
    for (const seed of seeds) await live(seed);
  });
}

async function live(seed) {
  const random = randomFrom(seed);
  const lab = makeLab({ place: { random }, latencyMs: 1 + Math.floor(random() * 150) });
  lab.clock.turns = 0; // No promises here.
  const { socket, seen } = lab.connect();
  for (let waited = 0; socket.readyState === 0 && waited < 100; waited += 1) {
    await lab.clock.advance(100);
  }
  assert.equal(socket.readyState, 1, `seed ${seed}`);
  // The one that was confirmed: another may have been opened for the loser of a race.
  const session = lab.core.sessions.find(({ isGone }) => !isGone);
  // A session whose client has not said a word yet is given up when its attachment breaks.
  await lab.clock.advance(1000);
  const said = { up: [], down: [] };
  const steps = 40 + Math.floor(random() * 80);
  for (let step = 0; step < steps && socket.readyState === 1; step += 1) {
    act(lab, { socket, session, said, random });
    await lab.clock.advance(Math.floor(random() ** 3 * 4000));
    check(seed, { session, seen, said });
  }
  await comeToRest(lab, session);
  check(seed, { session, seen, said });
  const lost = seen.find(({ type }) => type === "lost");
  const why = `seed ${seed}: ${lost?.detail.detail}; ${session.machine.ended?.detail}`;
  assert.equal(lost, undefined, why);
  const short = (messages) => messages.map((message) => [message.length, message.slice(0, 12)]);
  assert.deepEqual(short(session.messages), short(said.up), `seed ${seed}, up`);
  assert.deepEqual(short(texts(seen)), short(said.down), `seed ${seed}, down`);
  const moves = types(seen).filter((type) => type === "detached" || type === "resumed");
  const unpaired = moves.filter((type, at) => type === "detached" && moves[at + 1] !== "resumed");
  assert.deepEqual(unpaired, [], `seed ${seed}: every gap is followed by its end`);

  socket.close(4000);
  await lab.clock.advance(20_000);
  assert.equal(types(seen).at(-1), "close", `seed ${seed}`);
  assert.equal(session.closedWith, 4000, `seed ${seed}`);
  lab.core.forget();
  assert.equal(lab.clock.timers, 0, `seed ${seed}: nothing is left to run`);
}

/** One thing that happens. */
function act(lab, { socket, session, said, random }) {
  const dice = random();
  const host = HOSTS[Math.floor(random() * HOSTS.length)];
  const message = `${said.up.length + said.down.length}:`.padEnd(random() ** 6 * 100_000, "x");
  if (dice < 0.35) {
    socket.send(message);
    said.up.push(message);
  } else if (dice < 0.7) {
    session.say(message);
    said.down.push(message);
  } else if (dice < 0.76) {
    lab.network.reset(host);
  } else if (dice < 0.84) {
    lab.network.ways.set(host, random() < 0.5 ? "silent" : "down");
  } else if (dice < 0.9) {
    lab.network.ways.delete(host);
  } else if (dice < 0.93) {
    lab.network.latencyMs = 1 + Math.floor(random() * 300);
  } else if (dice < 0.97) {
    lab.environment.events.dispatchEvent(new Event(random() < 0.5 ? "online" : "offline"));
  } else if (session.socket !== undefined) {
    const url = random() < 0.5 ? `wss://${host}` : "";
    const token = new Uint8Array(0);
    session.tell({ kind: "go_away", after_ms: random() * 2000 | 0, grace_ms: 60_000, url, token });
  }
}

async function comeToRest(lab, session) {
  lab.network.ways.clear();
  lab.network.latencyMs = 10;
  session.read();
  await lab.clock.advance(60_000);
}

function check(seed, { session, seen, said }) {
  isBeginning(`seed ${seed}, up`, session.messages, said.up);
  isBeginning(`seed ${seed}, down`, texts(seen), said.down);
}

function isBeginning(what, told, said) {
  assert.ok(told.length <= said.length, `${what}: more than was said`);
  const at = told.findIndex((message, index) => message !== said[index]);
  assert.equal(at, -1, `${what}: message ${at} differs`);
}
