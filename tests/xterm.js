// Real terminal emulators that are told what to do by lines of JSON and answer what they are asked.
// Arguments: the folders with @xterm/headless and @xterm/addon-serialize. Bytes travel as base64.
// What the browser's terminal adds to the headless one (answers about colours, sizes and the focus) is added here.
"use strict";
const readline = require("node:readline");
const { Terminal } = require(`${process.argv[2]}/node_modules/@xterm/headless`);
const { SerializeAddon } = require(`${process.argv[3]}/node_modules/@xterm/addon-serialize`);

const REPORTS = ["WinState", "WinPosition", "WinSizePixels", "ScreenSizePixels", "CellSizePixels", "WinSizeChars",
  "ScreenSizeChars", "IconTitle", "WinTitle"];
const CLIPBOARDS = [52, 50, 1337, 5522];
const emulators = new Map();

function open(cols, rows) {
  const windowOptions = Object.fromEntries(REPORTS.map((name) => [`get${name}`, true]));
  const terminal = new Terminal({ cols, rows, allowProposedApi: true, logLevel: "off", windowOptions });
  const emulator = { terminal, serialize: new SerializeAddon(), typed: [], copied: [] };
  const type = (data) => emulator.typed.push(data);
  terminal.loadAddon(emulator.serialize);
  terminal.onData(type);
  const input = terminal._core._inputHandler;
  input.onRequestSendFocus(() => type("\x1b[I"));
  input.onRequestWindowsOptionsReport(() => type("\x1b[4;600;800t"));
  input.onColor((events) => events.filter(({ type: kind }) => kind === 0).forEach(() => type("\x1b]4;0;rgb:0/0/0\x1b\\")));
  for (const number of CLIPBOARDS) {
    terminal.parser.registerOscHandler(number, (data) => emulator.copied.push([number, data]) > 0);
  }
  return emulator;
}

function told({ terminal, serialize, typed, copied }) {
  const { active } = terminal.buffer;
  const { isCursorHidden, decPrivateModes } = terminal._core.coreService;
  const lines = Array.from({ length: terminal.rows }, (_, row) => active.getLine(active.baseY + row));
  return {
    screen: lines.map((line) => line.translateToString(true)),
    scrolled: active.baseY,
    cursor: [active.cursorX, active.cursorY],
    alternate: active.type === "alternate",
    modes: { ...terminal.modes, cursorVisible: !isCursorHidden, cursorStyle: decPrivateModes.cursorStyle ?? null },
    serialized: serialize.serialize(),
    typed: Buffer.from(typed.splice(0).join("")).toString("base64"),
    copied: copied.splice(0),
  };
}

const orders = {
  open: ({ name, cols, rows }) => emulators.set(name, open(cols, rows)),
  write: ({ name, data }) =>
    new Promise((done) => emulators.get(name).terminal.write(Buffer.from(data, "base64"), done)),
  resize: ({ name, cols, rows }) => emulators.get(name).terminal.resize(cols, rows),
  tell: ({ name }) => console.log(JSON.stringify(told(emulators.get(name)))),
  close: ({ name }) => {
    emulators.get(name).terminal.dispose();
    emulators.delete(name);
  },
};

let done = Promise.resolve();
readline
  .createInterface({ input: process.stdin })
  .on("line", (line) => {
    const order = JSON.parse(line);
    done = done.then(() => orders[order.do](order));
  })
  .on("close", () => done.then(() => process.exit(0)));
