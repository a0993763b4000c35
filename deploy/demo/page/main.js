// Wires the page: reads what the demo is, lets the reader choose a place, and keeps two lines open
// from there, through the relay and directly.

import { Chat } from "./chat.js";
import { Figure, format } from "./figures.js";
import { Line, timeToOpen } from "./line.js";
import { WorldMap } from "./map.js";
import { showAddresses } from "./yours.js";

const STATE_EVERY_MS = 2_000;
const OPEN_EVERY_MS = 6_000;

const byId = (id) => document.getElementById(id);
const secure = location.protocol === "https:";
const scheme = secure ? "wss" : "ws";

const connects = new Set();
const trips = new Set();
const figures = {
  relay: { connect: new Figure(byId("relay-connect"), connects), trip: new Figure(byId("relay-trip"), trips) },
  direct: { connect: new Figure(byId("direct-connect"), connects), trip: new Figure(byId("direct-trip"), trips) },
};

let world;
let map;
let chat;
let chosen;
let lines = [];
let opening;

/** The address of a way into the backend, or undefined if there is none. */
function urlOf(region, way, kind) {
  const port = region[way][kind === "wss" ? "tls_port" : "port"];
  return port ? `${kind}://${location.hostname}:${port}${world.backend.path}` : undefined;
}

async function readState() {
  const answer = await fetch("demo.json", { cache: "no-store" });
  if (!answer.ok) throw new Error(`the demo answers with status ${answer.status}`);
  return answer.json();
}

async function start() {
  const state = await readState();
  world = state.world;
  map = new WorldMap(byId("map"), world, choose);
  drawChoices();
  if (world.backend.kind === "chat") chat = new Chat(world.regions);
  else showAddresses(world, urlOf);
  showState(state.live);
  setInterval(refresh, STATE_EVERY_MS);
  choose(await nearest());
}

function drawChoices() {
  for (const region of world.regions) {
    const label = document.createElement("label");
    const radio = document.createElement("input");
    Object.assign(radio, { type: "radio", name: "region", value: region.name });
    radio.addEventListener("change", () => choose(region.name, "You chose this relay yourself."));
    const city = document.createElement("b");
    city.textContent = region.city;
    const far = document.createElement("small");
    far.textContent = `${kilometres(region.great_circle_km)} from Europe`;
    label.append(radio, city, far);
    byId("regions").append(label);
  }
}

/** Asks the gateway which relay is nearest, telling only the time zone. */
async function nearest() {
  const wanted = new URLSearchParams(location.search).get("region");
  if (world.regions.some((region) => region.name === wanted)) {
    byId("steered").textContent = "The address of this page names the place.";
    return wanted;
  }
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  try {
    const gateway = `http://${location.hostname}:${world.steer_port}/v1/steer`;
    const answer = await fetch(`${gateway}?tz=${encodeURIComponent(zone)}`, { cache: "no-store" });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    const steered = await answer.json();
    const first = steered.candidates?.[0];
    const region = world.regions.find((one) => one.name === first?.name);
    if (!region) throw new Error("it has no relay to offer");
    const located = steered.located_by !== "none";
    byId("steered").textContent = located
      ? `Your time zone is ${zone}; the gateway says that ${region.city} is nearest${away(first)}.`
      : `The gateway can't place the time zone ${zone}; it offers ${region.city}.`;
    return region.name;
  } catch (error) {
    const fallback = world.regions[0];
    byId("steered").textContent = `The gateway could not be asked (${error.message}); this is ${fallback.city}.`;
    return fallback.name;
  }
}

function away(candidate) {
  return candidate.distance_km ? `, ${kilometres(candidate.distance_km)} away` : "";
}

function choose(name, word) {
  if (name === chosen?.name) return;
  chosen = world.regions.find((region) => region.name === name);
  if (word) byId("steered").textContent = word;
  document.querySelector(`#regions input[value="${name}"]`).checked = true;
  map.choose(name);
  byId("figures-caption").textContent =
    `From ${chosen.city}: ${kilometres(chosen.great_circle_km)} straight, ` +
    `${kilometres(chosen.fibre_km)} of fibre, ${format(chosen.round_trip_ms)} ms there and back at the least.`;
  byId("why").textContent = why();
  ways();
  for (const line of lines) line.stop();
  lines = [];
  for (const way of Object.values(figures)) for (const figure of Object.values(way)) figure.clear();
  verdict();
  if (chat) {
    openLine("relay");
    openLine("direct");
  }
  clearTimeout(opening);
  opening = setTimeout(measureOpening, chat ? OPEN_EVERY_MS / 2 : 0, chosen);
}

