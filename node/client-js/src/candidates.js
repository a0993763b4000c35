// Which relays to try, in which order: the addresses that the application gave, the gateway's
// answer (docs/steering.md) or the last good one, and the URL itself.

/** An answer younger than this is as good as a new one. */
const FRESH_MS = 30_000;

/** The same for one whose relays could not be reached. */
const DOUBTFUL_FRESH_MS = 5000;

/** A first connect waits this long for the gateway, then it goes on without. */
const GATEWAY_PATIENCE_MS = 2000;

/** Most relays that are tried in one go. */
const CANDIDATES_MAX = 8;

const ANSWER_CHARS_MAX = 65_536;
const URL_CHARS_MAX = 2048;
const GATEWAYS_MAX = 8;
const STORAGE_KEY = "antipode-candidates:";

/** The last good answer of each gateway, for all sockets of a page: `{ urls, at }`. */
const answers = new Map();

export class Candidates {
  #environment;
  #target;
  #gateway;
  #given;
  #asking;

  /** `target` is the URL that the application wants; its path and query go to every relay. */
  constructor(environment, target, { gateway, candidates = [] }) {
    this.#environment = environment;
    this.#target = target;
    this.#given = [...candidates].map(String);
    this.#gateway = gateway === undefined ? undefined : steerUrl(gateway, environment);
  }

  /** Calls back with the addresses to try, once the gateway has answered or has had its time. */
  prepare(callback) {
    if (this.#gateway === undefined || this.#isFresh(FRESH_MS)) {
      callback();
      return;
    }
    let isWaiting = true;
    const proceed = () => {
      if (isWaiting) callback();
      isWaiting = false;
    };
    const timer = this.#environment.setTimeout(proceed, GATEWAY_PATIENCE_MS);
    this.#askOnce().then(() => {
      this.#environment.clearTimeout(timer);
      proceed();
    });
  }

  /** What is known could not be reached: asks the gateway, for the next time. */
  doubt() {
    if (this.#gateway !== undefined && !this.#isFresh(DOUBTFUL_FRESH_MS)) this.#askOnce();
  }

  /** Forgets that the answer is fresh: relays have changed. */
  expire() {
    const answer = answers.get(this.#gateway);
    if (answer !== undefined) answer.at = -Infinity;
  }

  /** The addresses to try: `first` before all, `last` (one that failed) after the others. */
  urls({ first, last } = {}) {
    const bases = [first, ...this.#given, ...this.#known(), this.#target.href];
    const found = new Set();
    for (const base of bases) {
      const url = base && this.#on(base);
      if (url) found.add(url);
    }
    if (found.delete(last)) found.add(last);
    return [...found].slice(0, CANDIDATES_MAX);
  }

  /** The target's path and query on another relay; undefined for what can't be one. */
  #on(base) {
    try {
      const url = new URL(base);
      const isSecure = url.protocol === "wss:";
      // Never from an encrypted address to an open one.
      const isOpen = url.protocol === "ws:" && this.#target.protocol === "ws:";
      if (!isSecure && !isOpen) return undefined;
      if (url.href === this.#target.href) return url.href;
      url.pathname = url.pathname.replace(/\/$/, "") + this.#target.pathname;
      url.search = this.#target.search;
      url.hash = "";
      return url.href;
    } catch {
      return undefined;
    }
  }

  #isFresh(ageMs) {
    const answer = answers.get(this.#gateway);
    return answer !== undefined && this.#environment.now() - answer.at < ageMs;
  }

  #known() {
    if (this.#gateway === undefined) return [];
    return answers.get(this.#gateway)?.urls ?? this.#stored();
  }

  /** One question at a time. Settles when it is over, whatever came. */
  #askOnce() {
    this.#asking ??= this.#ask().finally(() => {
      this.#asking = undefined;
    });
    return this.#asking;
  }

  async #ask() {
    const controller = new AbortController();
    const stop = () => controller.abort();
    const timer = this.#environment.setTimeout(stop, 2 * GATEWAY_PATIENCE_MS);
    try {
      const options = { signal: controller.signal, credentials: "omit", cache: "no-store" };
      const response = await this.#environment.fetch(this.#gateway, options);
      if (!response.ok) return; // 503: it knows of no relay now. The last good answer may do.
      const urls = parseAnswer(await response.text());
      if (urls.length > 0) this.#remember(urls);
    } catch {
      // Not reachable, or no answer that can be read: the last good one may do.
    } finally {
      this.#environment.clearTimeout(timer);
    }
  }

  #remember(urls) {
    answers.delete(this.#gateway);
    answers.set(this.#gateway, { urls, at: this.#environment.now() });
    if (answers.size > GATEWAYS_MAX) answers.delete(answers.keys().next().value);
    try {
      this.#environment.storage?.setItem(STORAGE_KEY + this.#gateway, JSON.stringify(urls));
    } catch {
      // Full, or forbidden.
    }
  }

  #stored() {
    try {
      return readUrls(JSON.parse(this.#environment.storage.getItem(STORAGE_KEY + this.#gateway)));
    } catch {
      return [];
    }
  }
}

/** For tests: a page that has never asked. */
export function forgetAnswers() {
  answers.clear();
}

function steerUrl(gateway, { baseUrl, timeZone }) {
  const url = new URL(gateway, baseUrl);
  if (!url.pathname.endsWith("/v1/steer")) {
    url.pathname = `${url.pathname.replace(/\/$/, "")}/v1/steer`;
  }
  if (timeZone !== undefined && !url.searchParams.has("tz")) url.searchParams.set("tz", timeZone);
  return url.href;
}

function parseAnswer(text) {
  if (text.length > ANSWER_CHARS_MAX) return [];
  const { candidates } = JSON.parse(text);
  if (!Array.isArray(candidates)) return [];
  // Each relay's first address before any one's second.
  const lists = candidates.slice(0, CANDIDATES_MAX).map((candidate) => readUrls(candidate?.urls));
  const depth = Math.max(0, ...lists.map((list) => list.length));
  return Array.from({ length: depth }, (_, at) => lists.map((list) => list[at]))
    .flat()
    .filter((url) => url !== undefined)
    .slice(0, CANDIDATES_MAX);
}

function readUrls(value) {
  if (!Array.isArray(value)) return [];
  const isUrl = (url) => typeof url === "string" && url.length <= URL_CHARS_MAX;
  return value.filter(isUrl).slice(0, CANDIDATES_MAX);
}
