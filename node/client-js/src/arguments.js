// What the methods of a WebSocket take, checked as the browser's checks it
// (https://websockets.spec.whatwg.org/#the-websocket-interface).

import { REASON_BYTES_MAX } from "./codec.js";
import { isToken, toUtf8, toWellFormed } from "./text.js";

/** The address as a URL with the scheme `ws:` or `wss:`. */
export function toUrl(given, baseUrl) {
  let url;
  try {
    url = new URL(given, baseUrl);
  } catch {
    throw new DOMException(`not a URL: ${given}`, "SyntaxError");
  }
  if (url.protocol === "http:") url.protocol = "ws:";
  if (url.protocol === "https:") url.protocol = "wss:";
  if (url.protocol !== "ws:" && url.protocol !== "wss:") {
    throw new DOMException(`not the scheme of a WebSocket: ${url.protocol}`, "SyntaxError");
  }
  if (url.hash !== "" || url.href.endsWith("#")) {
    throw new DOMException("a fragment in the URL of a WebSocket", "SyntaxError");
  }
  return url;
}

/** The application's subprotocols as a list. */
export function toProtocols(given) {
  const isList = typeof given === "object" && given !== null && Symbol.iterator in given;
  const protocols = isList ? Array.from(given, String) : [String(given)];
  for (const protocol of protocols) {
    const isReserved = protocol.toLowerCase().startsWith("antipode.");
    const isRepeated = protocols.filter((other) => other === protocol).length > 1;
    if (!isToken(protocol) || isReserved || isRepeated) {
      throw new DOMException(`not to be offered as a subprotocol: ${protocol}`, "SyntaxError");
    }
  }
  return protocols;
}

/** The code of a close; undefined if none was given. */
export function toCloseCode(given) {
  if (given === undefined) return undefined;
  const code = clamp(Number(given));
  if (code !== 1000 && (code < 3000 || code > 4999)) {
    throw new DOMException(`not 1000 or between 3000 and 4999: ${code}`, "InvalidAccessError");
  }
  return code;
}

/** The reason of a close; empty if none was given. */
export function toReason(given) {
  const reason = given === undefined ? "" : toWellFormed(String(given));
  if (toUtf8(reason).length > REASON_BYTES_MAX) {
    throw new DOMException(`a reason of more than ${REASON_BYTES_MAX} bytes`, "SyntaxError");
  }
  return reason;
}

/** What send() was given, with its size; buffers are copied, for they may change afterwards. */
export function toItem(data) {
  if (typeof Blob === "function" && data instanceof Blob) {
    return { data, isText: false, blob: data, size: data.size };
  }
  const isView = ArrayBuffer.isView(data);
  if (isView || data instanceof ArrayBuffer) {
    const view = isView ? [data.buffer, data.byteOffset, data.byteLength] : [data];
    const bytes = new Uint8Array(...view).slice();
    return { data: bytes, isText: false, bytes, size: bytes.length };
  }
  const text = String(data);
  const bytes = toUtf8(text);
  return { data: text, isText: true, bytes, size: bytes.length };
}

/** `[Clamp] unsigned short` of Web IDL: to the nearest, and of two to the even one. */
function clamp(number) {
  if (Number.isNaN(number)) return 0;
  const bounded = Math.min(Math.max(number, 0), 65_535);
  const floor = Math.floor(bounded);
  const isUp = bounded - floor > 0.5 || (bounded - floor === 0.5 && floor % 2 === 1);
  return isUp ? floor + 1 : floor;
}
