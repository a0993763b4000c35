// The chat: the list of messages, the form, and what each message took.

import { format } from "./figures.js";

const NAMES = ["Wombat", "Otter", "Tapir", "Heron", "Gecko", "Quokka", "Capybara", "Macaw", "Kiwi", "Civet"];
const SHOWN_MAX = 200;
const NAME_KEY = "antipode-name";

export class Chat {
  #log = document.getElementById("log");
  #state = document.getElementById("talk-state");
  #people = document.getElementById("people");
  #name = document.getElementById("name");
  #text = document.getElementById("text");
  #button = document.querySelector("#say button");
  #pending = new Map();
  #seen = 0;
  #cities;
  #line;
  #region;

  constructor(regions) {
    this.#cities = new Map(regions.map((region) => [region.name, region.city]));
    const animal = NAMES[Math.floor(Math.random() * NAMES.length)];
    this.#name.value = remembered() || `${animal} ${10 + Math.floor(Math.random() * 90)}`;
    this.#name.addEventListener("change", () => {
      remember(this.#name.value.trim());
      this.#hello();
    });
    document.getElementById("say").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#say();
    });
    this.#note("Nobody has said anything yet. Open this page twice, choose another place there, and talk to yourself across the world.", "empty");
    this.#allow(false);
  }

  /** Talks over `line` from now on. */
  use(line, region) {
    this.#line = line;
    this.#region = region;
    this.#allow(false);
    this.#tell(`Connecting to the relay in ${this.#cities.get(region)}…`, "waiting");
    line.addEventListener("open", ({ detail }) => {
      this.#tell(`Connected through ${this.#cities.get(region)} in ${format(detail.ms)} ms.`, "up");
      this.#allow(true);
      this.#hello();
    });
    line.addEventListener("message", ({ detail }) => this.#take(detail.message));
    line.addEventListener("lost", ({ detail }) => {
      this.#allow(false);
      this.#doubt("not known to have arrived");
      const seconds = (detail.retryMs / 1_000).toFixed(1);
      this.#tell(`The relay in ${this.#cities.get(region)} ${clause(detail.why)}. Trying again in ${seconds} s.`, "down");
    });
  }

  #hello() {
    this.#line?.send({ op: "hello", name: this.#name.value.trim() || "Somebody", region: this.#region });
  }

  #say() {
    const text = this.#text.value.trim();
    if (!text) return;
    const sentAt = clock();
    if (!this.#line?.send({ op: "say", text, sent_at_us: sentAt })) return;
    const item = this.#show({ name: this.#name.value.trim(), region: this.#region, text }, "mine pending", "on its way…");
    this.#pending.set(sentAt, item);
    this.#text.value = "";
  }

  #take(message) {
    switch (message.op) {
      case "welcome":
        this.#count(message.people);
        // A chat that started anew counts from one again.
        if ((message.recent.at(-1)?.id ?? 0) < this.#seen) this.#seen = 0;
        for (const said of message.recent) this.#said(said, true);
        break;
      case "said":
        this.#said(message, false);
        break;
      case "people":
        this.#count(message.people);
        break;
      case "refused":
        this.#doubt("not taken");
        this.#tell(`Not taken: ${message.why}.`, "down");
        break;
    }
  }

  #said(said, old) {
    if (said.id <= this.#seen) return;
    this.#seen = said.id;
    const took = (clock() - said.sent_at_us) / 1_000;
    const mine = this.#pending.get(said.sent_at_us);
    if (mine) {
      this.#pending.delete(said.sent_at_us);
      mine.classList.remove("pending");
      mine.querySelector(".took").textContent = old
        ? "arrived before the line broke"
        : `there and back in ${format(took)} ms`;
      return;
    }
    // All pages of the demo share this machine's clock, so a one-way time can be told.
    const plausible = !old && said.sent_at_us && took >= 0 && took < 60_000;
    this.#show(said, "", plausible ? `arrived after ${format(took)} ms` : "said earlier");
  }

  #show(said, kind, took) {
    this.#log.querySelector(".empty")?.remove();
    const item = document.createElement("li");
    item.className = kind;
    const who = document.createElement("span");
    who.className = "who";
    const name = document.createElement("b");
    name.textContent = said.name;
    const city = this.#cities.get(said.region);
    who.append(name, city ? ` in ${city}` : "");
    const note = document.createElement("span");
    note.className = "took";
    note.textContent = took;
    item.append(who, said.text, note);
    this.#append(item);
    return item;
  }

  #note(text, kind) {
    const item = document.createElement("li");
    item.className = kind;
    item.textContent = text;
    this.#append(item);
  }

  #append(item) {
    const atEnd = this.#log.scrollHeight - this.#log.scrollTop - this.#log.clientHeight < 60;
    this.#log.append(item);
    while (this.#log.children.length > SHOWN_MAX) this.#log.firstElementChild.remove();
    if (atEnd || item.classList.contains("mine")) this.#log.scrollTop = this.#log.scrollHeight;
  }

  /** Says of every message under way what is known of it. */
  #doubt(word) {
    for (const item of this.#pending.values()) item.querySelector(".took").textContent = word;
  }

  #count(people) {
    this.#people.textContent = people === 1 ? "only you are here" : `${people} are here`;
  }

  #allow(allowed) {
    this.#button.disabled = !allowed;
  }

  #tell(text, state) {
    this.#state.textContent = text;
    this.#state.dataset.state = state;
  }
}

function clause(why) {
  return why.startsWith("“") ? `said ${why}` : why;
}

/**
 * Microseconds since 1970, the same for all pages of one machine. Whole ones: they come back as they
 * were sent, which a fraction may not.
 */
function clock() {
  return Math.round((performance.timeOrigin + performance.now()) * 1_000);
}

function remembered() {
  try {
    return localStorage.getItem(NAME_KEY);
  } catch {
    return null;
  }
}

function remember(name) {
  try {
    localStorage.setItem(NAME_KEY, name);
  } catch {
    // Storage is off: the name lives as long as the page.
  }
}
