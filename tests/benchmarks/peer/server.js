// Socket.IO on Node: spawns the same child and emits each of its lines to a room.
// Prints its port; a line on stdin starts the child; prints "done" at the child's end.
"use strict";
const { spawn } = require("node:child_process");
const { createServer } = require("node:http");
const { Server } = require("socket.io");

const http = createServer();
const io = new Server(http, { transports: ["websocket"], serveClient: false, perMessageDeflate: false });
io.on("connection", (socket) => {
  socket.on("subscribe", (channel, ack) => {
    socket.join(channel);
    if (ack) ack();
  });
});

process.stdin.once("data", () => {
  const [command, ...args] = process.argv.slice(2);
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "inherit"] });
  let rest = "";
  child.stdout.setEncoding("utf8");
  child.stdout.on("data", (text) => {
    const lines = (rest + text).split("\n");
    rest = lines.pop();
    for (const line of lines)
      io.to("session:1").emit("message", {
        type: "session.stream_output",
        data: { sessionId: "1", content: line + "\n", type: "stdout" },
      });
  });
  child.on("close", () => console.log("done"));
});

http.listen(0, "127.0.0.1", () => console.log(http.address().port));
