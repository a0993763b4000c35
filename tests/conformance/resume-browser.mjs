// The JavaScript client in Chromium, as a page has it from a relay.
//
//   node resume-browser.mjs BACKEND RELAY RELAY
//
// BACKEND is where ws-server.mjs listens (http://…), the others are relays in front of it (wss://…). Prints "now:
// WHAT" when something has to happen outside, one line a step, and exits 0, or says what differed and exits 1.

import assert from "node:assert/strict";
import { chromium } from "playwright-core";

const [backend, ...relays] = process.argv.slice(2);
const PATIENCE_MS = 30_000;
const PAGE = "https://app.example/";

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: [
    "--ignore-certificate-errors",
    // A page that playwright makes up counts as one of the wide world.
    "--disable-features=LocalNetworkAccessChecks,LocalNetworkAccessChecksWebSockets",
    ...(process.getuid?.() === 0 ? ["--no-sandbox"] : []),
  ],
});

/** A page with the client of the first relay, and what it needs in it. */
async function newPage() {
  const context = await browser.newContext({ ignoreHTTPSErrors: true });
  context.setDefaultTimeout(PATIENCE_MS);
  await context.route(`${PAGE}**`, (route) =>
    route.fulfill({ contentType: "text/html", body: "<!doctype html><title>a page</title>" }),
  );
  const page = await context.newPage();
  const errors = [];
  page.on("pageerror", (error) => errors.push(error.message));
  await page.goto(PAGE);
  await page.evaluate(inPage, { relays });
  return { context, page, errors };
}

