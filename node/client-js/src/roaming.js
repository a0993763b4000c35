// Which attachment carries the session, and when to look for another one.
//
// | what happened | then |
// |---|---|
// | the attachment closed | another one, after a jittered moment; then with backoff |
// | nothing heard 2 s after a ping | another one at once; the old one is kept until that has it |
// | go-away | another one after the told delay, there or where the gateway says |
// | the page woke, the network changed | a ping with less patience; if there is none: at once |
// | `moved` to the older one | it is closed: ours has taken over |

import { Attachment, RESUME_PROTOCOL } from "./attachment.js";
import { Backoff } from "./backoff.js";
import { REPLACED, SESSION_LOST, telling, TRUNK_PROTOCOL } from "./cause.js";
import { CLOSE_MOVED, CLOSE_NOT_RESUMED } from "./close.js";
import { WINDOW_SLACK_MS } from "./conversation.js";
import { Liveness } from "./liveness.js";
import { Race } from "./race.js";

/** What stands before a core's member id in the subprotocol that names the core of a session. */
const CORE_PREFIX = "antipode.core.";

// The relay answers these upgrades itself, so a round trip to a region is all there is to wait for.
const RESUME_RACE = { staggerMs: 250, dialMs: 5000 };

/** The core answers an attach: a round trip to it. */
const ATTACH_PATIENCE_MS = 5000;

/** A race this young is left alone when the page wakes. */
const RACE_YOUNG_MS = 250;

/** What a timer can wait. */
const TIMER_MAX_MS = 2 ** 31 - 1;

export class Roaming {
  #environment;
  #candidates;
  #conversation;
  #on;
  #token;
  #core;
  #windowMs;
  #pingMs;
  /** Carries the session, or did until the fresh one was asked. */
  #live;
  /** Opened and asked to take over. */
  #fresh;
  #freshTimer;
  #race;
  #raceStartedAt = 0;
  #roundTimer;
  #silenceTimer;
  #invitationTimer;
  /** Where a go-away invites to; empty: wherever the gateway says. */
  #invitation;
  /** The one that failed last is tried last. */
  #lastUrl;
  #liveness;
  #backoff;
  #attempt = 0;
  /** Since when nothing flows; undefined while it does. */
  #downSince;
  #isSuspended = false;
  #isOver = false;

  /** `on` is `{ detached(), resumed({ attempt, replayed, downtime }) }`. */
  constructor(environment, candidates, welcome, on) {
    this.#environment = environment;
    this.#candidates = candidates;
    this.#on = on;
    this.#token = welcome.token;
    this.#core = welcome.core;
    this.#windowMs = welcome.window_ms + WINDOW_SLACK_MS;
    this.#pingMs = welcome.ping_ms;
    this.#backoff = new Backoff(environment.random);
    const ping = (n) => this.#live?.sendFrame({ kind: "ping", n });
    this.#liveness = new Liveness(environment, { ping, silent: () => this.#handleSilence() });
  }

  /** The session begins on the attachment that was welcomed. */
  start(conversation, attachment) {
    this.#conversation = conversation;
    this.#live = attachment;
    attachment.on = this.#listenerOf(attachment);
    this.#liveness.start(this.#pingMs);
  }

  /** The address of the relay that carries the session, if one does. */
  get url() {
    return this.#live?.url;
  }

