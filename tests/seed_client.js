// The seed's useWebSocket and useSessionWebSocket as plain functions: effects run when what they
// depend on changes, and clean up after themselves. Arguments: node_modules' folder, URL, token.
// A line on stdin is the session to follow; an empty one is an unmount.
"use strict";
const readline = require("node:readline");
const [, , folder, url, token] = process.argv;
const { io } = require(`${folder}/node_modules/socket.io-client`);

const tell = (what) => console.log(JSON.stringify(what));

function useWebSocket(changed) {
  const socket = io(url, { auth: { token }, reconnectionDelay: 100, reconnectionDelayMax: 500 });
  socket.on("connect", () => {
    tell({ connected: true });
    changed(true);
  });
  socket.on("disconnect", () => {
    tell({ connected: false });
    changed(false);
  });
  return socket;
}

function useSessionWebSocket(socket, isConnected, sessionId) {
  if (!isConnected || !sessionId) return () => {};
  socket.emit("subscribe", `session:${sessionId}`);
  // The seed asks for no acknowledgement; what is said after it tells the test that it was heard.
  socket.emit("command", { type: "ping" }, () => tell({ subscribed: sessionId }));

  const handleStreamOutput = (message) => {
    if (message.type === "session.stream_output") tell({ output: message.data });
  };
  const handleEnd = (message) => {
    if (message.type === "session.completed") tell({ status: "completed", data: message.data });
    if (message.type === "session.error") tell({ status: "error", data: message.data });
  };
  socket.on("message", (message) => {
    handleStreamOutput(message);
    handleEnd(message);
  });

  return () => {
    socket.emit("unsubscribe", `session:${sessionId}`);
    socket.off("message");
  };
}

let isConnected = false;
let sessionId = "";
let cleanup = () => {};
function render() {
  cleanup();
  cleanup = useSessionWebSocket(socket, isConnected, sessionId);
}
const socket = useWebSocket((connected) => {
  isConnected = connected;
  render();
});
readline
  .createInterface({ input: process.stdin })
  .on("line", (line) => {
    sessionId = line;
    render();
  })
  .on("close", () => {
    socket.disconnect();
    process.exit(0);
  });
