// SPDX-License-Identifier: Apache-2.0
// Every scenario with the official `openai` package of npm; see `tests/clients/test_clients.py`.

import OpenAI from "openai";

const [url, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "unused", maxRetries: 0, timeout: 300_000 });
const messages = [{ role: "user", content: "What is the capital of France?" }];
const sampling = { model, messages, temperature: 0, max_tokens: 16 };
const tell = (scenario, found = {}) => console.log(JSON.stringify({ scenario, ...found }));

const whole = await client.chat.completions.create(sampling);
tell("chat", {
  text: whole.choices[0].message.content,
  finish: whole.choices[0].finish_reason,
  tokens: whole.usage.completion_tokens,
});

let [text, finish, tokens] = ["", null, null];
for await (const chunk of await client.chat.completions.create({
  ...sampling,
  stream: true,
  stream_options: { include_usage: true },
})) {
  for (const choice of chunk.choices) {
    text += choice.delta.content ?? "";
    finish = choice.finish_reason ?? finish;
  }
  tokens = chunk.usage?.completion_tokens ?? tokens;
}
tell("stream", { text, finish, tokens });

const rows = (await client.chat.completions.create({ ...sampling, logprobs: true, top_logprobs: 2 })).choices[0].logprobs
  .content;
tell("logprobs", {
  text: rows.map((row) => row.token).join(""),
  values: rows.map((row) => row.logprob),
  widths: rows.map((row) => row.top_logprobs.length),
});

const several = await client.chat.completions.create({ ...sampling, n: 2 });
tell("n", { texts: several.choices.map((choice) => choice.message.content) });

try {
  await client.chat.completions.create({ ...sampling, temperature: -1 });
} catch (error) {
  tell("error", { status: error.status, message: error.error.message });
}

const stream = await client.chat.completions.create({ ...sampling, max_tokens: 4000, ignore_eos: true, stream: true });
await stream[Symbol.asyncIterator]().next();
stream.controller.abort();
tell("cancel");
process.stdin.resume(); // the process lives on: its end is not what tells the server
