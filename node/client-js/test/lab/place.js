// A place for the client to run in, with virtual time, its own chance, and a page.

/** Timers in virtual milliseconds. */
export class Clock {
  #now = 0;
  /** Sorted, the next one last. */
  #timers = [];
  /** How many turns promises get after each timer. */
  turns = 10;

  now = () => this.#now;

  setTimeout = (call, ms) => {
    const timer = { call, at: this.#now + ms };
    let [low, high] = [0, this.#timers.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#timers[middle].at > timer.at) low = middle + 1;
      else high = middle;
    }
    this.#timers.splice(low, 0, timer);
    return timer;
  };

  clearTimeout = (timer) => {
    const at = this.#timers.indexOf(timer);
    if (at >= 0) this.#timers.splice(at, 1);
  };

  get timers() {
    return this.#timers.length;
  }

  /** Runs what is due within `ms`, in order. */
  async advance(ms) {
    const end = this.#now + ms;
    for (;;) {
      for (let turn = 0; turn < this.turns; turn += 1) await Promise.resolve();
      const next = this.#timers.at(-1);
      if (next === undefined || next.at > end) break;
      this.#timers.pop();
      this.#now = Math.max(this.#now, next.at);
      next.call();
    }
    this.#now = Math.max(this.#now, end);
  }

  /** Time that passes without anybody running: a machine that sleeps. */
  sleep(ms) {
    this.#now += ms;
  }
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
