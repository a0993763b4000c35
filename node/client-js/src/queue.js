// First in, first out, in constant time: `Array.shift` moves everything that is behind.

export class Queue {
  #items = [];
  #start = 0;

  get length() {
    return this.#items.length - this.#start;
  }

  push(item) {
    this.#items.push(item);
  }

  /** The item at `index` from the front; undefined beyond the end. */
  at(index) {
    return this.#items[this.#start + index];
  }

  shift() {
    if (this.length === 0) return undefined;
    const item = this.#items[this.#start];
    this.#items[this.#start] = undefined;
    this.#start += 1;
    // Half of it is gone: now moving the rest costs less than what was saved.
    if (this.#start * 2 >= this.#items.length) {
      this.#items.splice(0, this.#start);
      this.#start = 0;
    }
    return item;
  }

  clear() {
    this.#items = [];
    this.#start = 0;
  }
}