/** Keeps a line open on one way and shows what it tells. */
function openLine(way) {
  const state = byId(`${way}-state`);
  const { connect, trip } = figures[way];
  const region = chosen;
  const line = new Line(urlOf(region, way, scheme));
  state.textContent = "connecting…";
  line.addEventListener("open", ({ detail }) => {
    state.textContent = way === "relay" ? `by ${region.city}` : "to Europe";
    connect.add(detail.ms);
    verdict();
  });
  line.addEventListener("beat", () => {
    if (way === "relay") map.run(region.name, trip.last ?? region.round_trip_ms);
  });
  line.addEventListener("trip", ({ detail }) => {
    trip.add(detail.ms);
    verdict();
  });
  line.addEventListener("lost", ({ detail }) => {
    state.textContent = detail.why;
  });
  if (way === "relay") chat.use(line, region.name);
  lines.push(line);
  line.start();
}

/** Opens fresh sockets now and then, one way after the other so that neither disturbs. */
async function measureOpening(region) {
  for (const way of ["relay", "direct"]) {
    const url = urlOf(region, way, scheme);
    const taken = url && !document.hidden ? await timeToOpen(url).catch(() => undefined) : undefined;
    if (region !== chosen) return;
    if (taken !== undefined) figures[way].connect.add(taken);
    if (!chat) {
      byId(`${way}-state`).textContent = taken === undefined ? "no WebSocket opened" : "opens";
    }
  }
  verdict();
  opening = setTimeout(measureOpening, OPEN_EVERY_MS, region);
}

function verdict() {
  const [relay, direct] = [figures.relay.connect.median, figures.direct.connect.median];
  const target = byId("verdict");
  if (!relay || !direct) {
    target.textContent = "";
    return;
  }
  const saved = direct - relay;
  target.textContent = saved > 5
    ? `Connected ${format(saved)} ms sooner through the relay: ${(direct / relay).toFixed(1)} times as fast.`
    : `The relay saves nothing here: ${format(relay)} ms against ${format(direct)} ms.`;
}

function why() {
  const hellos = secure
    ? "TCP, TLS and WebSocket each say hello once: three trips around the world"
    : "TCP and WebSocket each say hello once: two trips around the world (three with TLS)";
  return (
    `Opening a socket is a conversation. Directly, ${hellos}. Through the relay, all but the last end in ` +
    `${chosen.city}, and one trip is left. Once open, a message has the same ocean to cross either way; ` +
    `light is no faster in our tunnel.` +
    (secure ? " A browser that doesn't trust a made-up certificate may shake hands twice, which counts here." : "")
  );
}

/** Links to this page by other ways, to feel the difference. */
function ways() {
  const target = byId("ways");
  if (world.backend.kind !== "chat") return;
  const query = `/?region=${chosen.name}`;
  const link = (text, href) => Object.assign(document.createElement("a"), { href, textContent: text });
  const host = location.hostname;
  target.replaceChildren(
    `Load this page from ${chosen.city} `,
    link("through the relay", `http://${host}:${chosen.relay.port}${query}`), ", ",
    link("directly", `http://${host}:${chosen.direct.port}${query}`), ", or with TLS ",
    link("through the relay", `https://${host}:${chosen.relay.tls_port}${query}`), " or ",
    link("directly", `https://${host}:${chosen.direct.tls_port}${query}`),
    " (made-up certificates: your browser will warn you).",
  );
}

async function refresh() {
  if (document.hidden) return;
  try {
    const state = await readState();
    // Another run of the demo has other ports.
    if (JSON.stringify(state.world) !== JSON.stringify(world)) location.reload();
    showState(state.live);
    byId("trouble").hidden = true;
  } catch {
    const trouble = byId("trouble");
    trouble.textContent = "The demo doesn't answer any more. Start it again and this page comes back by itself.";
    trouble.hidden = false;
    showState({ regions: {} });
  }
}

const WORDS = { up: "tunnel up", weak: "tunnel shaky", down: "tunnel down", waiting: "no word yet" };

function showState(live) {
  const items = world.regions.map((region) => {
    const now = live.regions[region.name] ?? { state: "waiting" };
    map.show(region.name, now.state);
    const item = document.createElement("li");
    item.dataset.state = now.state;
    const trip = now.tunnel_round_trip_ms ? `, ${format(now.tunnel_round_trip_ms)} ms` : "";
    const sessions = now.sessions ? `, ${now.sessions} open` : "";
    item.textContent = `${region.city}: ${WORDS[now.state]}${trip}${sessions}`;
    if (now.reason) item.title = now.reason;
    return item;
  });
  byId("tunnels").replaceChildren(...items);
}

function kilometres(km) {
  return `${Math.round(km).toLocaleString("en")} km`;
}

addEventListener("online", () => lines.forEach((line) => line.hurry()));
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) lines.forEach((line) => line.hurry());
});

start().catch((error) => {
  const trouble = byId("trouble");
  trouble.textContent = `This page can't learn what the demo runs: ${error.message}. Reload it once the demo is up.`;
  trouble.hidden = false;
});
