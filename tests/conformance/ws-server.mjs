// An echo server of the npm `ws` package, with permessage-deflate and without its fragment limit.
//
//   node ws-server.mjs [--port 0] [--host 127.0.0.1] [--no-deflate]
//
// Prints {"listening": PORT}. `/close?code=C&reason=R` closes at once; every other path echoes.
// GET /closes lists how clients' sockets ended: [{ url, code, reason }].

import { createServer } from "node:http";
import { parseArgs } from "node:util";
import { WebSocketServer } from "ws";

const { values } = parseArgs({
  options: {
    port: { type: "string", default: "0" },
    host: { type: "string", default: "127.0.0.1" },
    "no-deflate": { type: "boolean", default: false },
  },
});

const closes = [];
const server = createServer((request, response) => {
  response.writeHead(request.url === "/closes" ? 200 : 404, { "content-type": "application/json" });
  response.end(JSON.stringify(closes));
});

const sockets = new WebSocketServer({
  server,
  perMessageDeflate: !values["no-deflate"],
  maxPayload: 0,
  maxFragments: 0,
  maxBufferedChunks: 0,
});

sockets.on("connection", (socket, request) => {
  const url = new URL(request.url, "ws://backend");
  socket.on("error", () => {});
  socket.on("close", (code, reason) => {
    closes.push({ url: request.url, code, reason: reason.toString() });
  });
  if (url.pathname === "/close") {
    socket.close(Number(url.searchParams.get("code")), url.searchParams.get("reason") ?? "");
    return;
  }
  socket.on("message", (message, isBinary) => socket.send(message, { binary: isBinary }));
});

server.listen(Number(values.port), values.host, () => {
  console.log(JSON.stringify({ listening: server.address().port }));
});
