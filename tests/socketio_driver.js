// A Socket.IO client that is told what to do by lines of JSON, and tells what happens the same way.
// Arguments: the folder with node_modules. Orders: open, emit, close; {"$bytes": BASE64} is a Buffer.
"use strict";
const readline = require("node:readline");
const { io } = require(`${process.argv[2]}/node_modules/socket.io-client`);

const sockets = new Map();
const tell = (name, on, more) => console.log(JSON.stringify({ name, on, ...more }));
const revive = (_, value) => (value && value.$bytes !== undefined ? Buffer.from(value.$bytes, "base64") : value);

const orders = {
  open({ name, url, options }) {
    const socket = io(url, { forceNew: true, ...options });
    sockets.set(name, socket);
    socket.io.on("open", () => {
      const { engine } = socket.io;
      tell(name, "open", { transport: engine.transport.name });
      engine.once("upgrade", (to) => tell(name, "upgrade", { transport: to.name }));
    });
    socket.on("connect", () => tell(name, "connect", { id: socket.id }));
    socket.on("connect_error", (error) => tell(name, "connect_error", { message: error.message, data: error.data }));
    socket.on("disconnect", (reason, details) =>
      tell(name, "disconnect", { reason, active: socket.active, code: details?.context?.code }));
    socket.on("message", (message) => tell(name, "message", { message }));
    socket.io.on("ping", () => tell(name, "ping"));
  },
  emit({ name, event, args, ack }) {
    const done = ack === undefined ? [] : [(...answer) => tell(name, "ack", { ack, answer })];
    sockets.get(name).emit(event, ...args, ...done);
  },
  drop({ name }) {
    sockets.get(name).io.engine.close();
  },
  raw({ name, text }) {
    sockets.get(name).io.engine.write(text);
  },
  close({ name }) {
    sockets.get(name).disconnect();
    sockets.delete(name);
  },
};

readline
  .createInterface({ input: process.stdin })
  .on("line", (line) => {
    const order = JSON.parse(line, revive);
    orders[order.do](order);
  })
  .on("close", () => process.exit(0));