  /** Takes a frame of the session machine to whoever carries it. */
  transmit(frame) {
    if (frame.kind === "attach") frame.token = this.#token;
    (this.#fresh ?? this.#live)?.sendFrame(frame);
    if (frame.kind === "chunk" && this.#fresh === undefined) this.#liveness.spoke();
  }

  /** Something happened to the page or to its network: look at once. */
  wake(reason) {
    if (this.#isOver) return;
    if (this.#live !== undefined && !this.#liveness.isSilent) {
      this.#liveness.probe();
    } else if (reason !== "offline" && this.#fresh === undefined) {
      this.#isSuspended = false;
      this.#backoff.reset();
      this.#restart();
    }
  }

  /** The page is about to stand still, with its socket open. */
  rest() {
    this.#conversation.flush();
    this.#liveness.pause();
  }

  /** The page is put aside: lets go of the attachment, and comes back when it wakes. */
  suspend() {
    if (this.#isOver) return;
    this.#isSuspended = true;
    this.#cancel();
    this.#drop();
    this.#conversation.linkDown(this.#environment.now());
    this.#goDown();
  }

  /** Nothing has to be carried any more. */
  stop() {
    this.#isOver = true;
    this.#cancel();
    this.#drop();
  }

  #listenerOf(attachment) {
    return {
      frame: (frame) => this.#handle(attachment, frame),
      malformed: (error) => this.#handleMalformed(attachment, error),
      closed: (how) => this.#handleClosed(attachment, how),
    };
  }

  #handle(attachment, frame) {
    if (attachment === this.#live) this.#handleHeard();
    switch (frame.kind) {
      case "pong":
        return;
      case "chunk":
      case "end":
      case "ack":
      case "reset":
        this.#conversation.handle(frame);
        return;
      case "attached":
        if (attachment === this.#fresh) this.#handleAttached(frame);
        return;
      case "refused":
        if (attachment === this.#fresh) this.#conversation.refuse(frame.cause, frame.detail);
        return;
      case "go_away":
        if (attachment === this.#live) this.#handleInvitation(frame);
        return;
      case "moved":
        if (attachment === this.#live) this.#handleMoved(frame.epoch);
        return;
      default:
        this.#conversation.fail(TRUNK_PROTOCOL, `the core has no reason to say "${frame.kind}"`);
    }
  }

  #handleHeard() {
    const wasSilent = this.#liveness.isSilent;
    this.#liveness.heard();
    if (!wasSilent) return;
    this.#environment.clearTimeout(this.#silenceTimer);
    if (!this.#conversation.isAttached) {
      this.#hurry();
      return;
    }
    if (this.#invitation === undefined) this.#cancelRace();
    this.#comeUp(0);
  }

  #handleAttached(frame) {
    const before = this.#conversation.replayed;
    this.#conversation.handle(frame);
    if (!this.#conversation.isAttached || this.#isOver) return;
    const replayed = this.#conversation.replayed - before;
    this.#live?.close();
    this.#cancel();
    this.#live = this.#fresh;
    this.#fresh = undefined;
    this.#invitation = undefined;
    this.#backoff.reset();
    this.#liveness.start(this.#pingMs);
    this.#comeUp(replayed);
  }

  /** A newer attachment has the session: one of ours, or that of somebody who has our token. */
  #handleMoved(epoch) {
    if (epoch > this.#conversation.epoch) {
      this.#conversation.abandon(REPLACED, telling(REPLACED).text);
      return;
    }
    this.#live.close();
    this.#handleClosed(this.#live, {});
  }

  #handleInvitation({ after_ms, url, token }) {
    if (token.length > 0) this.#token = token;
    this.#environment.clearTimeout(this.#invitationTimer);
    const go = () => {
      this.#invitation = url;
      this.#attempt = 0;
      if (url !== "") {
        this.#startRace();
        return;
      }
      this.#candidates.expire();
      this.#candidates.prepare(() => this.#startRace());
    };
    this.#invitationTimer = this.#environment.setTimeout(go, Math.min(after_ms, TIMER_MAX_MS));
  }

  #handleMalformed(attachment, error) {
    this.#forget(attachment);
    this.#conversation.fail(TRUNK_PROTOCOL, error.message);
  }

  #handleClosed(attachment, { code, reason }) {
    const wasFresh = attachment === this.#fresh;
    const wasCarrier = wasFresh || this.#fresh === undefined;
    const wasAttached = this.#conversation.isAttached;
    this.#forget(attachment);
    this.#lastUrl = attachment.url;
    if (wasFresh && code === CLOSE_NOT_RESUMED) {
      this.#conversation.refuse(SESSION_LOST, reason);
    } else if (wasAttached && code === CLOSE_MOVED) {
      this.#conversation.abandon(REPLACED, reason || telling(REPLACED).text);
    } else if (wasCarrier) {
      this.#conversation.linkDown(this.#downSince ?? this.#environment.now());
      this.#goDown();
      this.#retry();
    }
  }

  #handleSilence() {
    this.#goDown();
    // The socket may never learn that nobody is there: the session's window is open none the less.
    const giveUp = () => {
      this.#live?.close();
      this.#live = undefined;
      this.#conversation.linkDown(this.#downSince ?? this.#environment.now());
    };
    this.#silenceTimer = this.#environment.setTimeout(giveUp, this.#windowMs);
    this.#lastUrl = this.#live.url;
    this.#startRace();
  }

  #goDown() {
    if (this.#downSince !== undefined || this.#isOver) return;
    this.#downSince = this.#environment.now();
    this.#attempt = 0;
    this.#on.detached();
  }

  #comeUp(replayed) {
    const now = this.#environment.now();
    const detail = { attempt: this.#attempt, replayed, downtime: now - (this.#downSince ?? now) };
    this.#downSince = undefined;
    this.#on.resumed(detail);
  }

  /** Another round after a while; one that is awaited already stays as it is. */
  #retry() {
    if (this.#isOver || this.#isSuspended || this.#roundTimer !== undefined) return;
    const start = () => {
      this.#roundTimer = undefined;
      this.#startRace();
    };
    this.#roundTimer = this.#environment.setTimeout(start, this.#backoff.next());
  }

  /** The core is heard while the next round is awaited: whoever is on the way elsewhere goes on. */
  #hurry() {
    if (this.#roundTimer === undefined) return;
    this.#backoff.reset();
    this.#startRace();
  }

  /** As {@link Roaming#startRace}, instead of one that may wait for what was there before. */
  #restart() {
    const age = this.#environment.now() - this.#raceStartedAt;
    if (this.#race !== undefined && age < RACE_YOUNG_MS) return;
    this.#cancelRace();
    this.#startRace();
  }

  #startRace() {
    const isBusy = this.#race !== undefined || this.#fresh !== undefined;
    if (this.#isOver || this.#isSuspended || isBusy) return;
    this.#clearRound();
    this.#attempt += 1;
    const last = this.#live?.url ?? this.#lastUrl;
    const urls = this.#candidates.urls({ first: this.#invitation, last });
    // The first round takes what is known: not everybody asks the gateway when a relay goes.
    if (this.#attempt > 1 || urls.length === 1) this.#candidates.doubt();
    this.#raceStartedAt = this.#environment.now();
    const dial = (url, attempt) => this.#dial(url, attempt);
    this.#race = new Race(this.#environment, dial, urls, RESUME_RACE, (winner) => {
      this.#race = undefined;
      if (winner === undefined) this.#retry();
      else this.#ask(winner);
    });
  }

  #dial(url, { won, failed }) {
    const protocols = [RESUME_PROTOCOL, CORE_PREFIX + this.#core];
    const attachment = new Attachment(this.#environment, url, protocols, {
      open: () => (attachment.isResumable ? won() : failed()),
      frame: failed,
      malformed: failed,
      closed: failed,
    });
    return attachment;
  }

