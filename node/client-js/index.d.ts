/** A WebSocket that survives its relay: the browser's interface over `antipode.resume.v1`. */

/** What makes real sockets; a browser's `WebSocket`, or the class of npm's `ws`. */
export type WebSocketImplementation = new (url: string, protocols?: string | string[]) => unknown;

export interface AntipodeOptions {
  /** The gateway's address: it is asked which relay is nearest. */
  gateway?: string | URL;
  /** Relays to try before all others, best first, such as `wss://sg.relay.example.com`. */
  candidates?: Iterable<string | URL>;
  /**
   * Most bytes that `send()` keeps of what has not arrived at the backend; 16 MiB. A message beyond
   * that ends the socket, as in a browser whose buffer is full.
   */
  maxBufferedBytes?: number;
  /** Most bytes of a message that comes; 64 MiB. A larger one ends the socket. */
  maxMessageBytes?: number;
  /** Makes the real sockets; the global `WebSocket` unless given. */
  WebSocket?: WebSocketImplementation;
  /** Closes the socket when it aborts. */
  signal?: AbortSignal;
}

/** The session flows again, with nothing lost, doubled or reordered. */
export interface ResumedDetail {
  /** How many rounds of attempts it took; 0: the old attachment came back to life. */
  attempt: number;
  /** How many segments were sent again. */
  replayed: number;
  /** For how many milliseconds nothing flowed; 0 after a move without a gap. */
  downtime: number;
  /** The address of the relay that carries it now. */
  relay: string;
}

/** The session is over, and what was under way may not have arrived. `close` follows. */
export interface LostDetail {
  resumed: false;
  /** Why, from a closed set, such as `session_lost`. */
  cause: string;
  /** For people. */
  detail: string;
}

export interface AntipodeWebSocketEventMap {
  open: Event;
  message: MessageEvent;
  error: Event;
  close: CloseEvent;
  detached: CustomEvent<Record<string, never>>;
  resumed: CustomEvent<ResumedDetail>;
  lost: CustomEvent<LostDetail>;
}

export declare class AntipodeWebSocket extends EventTarget {
  /**
   * @param url Where the application's socket is, as for a `WebSocket`. Its path and query go to
   *   every relay; it is the last one that is tried itself.
   * @param protocols The application's subprotocols. Names with `antipode.` in front are reserved.
   */
  constructor(url: string | URL, protocols?: string | Iterable<string>, options?: AntipodeOptions);

  static readonly CONNECTING: 0;
  static readonly OPEN: 1;
  static readonly CLOSING: 2;
  static readonly CLOSED: 3;
  readonly CONNECTING: 0;
  readonly OPEN: 1;
  readonly CLOSING: 2;
  readonly CLOSED: 3;

  /** The address that was given; {@link relay} is the one in use. */
  readonly url: string;
  readonly readyState: number;
  /** Bytes given to `send()` that have not arrived at the backend, as far as is known. */
  readonly bufferedAmount: number;
  /** Always empty: what a compressor remembers would not survive a resume. */
  readonly extensions: string;
  /** The subprotocol that the backend chose. */
  readonly protocol: string;
  binaryType: BinaryType;
  /** The address of the relay in use; undefined while there is none. */
  readonly relay: string | undefined;

  send(data: string | ArrayBufferLike | Blob | ArrayBufferView): void;
  close(code?: number, reason?: string): void;

  onopen: ((this: WebSocket, event: Event) => unknown) | null;
  onmessage: ((this: WebSocket, event: MessageEvent) => unknown) | null;
  onerror: ((this: WebSocket, event: Event) => unknown) | null;
  onclose: ((this: WebSocket, event: CloseEvent) => unknown) | null;
  /** Nothing carries the session just now, or nothing is heard of it. */
  ondetached: ((event: AntipodeWebSocketEventMap["detached"]) => unknown) | null;
  /** It flows again, or on another relay. */
  onresumed: ((event: AntipodeWebSocketEventMap["resumed"]) => unknown) | null;
  /** It is over before its time. */
  onlost: ((event: AntipodeWebSocketEventMap["lost"]) => unknown) | null;

  addEventListener<K extends keyof AntipodeWebSocketEventMap>(
    type: K,
    listener: (this: AntipodeWebSocket, event: AntipodeWebSocketEventMap[K]) => unknown,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject,
    options?: boolean | AddEventListenerOptions,
  ): void;
  removeEventListener<K extends keyof AntipodeWebSocketEventMap>(
    type: K,
    listener: (this: AntipodeWebSocket, event: AntipodeWebSocketEventMap[K]) => unknown,
    options?: boolean | EventListenerOptions,
  ): void;
  removeEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject,
    options?: boolean | EventListenerOptions,
  ): void;
}

export default AntipodeWebSocket;
