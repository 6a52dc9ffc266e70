// An echo server on the `ws` package of Node.js, as its documentation shows one.
//
// Says `listening on 127.0.0.1:PORT`, then serves until it is killed. Messages may have 100 MiB,
// which is the package's own default. Compression it has to be asked for.
"use strict";

const { WebSocketServer } = require("ws");

const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: true }, () => {
  console.log(`listening on 127.0.0.1:${server.address().port}`);
});
server.on("connection", (socket) => {
  // An error closes the connection by itself; without this line it would end the process.
  socket.on("error", () => {});
  socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary }));
});
