// SPDX-License-Identifier: Apache-2.0
// Every scenario with Vercel's `ai` and its provider for compatible servers; see `tests/clients/test_clients.py`.

import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, streamText } from "ai";

const [url, name] = process.argv.slice(2);
const provider = createOpenAICompatible({ name: "local", baseURL: `${url}/v1`, apiKey: "unused", includeUsage: true });
const prompt = "What is the capital of France?";
const sampling = { model: provider.chatModel(name), prompt, temperature: 0, maxOutputTokens: 16, maxRetries: 0 };
// What the SDK has no word for goes into the request as it is, and is read from the raw answer.
const include = { responseBody: true };
const raw = async (local) =>
  (await generateText({ ...sampling, include, providerOptions: { local } })).response.body.choices;
const tell = (scenario, found = {}) => console.log(JSON.stringify({ scenario, ...found }));

const whole = await generateText(sampling);
tell("chat", { text: whole.text, finish: whole.finishReason, tokens: whole.usage.outputTokens });

const streamed = streamText(sampling);
let text = "";
for await (const delta of streamed.textStream) text += delta;
tell("stream", { text, finish: await streamed.finishReason, tokens: (await streamed.usage).outputTokens });

const rows = (await raw({ logprobs: true, top_logprobs: 2 }))[0].logprobs.content;
tell("logprobs", {
  text: rows.map((row) => row.token).join(""),
  values: rows.map((row) => row.logprob),
  widths: rows.map((row) => row.top_logprobs.length),
});

tell("n", { texts: (await raw({ n: 2 })).map((choice) => choice.message.content) });

try {
  await generateText({ ...sampling, temperature: -1 });
} catch (error) {
  tell("error", { status: error.statusCode, message: error.message });
}

const abort = new AbortController();
const long = streamText({
  ...sampling,
  maxOutputTokens: 4000,
  providerOptions: { local: { ignore_eos: true } },
  abortSignal: abort.signal,
  onError: () => {},
});
await long.textStream[Symbol.asyncIterator]().next();
abort.abort();
tell("cancel");
process.stdin.resume(); // the process lives on: its end is not what tells the server
