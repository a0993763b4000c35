// A place for the client to run in, with virtual time, its own chance, and a page.

/** Timers in virtual milliseconds. */
export class Clock {
  #now = 0;
  #timers = [];
  #count = 0;

  now = () => this.#now;

  setTimeout = (call, ms) => {
    const timer = { call, at: this.#now + ms, order: (this.#count += 1) };
    this.#timers.push(timer);
    return timer;
  };

  clearTimeout = (timer) => {
    this.#timers = this.#timers.filter((other) => other !== timer);
  };

  get timers() {
    return this.#timers.length;
  }

  /** Runs what is due within `ms`, in order; promises get their turn after each. */
  async advance(ms) {
    const end = this.#now + ms;
    for (;;) {
      await settle();
      this.#timers.sort((one, other) => one.at - other.at || one.order - other.order);
      const [next] = this.#timers;
      if (next === undefined || next.at > end) break;
      this.#timers.shift();
      this.#now = next.at;
      next.call();
    }
    this.#now = end;
    await settle();
  }

  /** Time that passes without anybody running: a machine that sleeps. */
  sleep(ms) {
    this.#now += ms;
  }
}

/** Lets promises that are ready run on. */
export async function settle() {
  for (let turn = 0; turn < 10; turn += 1) await Promise.resolve();
}

/** Random numbers from a seed (mulberry32). */
export function randomFrom(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** As `environmentOf` gives it. `network` makes the sockets. */
export function makePlace(network, { random = () => 0.5, fetch, storage } = {}) {
  const { clock } = network;
  const document = new EventTarget();
  document.visibilityState = "visible";
  return {
    WebSocket: network.WebSocket,
    fetch,
    now: clock.now,
    random,
    setTimeout: clock.setTimeout,
    clearTimeout: clock.clearTimeout,
    baseUrl: "https://app.example/page",
    timeZone: "Asia/Singapore",
    document,
    events: new EventTarget(),
    navigator: { connection: new EventTarget() },
    storage,
  };
}
