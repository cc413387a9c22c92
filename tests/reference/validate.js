// Parses an AsyncAPI document with the official parser: node validate.js FOLDER DOCUMENT
"use strict";
const { readFileSync } = require("node:fs");
const { Parser } = require(`${process.argv[2]}/node_modules/@asyncapi/parser`);

new Parser().parse(readFileSync(process.argv[3], "utf8")).then(({ document, diagnostics }) => {
  console.log(JSON.stringify({
    read: document !== undefined,
    complaints: diagnostics.filter(({ severity }) => severity < 2),
    channels: document ? document.channels().all().map((channel) => channel.id()) : [],
    messages: document ? document.allMessages().all().length : 0,
  }));
});
