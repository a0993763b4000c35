// From a URL to an open socket, resumable or plain, and what both have in common afterwards.

import { Attachment, RESUME_PROTOCOL } from "./attachment.js";
import { Candidates } from "./candidates.js";
import { POLICY } from "./cause.js";
import { CLOSE_ABNORMAL } from "./close.js";
import { Conversation } from "./conversation.js";
import { watchLifecycle } from "./lifecycle.js";
import { Race } from "./race.js";
import { Roaming } from "./roaming.js";
import { isToken } from "./text.js";

// The answer to a first connect comes from the backend, and the loser of a race has opened a socket
// there for nothing: the next one starts when the one before is likely to have failed.
const FIRST_RACE = { staggerMs: 1000, dialMs: 10_000 };

/** A welcome follows the answer to the upgrade on its heels. */
const WELCOME_PATIENCE_MS = 2000;

export class Connection {
  #environment;
  #protocols;
  #options;
  #on;
  #candidates;
  #race;
  /** An address whose server may know no resumable sockets. */
  #plainUrl;
  /** The socket itself, where the relay did not choose to make it resumable. */
  #plain;
  #conversation;
  #roaming;
  #unwatch = () => {};
  #isAborted = false;
  #isOver = false;

  /**
   * `on` is `{ open(protocol), message(message), detached(), resumed(detail), lost(detail),
   * closed({ code, reason, wasClean, failed }) }`; nothing comes after `closed`.
   */
  constructor(environment, { url, protocols }, options, on) {
    this.#environment = environment;
    this.#protocols = protocols;
    this.#options = options;
    this.#on = on;
    this.#candidates = new Candidates(environment, url, options);
    this.#candidates.prepare(() => this.#connect());
  }

  get bufferedAmount() {
    return this.#conversation?.bufferedBytes ?? this.#plain?.bufferedAmount ?? 0;
  }

  /** The address of the relay in use. */
  get relay() {
    return this.#plain?.url ?? this.#roaming?.url;
  }

  /** `item` is `{ data, isText, bytes, blob, size }`. */
  send(item) {
    if (this.#plain !== undefined) this.#plain.send(item.data);
    else this.#conversation.send(item);
  }

  /** Begins an orderly end; of one that is not open yet: ends it. */
  close(code, reason) {
    if (this.#plain !== undefined) this.#plain.closeGently(code, reason);
    else if (this.#conversation !== undefined) this.#conversation.close(code, reason);
    else this.#failSoon("closed before it was open");
  }

  /** The application wanted more kept than it allowed: as in a browser, that is the end. */
  overflow() {
    const reason = "too much is buffered";
    if (this.#conversation !== undefined) {
      this.#environment.setTimeout(() => this.#conversation.fail(POLICY, reason), 0);
    } else {
      this.#plain.close();
      this.#failSoon(reason);
    }
  }

  #connect() {
    if (this.#isAborted) return;
    const dial = (url, attempt) => this.#dial(url, attempt);
    const urls = this.#candidates.urls();
    this.#race = new Race(this.#environment, dial, urls, FIRST_RACE, (winner) => {
      if (winner === undefined) this.#handleNone();
      else this.#begin(winner);
    });
  }

  #dial(url, { won, failed }) {
    // Some servers choose the last subprotocol, or the first, whatever it says.
    const blind = () => {
      this.#plainUrl ??= url;
      failed();
    };
    const on = {
      open: () => {
        if (attachment.isResumable) attachment.expect(WELCOME_PATIENCE_MS, blind);
        else won();
      },
      frame: (frame) => {
        attachment.welcome = frame;
        if (frame.kind !== "welcome") blind();
        else if (this.#isAcceptable(frame)) won();
        else failed();
      },
      malformed: blind,
      closed: () => {
        // Browsers refuse a server that chose no subprotocol where one was offered.
        if (this.#protocols.length === 0 || attachment.isResumable) blind();
        else failed();
      },
    };
    const protocols = [...this.#protocols, RESUME_PROTOCOL];
    const attachment = new Attachment(this.#environment, url, protocols, on);
    return attachment;
  }

  /** As a browser does with a server's choice of a subprotocol: one of those that were offered. */
  #isAcceptable({ core, protocol }) {
    const isOffered = this.#protocols.includes(protocol);
    return isToken(core) && (isOffered || (protocol === "" && this.#protocols.length === 0));
  }

  /** A server that seems not to know our subprotocol is asked again without. */
  #handleNone() {
    const url = this.#plainUrl;
    this.#plainUrl = undefined;
    if (url === undefined) {
      this.#end({ code: CLOSE_ABNORMAL, reason: "", wasClean: false, failed: true });
      return;
    }
    const on = ({ won, failed }) => ({ open: won, message: () => {}, closed: failed });
    const dial = (_, attempt) =>
      new Attachment(this.#environment, url, this.#protocols, on(attempt));
    this.#race = new Race(this.#environment, dial, [url], FIRST_RACE, (winner) => {
      if (winner === undefined) this.#handleNone();
      else this.#beginPlain(winner);
    });
  }

  #begin(attachment) {
    this.#race = undefined;
    if (attachment.isResumable) this.#beginResumable(attachment);
    else this.#beginPlain(attachment);
  }

  #beginPlain(attachment) {
    this.#race = undefined;
    attachment.hold();
    this.#plain = attachment;
    attachment.on = {
      message: (data) => this.#on.message({ data }),
      closed: (how) => this.#end({ ...how, failed: !how.wasClean }),
    };
    this.#on.open(attachment.protocol);
  }

  #beginResumable(attachment) {
    const environment = this.#environment;
    const { welcome } = attachment;
    const limits = {
      windowMs: welcome.window_ms,
      messageBytesMax: this.#options.maxMessageBytes,
    };
    // While the peer still hears of the end, the application has heard of it.
    this.#roaming = new Roaming(environment, this.#candidates, welcome, {
      detached: () => this.#isOver || this.#on.detached(),
      resumed: (detail) => this.#isOver || this.#on.resumed(detail),
    });
    this.#conversation = new Conversation(environment, limits, {
      transmit: (frame) => this.#roaming.transmit(frame),
      message: (message) => this.#on.message(message),
      lost: (detail) => this.#on.lost(detail),
      over: (how) => this.#end(how),
      finished: () => this.#roaming.stop(),
    });
    attachment.hold();
    this.#roaming.start(this.#conversation, attachment);
    this.#conversation.linkUp();
    this.#conversation.handle({ kind: "ack", ack: 0, credit: welcome.credit });
    this.#unwatch = watchLifecycle(environment, {
      wake: (reason) => this.#roaming.wake(reason),
      rest: () => this.#roaming.rest(),
      suspend: () => this.#roaming.suspend(),
      leave: () => this.#leave(),
    });
    this.#on.open(welcome.protocol);
  }

  #leave() {
    this.#isOver = true;
    this.#unwatch();
    this.#conversation.leave();
  }

  #failSoon(reason) {
    this.#isAborted = true;
    this.#race?.cancel();
    const end = () => this.#end({ code: CLOSE_ABNORMAL, reason, wasClean: false, failed: true });
    this.#environment.setTimeout(end, 0);
  }

  #end(how) {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#unwatch();
    this.#on.closed(how);
  }
}
