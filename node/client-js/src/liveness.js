// Whether the attachment still carries anything: a ping at times, and patience for any answer.

/** How long after a ping nothing may be heard. */
const PATIENCE_MS = 2000;

/** The same when something happened to the network: then a silence is likely to be the end. */
const URGENT_PATIENCE_MS = 1000;

/** Silence after which the application's own words are accompanied by a ping. */
const QUIET_MS = 500;

/** A timer this late tells that the page itself stood still: its messages wait to be read, too. */
const STALL_MS = 500;

/** What they are given then. */
const GRACE_MS = 250;

export class Liveness {
  #environment;
  #on;
  #pingMs;
  #pings = 0;
  #heardAt = 0;
  #pingedAt = 0;
  #isAnswered = false;
  #dueAt = 0;
  #timer;
  // idle: waits for the time of the next ping; waiting: a ping is out; silent; stopped.
  #state = "stopped";

  /** `on` is `{ ping(n), silent() }`. */
  constructor(environment, on) {
    this.#environment = environment;
    this.#on = on;
  }

  /** There is a new attachment, heard just now. */
  start(pingMs) {
    this.#pingMs = pingMs;
    this.#heardAt = this.#environment.now();
    this.#idle(this.#heardAt + pingMs);
  }

  stop() {
    this.#state = "stopped";
    this.#environment.clearTimeout(this.#timer);
  }

  get isSilent() {
    return this.#state === "silent";
  }

  /** Something came. Called for every frame, so it sets no timer but after a silence. */
  heard() {
    this.#heardAt = this.#environment.now();
    if (this.#state === "waiting") this.#isAnswered = true;
    if (this.#state === "silent") this.#idle(this.#heardAt + this.#pingMs);
  }

  /** The application spoke after a silence: is there anybody? */
  spoke() {
    const isQuiet = this.#environment.now() - this.#heardAt >= QUIET_MS;
    if (this.#state === "idle" && isQuiet) this.#ping(PATIENCE_MS);
  }

  /** Nobody will be there to hear for a while. A probe ends that. */
  pause() {
    if (this.#state === "stopped" || this.#state === "silent") return;
    this.#state = "idle";
    this.#environment.clearTimeout(this.#timer);
  }

  /** Something happened to the page or to its network: is there still anybody? */
  probe() {
    if (this.#state === "idle" || this.#state === "waiting") this.#ping(URGENT_PATIENCE_MS);
  }

  #idle(until) {
    this.#state = "idle";
    this.#at(until, () => this.#ping(PATIENCE_MS));
  }

  #ping(patienceMs) {
    const now = this.#environment.now();
    this.#pings += 1;
    this.#pingedAt = now;
    this.#isAnswered = false;
    this.#state = "waiting";
    this.#at(now + patienceMs, () => this.#judge());
    this.#on.ping(this.#pings);
  }

  #judge() {
    const now = this.#environment.now();
    if (this.#isAnswered) {
      this.#idle(this.#pingedAt + this.#pingMs);
      return;
    }
    if (now - this.#dueAt >= STALL_MS) {
      this.#at(now + GRACE_MS, () => this.#judge());
      return;
    }
    this.#state = "silent";
    this.#on.silent();
  }

  #at(time, call) {
    this.#environment.clearTimeout(this.#timer);
    this.#dueAt = time;
    this.#timer = this.#environment.setTimeout(call, Math.max(0, time - this.#environment.now()));
  }
}
