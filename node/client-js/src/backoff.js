// How long to wait before the next attempt: full jitter, so that clients of a relay that went away
// don't come back in step.

const BASE_MS = 250;
const CAP_MS = 10_000;

export class Backoff {
  #random;
  #failures = 0;

  /** `random` gives numbers from 0 up to 1. */
  constructor(random) {
    this.#random = random;
  }

  /** Milliseconds until the next attempt; the mean doubles each time, up to a cap. */
  next() {
    const most = Math.min(CAP_MS, BASE_MS * 2 ** this.#failures);
    // Beyond this the cap is reached, whatever the number.
    this.#failures = Math.min(this.#failures + 1, 16);
    return this.#random() * most;
  }

  reset() {
    this.#failures = 0;
  }
}
