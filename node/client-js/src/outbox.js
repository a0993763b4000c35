// What the application has sent and the session has not taken yet: in order, cut into chunks as
// there is credit.

import { Pieces } from "./message.js";
import { Queue } from "./queue.js";

export class Outbox {
  #items = new Queue();
  #end;
  #onReady;

  /** `onReady(error)` is called when a Blob at the front has been read, or could not be. */
  constructor(onReady) {
    this.#onReady = onReady;
  }

  push({ isText, bytes, blob }) {
    const item = { isText, pieces: bytes && new Pieces(bytes, isText) };
    this.#items.push(item);
    if (blob === undefined) return;
    const read = (buffer) => {
      item.pieces = new Pieces(new Uint8Array(buffer), false);
      this.#onReady();
    };
    blob.arrayBuffer().then(read, (error) => this.#onReady(error));
  }

  /** Nothing more will come: `end` goes once everything before it has gone. */
  end(end) {
    this.#end ??= end;
  }

  /** Gives the session what it has room for. */
  fill(session) {
    while (session.hasRoom) {
      const item = this.#items.at(0);
      if (item === undefined || item.pieces === undefined) break;
      const { chunk, isLast } = item.pieces.next();
      if (isLast) this.#items.shift();
      session.send(chunk);
    }
    // An end needs no room: it is the last thing that is kept.
    if (this.#items.length === 0 && this.#end !== undefined) {
      session.send(this.#end);
      this.#end = undefined;
    }
  }

  clear() {
    this.#items.clear();
    this.#end = undefined;
  }
}
