// What the page shows when the user's own server is behind the relays: how to reach it, and how
// long opening a WebSocket there takes.

/** Fills the panel with every region's addresses. */
export function showAddresses(world, urlOf) {
  document.getElementById("yours").hidden = false;
  document.getElementById("talk").hidden = true;
  document.body.classList.add("no-chat");
  document.querySelector(".skip").remove();
  const word = document.getElementById("yours-word");
  word.textContent =
    `${world.backend.url} is behind the relays. This page comes from the demo itself, so there is no ` +
    `chat here. Point your client at one of these:`;
  const list = document.getElementById("yours-urls");
  for (const region of world.regions) {
    const name = document.createElement("dt");
    name.textContent = region.city;
    list.append(name, addresses(region, urlOf));
  }
}

function addresses(region, urlOf) {
  const all = document.createElement("dd");
  const ways = [
    ["through the relay", urlOf(region, "relay", "ws")],
    ["through the relay, TLS", urlOf(region, "relay", "wss")],
    ["directly, as far away", urlOf(region, "direct", "ws") ?? urlOf(region, "direct", "wss")],
  ];
  for (const [what, url] of ways.filter(([, url]) => url)) {
    const line = document.createElement("div");
    const code = document.createElement("code");
    code.textContent = url;
    line.append(`${what}: `, code);
    all.append(line);
  }
  return all;
}
