// What the client needs of the place it runs in: time, chance, sockets, and the page if there is
// one. Everything else takes it from here, so that tests can be the place.

/** The browser, or Node.js with a WebSocket implementation such as npm's `ws`. */
export function environmentOf(scope, WebSocket) {
  return {
    WebSocket: WebSocket ?? scope.WebSocket,
    fetch: scope.fetch?.bind(scope),
    now: () => scope.performance.now(),
    random: Math.random,
    setTimeout: (call, ms) => scope.setTimeout(call, ms),
    clearTimeout: (timer) => scope.clearTimeout(timer),
    baseUrl: scope.location?.href,
    timeZone: timeZone(),
    // Only a page has a life to watch. A worker's network comes and goes, too.
    document: scope.document,
    events: typeof scope.addEventListener === "function" ? scope : undefined,
    navigator: scope.navigator,
    // Other places than pages have one that isn't the user's.
    storage: scope.document && storageOf(scope),
  };
}

function timeZone() {
  try {
    return Intl.DateTimeFormat().resolvedOptions().timeZone;
  } catch {
    return undefined;
  }
}

/** Reading the property throws where the user forbids storage. */
function storageOf(scope) {
  try {
    return scope.localStorage;
  } catch {
    return undefined;
  }
}
