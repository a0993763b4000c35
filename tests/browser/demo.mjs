// A browser on the demo's page: two people in two regions talk, figures appear, and the page works
// when it is itself loaded through a relay with TLS.
//
// Needs chromium and `npm ci`. ANTIPODE_DEMO names the binary, CHROMIUM the browser, SCREENSHOTS a
// directory for pictures. With ANTIPODE_REQUIRE_ALL=1 something missing is a failure, not a skip.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";

const ROOT = new URL("../..", import.meta.url).pathname;
const START_PATIENCE_MS = 60_000;
const PATIENCE_MS = 30_000;
const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync"];

const first = (paths) => paths.filter(Boolean).find((path) => existsSync(path));
const binary = first([process.env.ANTIPODE_DEMO, join(ROOT, "target/release/antipode-demo"),
  join(ROOT, "target/debug/antipode-demo")]);
const browserPath = first([process.env.CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser"]);
const playwright = await import("playwright-core").catch(() => undefined);

const missing = [
  [binary, "the demo: cargo build --release -p antipode-demo"],
  [browserPath, "chromium: apt-get install chromium"],
  [playwright, "playwright-core: npm ci in tests/browser"],
].filter(([found]) => !found).map(([, what]) => what);
const skip = missing.length > 0 && process.env.ANTIPODE_REQUIRE_ALL !== "1" && `needs ${missing.join("; ")}`;

let demo;
let pageUrl;
let browser;
const complaints = [];

before(async () => {
  if (skip) return;
  assert.deepEqual(missing, [], "everything is there");
  demo = spawn(binary, ["--port", "0"], { stdio: ["ignore", "pipe", "inherit"] });
  pageUrl = await pageAddress(demo);
  browser = await playwright.chromium.launch({ executablePath: browserPath, args: FLAGS });
});

after(async () => {
  await browser?.close();
  if (!demo || demo.exitCode !== null) return;
  const began = performance.now();
  const ended = new Promise((resolve) => demo.once("exit", resolve));
  demo.kill("SIGINT");
  assert.equal(await ended, 0, "the demo ends well");
  const took = performance.now() - began;
  assert.ok(took < 2_500, `the demo stops within two seconds, not ${took} ms`);
});

/** Waits for the line that names the page. */
function pageAddress(child) {
  return new Promise((resolve, reject) => {
    let text = "";
    const patience = setTimeout(() => reject(new Error(`the demo didn't start:\n${text}`)), START_PATIENCE_MS);
    child.stdout.on("data", (piece) => {
      text += piece;
      const found = text.match(/Open (http:\/\/\S+)/);
      if (!found) return;
      clearTimeout(patience);
      resolve(found[1]);
    });
    child.once("exit", (code) => reject(new Error(`the demo ended with ${code}:\n${text}`)));
  });
}

/** Opens a page as somebody in `timeZone`, and notes whatever it complains about. */
async function visit(url, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  page.on("console", (message) => {
    if (message.type() === "error") complaints.push(`${message.text()} (${message.location().url})`);
  });
  page.on("pageerror", (error) => complaints.push(error.message));
  await page.goto(url);
  return page;
}

async function connected(page, city) {
  const state = page.locator("#talk-state");
  await state.filter({ hasText: `Connected through ${city}` }).waitFor();
}

async function say(page, text) {
  await page.fill("#text", text);
  await page.press("#text", "Enter");
}

async function hears(page, text) {
  // What the page itself has said counts once it has been there and back.
  await page.locator("#log li:not(.pending)", { hasText: text }).waitFor();
}

/** The number in a cell of the figures, once there is one. */
async function figure(page, id) {
  const value = page.locator(`#${id} .value`).filter({ hasText: "ms" });
  return Number.parseFloat((await value.innerText()).replace(",", ""));
}

async function picture(page, name) {
  const directory = process.env.SCREENSHOTS;
  if (directory) await page.screenshot({ path: join(directory, `${name}.png`), fullPage: true });
}

test("two people in two regions talk through their relays", { skip }, async () => {
  const inSingapore = await visit(pageUrl, { timezoneId: "Asia/Singapore" });
  const inBrazil = await visit(pageUrl, { timezoneId: "America/Sao_Paulo" });
  assert.equal(await inSingapore.locator("#regions input:checked").inputValue(), "singapore");
  await connected(inSingapore, "Singapore");
  await connected(inBrazil, "São Paulo");
  await say(inSingapore, "good evening");
  await hears(inBrazil, "good evening");
  await say(inBrazil, "bom dia");
  await hears(inSingapore, "bom dia");
  assert.match(await inSingapore.locator("#log li.mine .took").innerText(), /there and back in \d+ ms/);
  await inSingapore.context().close();
  await inBrazil.context().close();
});

test("relay and direct are measured side by side", { skip }, async () => {
  const page = await visit(pageUrl, { timezoneId: "Australia/Sydney" });
  await connected(page, "Sydney");
  const relay = await figure(page, "relay-connect");
  const direct = await figure(page, "direct-connect");
  const relayTrip = await figure(page, "relay-trip");
  const directTrip = await figure(page, "direct-trip");
  const seen = JSON.stringify({ relay, direct, relayTrip, directTrip });
  console.log(`Sydney in ms: ${seen}`);
  // 258 ms is the least that the distance allows.
  assert.ok(relayTrip >= 257 && directTrip >= 257, seen);
  assert.ok(direct >= 2 * 257 && relay >= 257 && relay < direct, seen);
  await page.locator("#verdict", { hasText: "sooner through the relay" }).waitFor();
  await page.locator('.tunnel.chosen[data-state="up"]').waitFor();
  await say(page, "hello from the other side of the world");
  await hears(page, "hello from the other side");
  await page.waitForTimeout(process.env.SCREENSHOTS ? 8_000 : 0);
  await picture(page, "light");
  await page.context().close();
});

test("the keyboard chooses a place, and the line moves there", { skip }, async () => {
  const page = await visit(`${pageUrl}?region=singapore`, { colorScheme: "dark" });
  await connected(page, "Singapore");
  await page.locator('#regions input[value="singapore"]').focus();
  await page.keyboard.press("ArrowRight");
  await connected(page, "Sydney");
  await say(page, "moved");
  await hears(page, "moved");
  await picture(page, "dark");
  await page.context().close();
});

test("the page itself comes through a relay with TLS and chats over wss", { skip }, async () => {
  const answer = await fetch(new URL("demo.json", pageUrl));
  const { world } = await answer.json();
  const brazil = world.regions.find((region) => region.name === "sao-paulo");
  const url = `https://127.0.0.1:${brazil.relay.tls_port}/?region=sao-paulo`;
  const phone = { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true };
  const page = await visit(url, { ignoreHTTPSErrors: true, ...phone });
  const sockets = [];
  page.on("websocket", (socket) => sockets.push(socket.url()));
  await connected(page, "São Paulo");
  await say(page, "over TLS");
  await hears(page, "over TLS");
  await page.reload();
  await connected(page, "São Paulo");
  assert.ok(sockets.length > 0 && sockets.every((socket) => socket.startsWith("wss://")), sockets.join());
  // TCP, TLS and the upgrade: three crossings without a relay, one with it.
  const direct = await figure(page, "direct-connect");
  const relay = await figure(page, "relay-connect");
  assert.ok(direct >= 3 * 200 && relay < direct / 2, JSON.stringify({ relay, direct }));
  await page.waitForTimeout(process.env.SCREENSHOTS ? 8_000 : 0);
  await picture(page, "phone");
  await page.context().close();
});

test("nothing was complained about", { skip }, () => {
  assert.deepEqual(complaints, []);
});