  /** Asks the core to go on here. */
  #ask(attachment) {
    this.#fresh = attachment;
    attachment.on = this.#listenerOf(attachment);
    const giveUp = () => {
      attachment.close();
      this.#handleClosed(attachment, {});
    };
    this.#freshTimer = this.#environment.setTimeout(giveUp, ATTACH_PATIENCE_MS);
    this.#conversation.linkDown(this.#downSince ?? this.#environment.now());
    this.#conversation.linkUp();
  }

  #forget(attachment) {
    if (attachment === this.#fresh) {
      this.#environment.clearTimeout(this.#freshTimer);
      this.#fresh = undefined;
    } else if (attachment === this.#live) {
      this.#liveness.stop();
      this.#live = undefined;
    }
  }

  #cancelRace() {
    this.#race?.cancel();
    this.#race = undefined;
    this.#clearRound();
  }

  #clearRound() {
    this.#environment.clearTimeout(this.#roundTimer);
    this.#roundTimer = undefined;
  }

  #cancel() {
    this.#cancelRace();
    for (const timer of [this.#freshTimer, this.#silenceTimer, this.#invitationTimer]) {
      this.#environment.clearTimeout(timer);
    }
  }

  #drop() {
    this.#liveness.stop();
    for (const attachment of [this.#fresh, this.#live]) attachment?.close();
    this.#fresh = undefined;
    this.#live = undefined;
  }
}
