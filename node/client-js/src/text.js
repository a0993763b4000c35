// Text as bytes and back, and the grammar of a token.

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
const strictDecoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** What a subprotocol's name is made of (RFC 6455 section 4.1: a token of RFC 2616). */
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;

export function isToken(text) {
  return TOKEN.test(text);
}

/** Halves of characters become U+FFFD, as in USVString of Web IDL. */
export function toUtf8(text) {
  return encoder.encode(text);
}

/** Throws a TypeError on what is not UTF-8. */
export function fromUtf8(bytes) {
  return strictDecoder.decode(bytes);
}

/** USVString of Web IDL. */
export function toWellFormed(text) {
  return decoder.decode(encoder.encode(text));
}

/** The longest beginning of `text` of at most `bytesMax` bytes in UTF-8. */
export function cut(text, bytesMax) {
  const { read } = encoder.encodeInto(text, new Uint8Array(bytesMax));
  return text.slice(0, read);
}
