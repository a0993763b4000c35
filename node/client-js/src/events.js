// What EventTarget leaves open: `on…` attributes, and CloseEvent where there is none.

/** Node.js has its own since version 23. */
export const CloseEventClass =
  globalThis.CloseEvent ??
  class CloseEvent extends Event {
    #init;

    constructor(type, init = {}) {
      super(type, init);
      this.#init = init;
    }

    get code() {
      return this.#init.code ?? 0;
    }

    get reason() {
      return this.#init.reason ?? "";
    }

    get wasClean() {
      return this.#init.wasClean ?? false;
    }
  };

/** By socket: by type, the handler and the listener that calls it. */
const handlers = new WeakMap();

/** Defines event handler attributes as the HTML standard has them: a handler is called in the place
 * that its first assignment gave it among the listeners. */
export function handlerAttributes(prototype, types) {
  for (const type of types) {
    Object.defineProperty(prototype, `on${type}`, {
      enumerable: true,
      configurable: true,
      get() {
        return handlers.get(this)?.get(type)?.handler ?? null;
      },
      set(value) {
        setHandler(this, type, value);
      },
    });
  }
}

function setHandler(socket, type, value) {
  const isCallback = typeof value === "function" || (typeof value === "object" && value !== null);
  const ofSocket = handlers.get(socket) ?? new Map();
  handlers.set(socket, ofSocket);
  const known = ofSocket.get(type);
  if (!isCallback) {
    if (known !== undefined) socket.removeEventListener(type, known.listener);
    ofSocket.delete(type);
  } else if (known !== undefined) {
    known.handler = value;
  } else {
    const entry = { handler: value };
    entry.listener = (event) => {
      if (typeof entry.handler !== "function") return;
      if (entry.handler.call(socket, event) === false) event.preventDefault();
    };
    ofSocket.set(type, entry);
    socket.addEventListener(type, entry.listener);
  }
}
