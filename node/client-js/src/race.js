// Several addresses, one winner: the next one starts when the one before has not won within the
// stagger, or at once when it failed (after RFC 8305, "Happy Eyeballs").

export class Race {
  #environment;
  #dial;
  #urls;
  #times;
  #finish;
  #running = new Set();
  #staggerTimer;
  #isOver = false;

  /**
   * `dial(url, { won, failed })` starts an attempt and returns `{ close() }`; it may throw.
   * `times` is `{ staggerMs, dialMs }`. `finish(winner)` is called once, in a task of its own if
   * nothing could be started; without a winner if all have failed.
   */
  constructor(environment, dial, urls, times, finish) {
    this.#environment = environment;
    this.#dial = dial;
    this.#urls = [...urls];
    this.#times = times;
    this.#finish = finish;
    this.#startNext();
  }

  /** Ends it without a winner and without a word. */
  cancel() {
    this.#isOver = true;
    this.#environment.clearTimeout(this.#staggerTimer);
    for (const attempt of [...this.#running]) this.#stop(attempt);
  }

  #startNext() {
    this.#environment.clearTimeout(this.#staggerTimer);
    const url = this.#urls.shift();
    if (url === undefined) {
      if (this.#running.size === 0) {
        this.#staggerTimer = this.#environment.setTimeout(() => this.#end(undefined), 0);
      }
      return;
    }
    this.#start(url);
    if (this.#urls.length > 0 && !this.#isOver) {
      const next = () => this.#startNext();
      this.#staggerTimer = this.#environment.setTimeout(next, this.#times.staggerMs);
    }
  }

  #start(url) {
    const attempt = { socket: undefined, timer: undefined };
    this.#running.add(attempt);
    const failed = () => this.#fail(attempt);
    attempt.timer = this.#environment.setTimeout(failed, this.#times.dialMs);
    const won = () => this.#win(attempt);
    try {
      attempt.socket = this.#dial(url, { won, failed });
    } catch {
      failed(); // Such as a `ws:` address on a page that came by `https:`.
    }
  }

  #win(attempt) {
    if (!this.#running.delete(attempt)) return;
    this.#environment.clearTimeout(attempt.timer);
    this.#end(attempt.socket);
  }

  #fail(attempt) {
    if (!this.#running.has(attempt)) return;
    this.#stop(attempt);
    this.#startNext();
  }

  #stop(attempt) {
    this.#running.delete(attempt);
    this.#environment.clearTimeout(attempt.timer);
    attempt.socket?.close();
  }

  #end(winner) {
    if (this.#isOver) return;
    this.cancel();
    this.#finish(winner);
  }
}
