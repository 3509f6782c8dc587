// SPDX-License-Identifier: Apache-2.0
// Runs the page's script (its path is the argument) in a browser that is not there, clears a conversation while
// its answer is coming, and prints the messages of the question after that.

import { readFileSync } from "node:fs";
import { createContext, runInContext } from "node:vm";

/** Anything that is asked of an element works and gives another element. */
function element() {
  const values = { value: "", scrollHeight: 0, scrollTop: 0, clientHeight: 0, style: {}, options: [] };
  const listeners = {};
  return new Proxy(function () {}, {
    get(_, name) {
      if (name === "fire") return (event) => listeners[event.type]?.(event);
      if (name === "addEventListener") return (type, listener) => (listeners[type] = listener);
      if (name === Symbol.toPrimitive) return () => "";
      return name in values ? values[name] : (values[name] = element());
    },
    set: (_, name, value) => ((values[name] = value), true),
    apply: () => element(),
  });
}

const elements = new Map();
const byId = (id) => elements.get(id) ?? elements.set(id, element()).get(id);
const questions = [];

function fetch(path, options) {
  if (!path.startsWith("/v1/chat")) return new Promise(() => {});
  questions.push(JSON.parse(options.body).messages);
  const event = `data: ${JSON.stringify({ choices: [{ delta: { content: "secret" } }] })}\n\n`;
  const body = new ReadableStream({
    start(controller) {
      controller.enqueue(new TextEncoder().encode(event));
      options.signal.addEventListener("abort", () => controller.error(options.signal.reason));
    },
  });
  return Promise.resolve({ ok: true, status: 200, body });
}

const document = { getElementById: byId, createElement: element, createTextNode: element, querySelector: element, hidden: true };
const window = { document, fetch, performance, AbortController, TextDecoderStream, setTimeout: () => {}, console };
runInContext(readFileSync(process.argv[2], "utf8"), createContext(window));

const settle = () => new Promise((done) => setTimeout(done, 100));

async function ask(text) {
  byId("input").value = text;
  byId("form").fire({ type: "submit", preventDefault() {} });
  await settle();
}

await ask("old topic");
byId("clear").fire({ type: "click" });
await settle();
await ask("new topic");
console.log(JSON.stringify(questions));
process.exit(0);
