// The map: dots for land, a curve for each tunnel, and a light that runs along it as fast as the
// bytes do.

import { landDots } from "./land.js";

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 720;
const TOP_LATITUDE = 74;
const BOTTOM_LATITUDE = -50;
const HEIGHT = ((TOP_LATITUDE - BOTTOM_LATITUDE) / 360) * WIDTH;

/** Degrees to pixels: equirectangular, so that a straight line in degrees stays one. */
function project({ longitude, latitude }) {
  return [((longitude + 180) / 360) * WIDTH, ((TOP_LATITUDE - latitude) / 360) * WIDTH];
}

function element(name, attributes, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** A smooth curve through points (Catmull-Rom, as cubic Béziers). */
function curve(points) {
  const at = (index) => points[Math.max(0, Math.min(points.length - 1, index))];
  let path = `M${at(0).join(" ")}`;
  for (let index = 0; index < points.length - 1; index += 1) {
    const [before, from, to, after] = [at(index - 1), at(index), at(index + 1), at(index + 2)];
    const lead = from.map((value, axis) => value + (to[axis] - before[axis]) / 6);
    const trail = to.map((value, axis) => value - (after[axis] - from[axis]) / 6);
    path += `C${[...lead, ...trail, ...to].map((value) => value.toFixed(1)).join(" ")}`;
  }
  return path;
}

/** Where a city's name goes, so that it crosses no line. */
const LABELS = {
  singapore: { dx: 9, dy: 14, anchor: "start" },
  sydney: { dx: 6, dy: -13, anchor: "middle" },
  "sao-paulo": { dx: 10, dy: 5, anchor: "start" },
};

export class WorldMap {
  #tunnels = new Map();
  #still = matchMedia("(prefers-reduced-motion: reduce)");

  constructor(host, world, choose) {
    const dots = landDots()
      .filter(([, latitude]) => latitude < TOP_LATITUDE && latitude > BOTTOM_LATITUDE)
      .map(([longitude, latitude]) => project({ longitude, latitude }))
      .map(([x, y]) => `M${x.toFixed(1)} ${y.toFixed(1)}h0`);
    const svg = element("svg", {
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
      role: "img",
      "aria-label": "Map: the tunnels from the three regions to the core in Europe",
    });
    svg.append(element("path", { class: "land", d: dots.join("") }));
    const lines = element("g", {});
    const cities = element("g", {});
    svg.append(lines, cities);
    for (const region of world.regions) this.#addRegion(region, world.europe, lines, cities, choose);
    const [x, y] = project(world.europe);
    cities.append(
      element("g", { class: "europe", transform: `translate(${x} ${y})` },
        element("rect", { x: -5, y: -5, width: 10, height: 10, rx: 3 }),
        element("text", { x: -10, y: -9, "text-anchor": "middle" }, "Europe")),
    );
    host.replaceChildren(svg);
  }

  #addRegion(region, europe, lines, cities, choose) {
    const points = [region, ...region.by_way_of, europe].map(project);
    const line = element("path", { class: "tunnel", d: curve(points), "data-state": "waiting" });
    const light = element("circle", { class: "light", r: 4, visibility: "hidden" });
    lines.append(line, light);
    const [x, y] = points[0];
    const label = LABELS[region.name] ?? { dx: 9, dy: 4, anchor: "start" };
    const city = element("g", { class: "city", transform: `translate(${x} ${y})` },
      element("circle", { class: "halo", r: 11 }),
      element("circle", { class: "spot", r: 5 }),
      element("text", { x: label.dx, y: label.dy, "text-anchor": label.anchor }, region.city));
    // The radio buttons are what keyboards and screen readers use; this is a shortcut.
    city.addEventListener("click", () => choose(region.name));
    cities.append(city);
    this.#tunnels.set(region.name, { line, light, city, running: 0 });
  }

  /** Colours a tunnel: "up", "weak", "down" or "waiting". */
  show(name, state) {
    const tunnel = this.#tunnels.get(name);
    if (!tunnel) return;
    tunnel.line.dataset.state = state;
    tunnel.city.dataset.state = state;
  }

  choose(name) {
    for (const [other, tunnel] of this.#tunnels) {
      tunnel.line.classList.toggle("chosen", other === name);
      tunnel.city.classList.toggle("chosen", other === name);
    }
  }

  /** Runs a light to Europe and back, in as long as a round trip takes. */
  run(name, roundTripMs) {
    const tunnel = this.#tunnels.get(name);
    if (!tunnel || this.#still.matches || document.hidden) return;
    cancelAnimationFrame(tunnel.running);
    const length = tunnel.line.getTotalLength();
    const began = performance.now();
    tunnel.light.setAttribute("visibility", "visible");
    const step = (now) => {
      const done = (now - began) / roundTripMs;
      if (done >= 1) {
        tunnel.light.setAttribute("visibility", "hidden");
        return;
      }
      const way = done < 0.5 ? done * 2 : 2 - done * 2;
      const { x, y } = tunnel.line.getPointAtLength(Math.max(0, way) * length);
      tunnel.light.setAttribute("cx", x);
      tunnel.light.setAttribute("cy", y);
      tunnel.running = requestAnimationFrame(step);
    };
    tunnel.running = requestAnimationFrame(step);
  }
}
