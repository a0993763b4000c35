// Two people open the demo's page in Chromium, one in Singapore and one in São Paulo, and chat.
//
//   node browser.mjs URL [SCREENSHOT]
//
// URL is the demo's page. Prints one line a step and exits 0, or says what was missing and exits 1.

import assert from "node:assert/strict";
import { chromium } from "playwright-core";

const [url, screenshot] = process.argv.slice(2);
const PATIENCE_MS = 30_000;

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  // As root, in CI, Chromium's own sandbox can't start.
  args: process.getuid?.() === 0 ? ["--no-sandbox"] : [],
});

async function person(name, timezoneId) {
  const context = await browser.newContext({ timezoneId, viewport: { width: 1280, height: 1000 } });
  context.setDefaultTimeout(PATIENCE_MS);
  const page = await context.newPage();
  const errors = [];
  page.on("pageerror", (error) => errors.push(error.message));
  page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
  await page.goto(url);
  await page.fill("#name", name);
  return { name, page, errors };
}

/** Waits until `selector` shows something that matches. */
async function shows(page, selector, pattern) {
  await page.waitForFunction(
    ([selector, source]) => new RegExp(source).test(document.querySelector(selector)?.textContent ?? ""),
    [selector, pattern.source],
  );
}

async function say(from, text) {
  await from.page.fill("#text", text);
  await from.page.press("#text", "Enter");
}

try {
  const ann = await person("Ann", "Asia/Singapore");
  const bea = await person("Bea", "America/Sao_Paulo");
  await shows(ann.page, "#talk-state", /Connected through Singapore/);
  await shows(bea.page, "#talk-state", /Connected through S.o Paulo/);
  console.log("ok: each is steered to the nearest relay");

  await say(ann, "hello from the east");
  await shows(bea.page, "#log", /Ann[^]*hello from the east/);
  await say(bea, "hello from the west ☃");
  await shows(ann.page, "#log", /Bea[^]*hello from the west ☃/);
  console.log("ok: what one says the other reads");

  for (const id of ["relay-connect", "relay-trip", "direct-connect", "direct-trip"]) {
    await shows(ann.page, `#${id}`, /\d/);
  }
  console.log("ok: connect time and round trip, relay and direct, are shown");

  await ann.page.check("#regions input[value=sydney], #regions input >> nth=1");
  await shows(ann.page, "#talk-state", /Connected through Sydney/);
  await say(ann, "moved to Sydney");
  await shows(bea.page, "#log", /moved to Sydney/);
  console.log("ok: moving to another relay goes on");

  if (screenshot) await ann.page.screenshot({ path: screenshot, fullPage: true });
  for (const { name, errors } of [ann, bea]) assert.deepEqual(errors, [], `${name}'s page reported`);
} catch (error) {
  console.error(error.stack ?? error);
  process.exitCode = 1;
} finally {
  await browser.close();
}
