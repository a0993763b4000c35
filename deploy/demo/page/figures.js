// The figures of one way: the last value large, a bar to compare it by, and a line of what it was.

const KEPT = 60;
/** A line of fewer values doesn't fill its width yet. */
const FILLED = 12;

/** One cell of the table. Cells that share a `scale` have comparable bars and lines. */
export class Figure {
  #values = [];
  #scale;
  #number = document.createElement("div");
  #bar = document.createElement("i");
  #spark;

  constructor(cell, scale) {
    this.#scale = scale;
    scale.add(this);
    this.#number.className = "value";
    const track = document.createElement("div");
    track.className = "bar";
    track.append(this.#bar);
    this.#spark = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    this.#spark.setAttribute("class", "spark");
    this.#spark.setAttribute("preserveAspectRatio", "none");
    this.#spark.setAttribute("aria-hidden", "true");
    cell.replaceChildren(this.#number, track, this.#spark);
    this.draw();
  }

  get last() {
    return this.#values.at(-1);
  }

  get max() {
    return Math.max(0, ...this.#values);
  }

  /** The middle value: what one slow moment doesn't move. */
  get median() {
    const sorted = [...this.#values].sort((one, other) => one - other);
    return sorted[Math.floor(sorted.length / 2)];
  }

  add(ms) {
    this.#values.push(ms);
    if (this.#values.length > KEPT) this.#values.shift();
    for (const figure of this.#scale) figure.draw();
  }

  clear() {
    this.#values = [];
    for (const figure of this.#scale) figure.draw();
  }

  draw() {
    const top = Math.max(1, ...[...this.#scale].map((figure) => figure.max));
    const last = this.last;
    const unit = document.createElement("small");
    unit.textContent = " ms";
    if (last === undefined) this.#number.replaceChildren("–");
    else this.#number.replaceChildren(format(last), unit);
    this.#bar.style.transform = `scaleX(${(last ?? 0) / top})`;
    this.#drawSpark(top * 1.1);
  }

  #drawSpark(top) {
    const points = this.#values.map((ms, index) => `${index} ${(24 - (ms / top) * 24).toFixed(1)}`);
    this.#spark.setAttribute("viewBox", `0 0 ${Math.max(FILLED, points.length) - 1} 24`);
    if (points.length < 2) {
      this.#spark.replaceChildren();
      return;
    }
    const path = (name, d) => {
      const made = document.createElementNS("http://www.w3.org/2000/svg", "path");
      made.setAttribute("class", name);
      made.setAttribute("d", d);
      return made;
    };
    this.#spark.replaceChildren(
      path("under", `M0 24L${points.join("L")}L${points.length - 1} 24Z`),
      path("over", `M${points.join("L")}`),
    );
  }
}

/** Milliseconds for people: two digits that matter below ten, whole ones above. */
export function format(ms) {
  return ms < 10 ? ms.toFixed(1) : Math.round(ms).toLocaleString("en");
}
