// A socket.io server with defaults: long polling first, then the upgrade.
//
//   node socketio-server.mjs [--port 0] [--host 127.0.0.1]
//
// Prints {"listening": PORT}.

import { createServer } from "node:http";
import { parseArgs } from "node:util";
import { Server } from "socket.io";

const { values } = parseArgs({
  options: {
    port: { type: "string", default: "0" },
    host: { type: "string", default: "127.0.0.1" },
  },
});

const server = createServer();
const io = new Server(server, { maxHttpBufferSize: 1 << 24 });

io.on("connection", (socket) => {
  socket.on("echo", (value, done) => done(value));
  socket.on("join", (room, done) => {
    socket.join(room);
    done();
  });
  socket.on("say", (room, text) => io.to(room).emit("said", text));
  socket.on("transport", (done) => done(socket.conn.transport.name));
  socket.on("headers", (done) => done(socket.handshake.headers));
  socket.on("leave", () => socket.disconnect(true));
});

server.listen(Number(values.port), values.host, () => {
  console.log(JSON.stringify({ listening: server.address().port }));
});