/** Runs in the page: the client, and sockets whose events are written down. */
async function inPage({ relays }) {
  const client = await import(`${relays[0].replace("wss:", "https:")}/.antipode/client.js`);
  globalThis.AntipodeWebSocket = client.AntipodeWebSocket;
  globalThis.watched = (socket) => {
    socket.seen = [];
    for (const type of ["open", "message", "error", "close", "detached", "resumed", "lost"]) {
      socket.addEventListener(type, (event) => {
        const { data, detail, code, reason, wasClean } = event;
        socket.seen.push({ type, data, detail, code, reason, wasClean, at: performance.now() });
      });
    }
    socket.until = async (type, count = 1) => {
      const found = () => socket.seen.filter((event) => event.type === type);
      while (found().length < count) {
        const types = socket.seen.map((event) => event.type);
        if (socket.readyState === 3) throw new Error(`no ${type}, but ${types}`);
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      return found().at(-1);
    };
    return socket;
  };
  globalThis.openOne = async (path = "/") => {
    const socket = watched(new AntipodeWebSocket(relays[0] + path, [], { candidates: relays }));
    socket.binaryType = "arraybuffer";
    await socket.until("open");
    return socket;
  };
}

/** Runs in the page: all that a socket of a class shows in an ordinary life and in failures. */
async function describe({ relay, name }) {
  const Class = name === "WebSocket" ? WebSocket : AntipodeWebSocket;
  const told = [];
  const attempt = (what, call) => {
    try {
      told.push([what, String(call())]);
    } catch (error) {
      told.push([what, error.name, error.code]);
    }
  };
  const bad = ["ftp://x.example", "wss://x.example/#y", "wss://", "wss://x.example:99999"];
  for (const url of bad) attempt(`new ${url}`, () => new Class(url));
  for (const protocols of ["", "a b", ["a", "a"], "ü"]) {
    attempt(`protocols ${protocols}`, () => new Class(relay, protocols));
  }
  attempt("no arguments", () => new Class());
  attempt("no new", () => Class(relay));
  attempt("a relative address", () => new Class("/chat?x").url);
  const socket = watched(new Class(`${relay}/?described`, ["chat", "other"]));
  const show = (when) => {
    const { url, readyState, bufferedAmount, extensions, protocol, binaryType, CONNECTING } = socket;
    // The browser offers compression, which a session that moves can't have.
    const hasExtensions = name === "WebSocket" ? "" : extensions;
    told.push([when, url, readyState, bufferedAmount, hasExtensions, protocol, binaryType, CONNECTING]);
  };
  show("connecting");
  attempt("send while connecting", () => socket.send("x"));
  await socket.until("open");
  show("open");
  const blob = async (count) => (await socket.until("message", count)).data;
  const sent = ["text é☃", new Uint8Array([1, 2, 3]).buffer, new Uint16Array([4, 5]).subarray(1),
    new DataView(new ArrayBuffer(2)), new Blob(["blob"]), 7, null, undefined, { a: 1 }, "", "\ud800"];
  let count = 0;
  for (const data of sent) {
    const before = socket.bufferedAmount;
    socket.send(data);
    told.push(["buffered", socket.bufferedAmount - before]);
    const answer = await blob((count += 1));
    const text = typeof answer === "string" ? answer : [...new Uint8Array(await answer.arrayBuffer())];
    told.push([Object.prototype.toString.call(answer), text]);
  }
  socket.binaryType = "arraybuffer";
  socket.binaryType = "nonsense";
  socket.send(new Uint8Array(70_000));
  const answer = await blob((count += 1));
  told.push([Object.prototype.toString.call(answer), answer.byteLength, socket.bufferedAmount]);
  attempt("send without anything", () => socket.send());
  for (const [code, reason] of [[999], [1001], [2999], [5000], [0], [null], ["x"],
    [1000, "é".repeat(62)]]) {
    attempt(`close ${code}`, () => socket.close(code, reason));
  }
  const order = [];
  socket.onclose = () => order.push("replaced");
  socket.addEventListener("close", () => order.push("listener"));
  socket.onclose = (event) => {
    order.push("handler", event instanceof CloseEvent, event.target === socket, event.isTrusted !== undefined);
  };
  told.push(["handlers", socket.onopen, typeof socket.onclose]);
  socket.close(4321, "enough");
  show("closing");
  socket.send("after");
  told.push(["after close", socket.bufferedAmount]);
  await socket.until("close");
  show("closed");
  told.push(["order", ...order]);
  const events = socket.seen.map(({ type, code, reason, wasClean }) => [type, code, reason, wasClean]);

  const closedByServer = watched(new Class(`${relay}/close?code=4001&reason=server%20says%20bye`));
  await closedByServer.until("close");
  events.push(closedByServer.seen.map(({ type, code, reason, wasClean }) => [type, code, reason, wasClean]));
  const nobody = watched(new Class("wss://127.0.0.1:9/"));
  nobody.close === Class.prototype.close && told.push(["methods stand on the prototype"]);
  await nobody.until("close");
  events.push(nobody.seen.map(({ type, code, reason, wasClean }) => [type, code, reason, wasClean]));
  const aborted = watched(new Class(relay));
  aborted.close();
  told.push(["aborted", aborted.readyState]);
  await aborted.until("close");
  events.push(aborted.seen.map(({ type, code, wasClean }) => [type, code, wasClean]));
  return JSON.parse(JSON.stringify({ told, events }));
}

const steps = {
  async "it does as the browser's own does"() {
    const { page, errors } = await newPage();
    const own = await page.evaluate(describe, { relay: relays[0], name: "WebSocket" });
    const ours = await page.evaluate(describe, { relay: relays[0], name: "AntipodeWebSocket" });
    assert.deepEqual(ours, own);
    assert.deepEqual(errors, []);
  },
  async "a page that leaves says goodbye"() {
    const { page } = await newPage();
    await page.evaluate(() => openOne("/?leaves"));
    await page.goto(`${PAGE}elsewhere`);
    const ending = await closeOf("/?leaves");
    assert.equal(ending.code, 1001);
  },
  async "a frozen page goes on where it was"() {
    const { context, page } = await newPage();
    const devtools = await context.newCDPSession(page);
    await page.evaluate(async () => {
      globalThis.socket = await openOne("/?frozen");
      socket.send("before");
      await socket.until("message");
    });
    await devtools.send("Page.setWebLifecycleState", { state: "frozen" });
    await new Promise((resolve) => setTimeout(resolve, 3000));
    await devtools.send("Page.setWebLifecycleState", { state: "active" });
    const types = await page.evaluate(async () => {
      socket.send("after");
      await socket.until("message", 2);
      return socket.seen.map(({ type, data }) => data ?? type);
    });
    assert.deepEqual(types, ["open", "before", "after"]);
  },
  async "offline and online again"() {
    const { context, page } = await newPage();
    await page.evaluate(async () => {
      globalThis.socket = await openOne("/?offline");
    });
    await context.setOffline(true);
    await page.evaluate(() => new Promise((resolve) => setTimeout(resolve, 2500)));
    await page.evaluate(() => socket.send("from offline"));
    await context.setOffline(false);
    const seen = await page.evaluate(async () => {
      await socket.until("message");
      return socket.seen.filter(({ type }) => type === "message").map(({ data }) => data);
    });
    assert.deepEqual(seen, ["from offline"]);
  },
  async "its relay is killed, and it goes on at the other"() {
    const { page, errors } = await newPage();
    const first = await page.evaluate(async () => {
      globalThis.socket = await openOne("/?killed");
      let n = 0;
      globalThis.talk = setInterval(() => socket.send(String((n += 1))), 5);
      await socket.until("message", 20);
      return socket.relay;
    });
    assert.ok(first.startsWith(relays[0]));
    console.log("now: kill the first relay");
    const { numbers, types, detail, relay } = await page.evaluate(async () => {
      const { detail } = await socket.until("resumed");
      const count = socket.seen.length;
      await socket.until("message", count + 100);
      clearInterval(talk);
      await new Promise((resolve) => setTimeout(resolve, 500));
      const numbers = socket.seen.filter(({ type }) => type === "message").map(({ data }) => data);
      const types = socket.seen.map(({ type }) => type).filter((type) => type !== "message");
      return { numbers, types, detail, relay: socket.relay };
    });
    assert.deepEqual(numbers, numbers.map((_, at) => String(at + 1)), "each once and in order");
    assert.deepEqual(types, ["open", "detached", "resumed"]);
    assert.ok(relay.startsWith(relays[1]));
    console.log(`resumed after ${Math.round(detail.downtime)} ms, ${detail.replayed} sent again`);
    assert.ok(detail.downtime < 3000, `${detail.downtime} ms`);
    assert.deepEqual(errors, []);
    const ending = await page.evaluate(async () => {
      socket.close(4002, "done");
      return socket.until("close");
    });
    assert.deepEqual([ending.code, ending.wasClean], [4002, true]);
    assert.equal((await closeOf("/?killed")).code, 4002, "the backend saw one socket, and its close");
  },
};

/** How the backend saw the socket of this path end; the first end, if there were several. */
async function closeOf(path) {
  for (let waited = 0; waited < PATIENCE_MS; waited += 50) {
    const closes = await (await fetch(`${backend}/closes`)).json();
    const found = closes.filter(({ url }) => url === path);
    if (found.length > 0) return found[0];
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return assert.fail(`${path} has not ended`);
}

try {
  for (const [name, step] of Object.entries(steps)) {
    const from = performance.now();
    await step();
    console.log(`ok: ${name} (${Math.round(performance.now() - from)} ms)`);
  }
  console.log("all steps are done");
} catch (error) {
  console.error(error.stack ?? error);
  process.exitCode = 1;
} finally {
  await browser.close();
}
