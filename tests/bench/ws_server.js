// npm's `ws`, for scripts/bench compress: node --expose-gc ws_server.js PORT. Sends each message back. The path
// says how messages are compressed; SIGUSR2 collects garbage.
"use strict";
const http = require("http");
const { WebSocketServer } = require("ws");

const none = { serverNoContextTakeover: true, clientNoContextTakeover: true, threshold: 128 };
const options = {
  "/plain": false,
  "/takeover": { threshold: 128 },
  "/none": none,
  "/none-fast": { ...none, zlibDeflateOptions: { level: 1, memLevel: 6 } },
};

const servers = {};
for (const [path, perMessageDeflate] of Object.entries(options)) {
  servers[path] = new WebSocketServer({ noServer: true, perMessageDeflate });
  servers[path].on("connection", (socket) => {
    socket.on("message", (data, binary) => socket.send(data, { binary }));
  });
}

const server = http.createServer((request, response) => response.end());
server.on("upgrade", (request, socket, head) => {
  const of = servers[request.url];
  of.handleUpgrade(request, socket, head, (made) => of.emit("connection", made, request));
});
server.listen(Number(process.argv[2]), "127.0.0.1");
process.on("SIGUSR2", () => global.gc());
