// What happens to the page and to its network, as four words: wake, rest, suspend, leave.
//
// | event | means |
// |---|---|
// | online, connection change, visible, resume, pageshow | wake: look at once if the way is there |
// | offline | wake: the sooner the silence is noticed, the sooner the application knows |
// | freeze | rest: the last chance to acknowledge; the socket stays, nobody judges its silence |
// | pagehide, the page is kept | suspend: let go of the socket, or the browser drops the page |
// | pagehide, the page goes | leave: say goodbye, as a browser's own socket does |

/** Calls `wake(reason)`, `rest()`, `suspend()` and `leave()`. Returns what ends that. */
export function watchLifecycle({ events, document, navigator }, { wake, rest, suspend, leave }) {
  const watched = [];
  const watch = (target, type, listener) => {
    if (typeof target?.addEventListener !== "function") return;
    target.addEventListener(type, listener);
    watched.push(() => target.removeEventListener(type, listener));
  };
  for (const type of ["online", "offline"]) watch(events, type, () => wake(type));
  watch(navigator?.connection, "change", () => wake("change"));
  if (document !== undefined) {
    watch(document, "visibilitychange", () => {
      if (document.visibilityState === "visible") wake("visible");
    });
    watch(document, "freeze", rest);
    watch(document, "resume", () => wake("resume"));
    watch(events, "pageshow", () => wake("pageshow"));
    watch(events, "pagehide", (event) => (event.persisted ? suspend() : leave()));
  }
  return () => {
    for (const stop of watched.splice(0)) stop();
  };
}
