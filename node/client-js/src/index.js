// A WebSocket that survives its relay: README.md says how to use it.
//
// | file | idea |
// |---|---|
// | socket.js, events.js, arguments.js | the browser's interface |
// | connection.js | from a URL to an open socket, resumable or plain |
// | conversation.js, outbox.js, message.js | what both sides say, and how it ends |
// | roaming.js, attachment.js, race.js, backoff.js, liveness.js | which real socket carries it |
// | candidates.js, lifecycle.js, environment.js | the gateway, the page, the place it runs in |
// | session.js, sender.js, receiver.js, body.js, queue.js | the machine, from proto/src/session |
// | codec.js, cause.js | the frames, and why things end |

import { AntipodeWebSocket } from "./socket.js";

export { AntipodeWebSocket, AntipodeWebSocket as default };
