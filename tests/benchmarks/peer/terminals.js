// node-pty behind ws, as most people write it: a terminal for each WebSocket, and nothing that waits.
// Runs its arguments in each terminal; prints its port; ends with its stdin.
"use strict";
const pty = require("node-pty");
const { WebSocketServer } = require("ws");

const [command, ...args] = process.argv.slice(2);
const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: false });
server.on("listening", () => console.log(server.address().port));
server.on("connection", (socket) => {
  const size = { cols: 80, rows: 24 };
  const terminal = pty.spawn(command, args, { name: "xterm-256color", ...size, encoding: null });
  terminal.onData((data) => socket.send(data)); // a Buffer, because of `encoding: null`
  terminal.onExit(() => socket.close());
  socket.on("message", (data) => terminal.write(data.toString()));
  socket.on("close", () => terminal.kill());
});

process.stdin.on("end", () => process.exit());
process.stdin.resume();
