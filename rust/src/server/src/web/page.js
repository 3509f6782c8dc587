// SPDX-License-Identifier: Apache-2.0
"use strict";

const PERIOD_MS = 2000;
const KEPT = 90; // samples of the curves: three minutes
const MINUTE = 30; // samples of the latency table
const $ = (id) => document.getElementById(id);

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

// ---- talking to the server

function headers() {
  const key = $("key").value;
  return key ? { Authorization: `Bearer ${key}` } : {};
}

async function get(path) {
  const reply = await fetch(path, { headers: headers() });
  if (reply.status === 401) $("key-row").hidden = false;
  if (!reply.ok) throw new Error(await reason(reply));
  return reply;
}

async function reason(reply) {
  try {
    return (await reply.json()).error.message;
  } catch {
    return `HTTP ${reply.status}`;
  }
}

async function* events(reply) {
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      if (part.startsWith("data: ") && part !== "data: [DONE]") yield JSON.parse(part.slice(6));
    }
  }
}

// ---- the conversation

// Cleared by a new list: an answer that still comes belongs to the list that it was asked with.
let conversation = [];
let running = null;

function options() {
  const found = { model: $("model").value || undefined };
  for (const name of ["temperature", "top_p", "max_tokens", "seed"]) {
    if ($(name).value !== "") found[name] = Number($(name).value);
  }
  return found;
}

function prompt(messages) {
  const system = $("system").value.trim();
  return system ? [{ role: "system", content: system }, ...messages] : messages;
}

/** Text with its fenced code set apart; never markup of the model's. */
function show(element, text) {
  const parts = text.split(/^```[^\n]*\n?/m);
  element.replaceChildren(...parts.map((part, at) => (at % 2 ? make("pre", "", part) : document.createTextNode(part))));
}

function add(role, text) {
  document.querySelector(".hint")?.remove();
  const item = make("li", role);
  item.append(make("div", "text"), make("div", "facts"));
  show(item.firstChild, text);
  $("messages").append(item);
  item.scrollIntoView({ block: "end" });
  return item;
}

async function ask(text) {
  const messages = conversation;
  messages.push({ role: "user", content: text });
  add("user", text);
  const item = add("assistant", "");
  item.classList.add("waits");
  const answer = { text: "", began: performance.now(), first: 0, usage: null, finish: null };
  running = new AbortController();
  setRunning(true);
  try {
    await stream(messages, answer, item);
    item.lastChild.textContent = facts(answer);
  } catch (error) {
    const stopped = error.name === "AbortError";
    item.classList.toggle("failed", !stopped);
    item.lastChild.textContent = stopped ? "stopped" : error.message;
  }
  item.classList.remove("waits");
  // A question without any answer is asked again, not kept.
  if (answer.text) messages.push({ role: "assistant", content: answer.text });
  else messages.pop();
  setRunning(false);
}

async function stream(messages, answer, item) {
  const reply = await fetch("/v1/chat/completions", {
    method: "POST",
    headers: { ...headers(), "Content-Type": "application/json" },
    body: JSON.stringify({ ...options(), messages: prompt(messages), stream: true, stream_options: { include_usage: true } }),
    signal: running.signal,
  });
  if (!reply.ok) throw new Error(await reason(reply));
  for await (const event of events(reply)) {
    if (event.error) throw new Error(event.error.message);
    if (event.usage) answer.usage = event.usage;
    const choice = event.choices?.[0];
    if (choice?.finish_reason) answer.finish = choice.finish_reason;
    if (!choice?.delta?.content) continue;
    answer.first ||= performance.now();
    answer.text += choice.delta.content;
    const list = $("messages");
    const follows = list.scrollHeight - list.scrollTop - list.clientHeight < 80;
    show(item.firstChild, answer.text);
    if (follows) list.scrollTop = list.scrollHeight;
  }
}

function facts(answer) {
  const tokens = answer.usage?.completion_tokens ?? 0;
  const first = (answer.first || performance.now()) - answer.began;
  const rest = performance.now() - (answer.first || answer.began);
  const speed = tokens > 1 && rest > 0 ? `, ${((1000 * (tokens - 1)) / rest).toFixed(1)} tokens/s` : "";
  const cut = answer.finish === "length" ? ", cut at its limit" : "";
  return `${answer.usage?.prompt_tokens ?? "?"} + ${tokens} tokens, first after ${seconds(first / 1000)}${speed}${cut}`;
}

function setRunning(on) {
  $("send").textContent = on ? "Stop" : "Send";
  $("send").classList.toggle("stop", on);
  if (!on) running = null;
}

function fit() {
  const input = $("input");
  input.style.height = "auto";
  input.style.height = `${input.scrollHeight + 2}px`;
}

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (running) return running.abort();
  const text = $("input").value.trim();
  if (!text) return;
  $("input").value = "";
  fit();
  ask(text);
});
$("input").addEventListener("input", fit);
$("input").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  if (!running) $("form").requestSubmit();
});
$("clear").addEventListener("click", () => {
  running?.abort();
  conversation = [];
  $("messages").replaceChildren();
});
$("model").addEventListener("change", () => ($("model-name").textContent = $("model").value));

// ---- the dashboard

/** Prometheus text: family -> list of [labels, value]. */
function parseMetrics(text) {
  const families = new Map();
  for (const line of text.split("\n")) {
    const found = /^([\w:]+)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (!found) continue;
    const [, name, inner, value] = found;
    const labels = Object.fromEntries([...(inner ?? "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)].map((m) => [m[1], m[2]]));
    if (!families.has(name)) families.set(name, []);
    families.get(name).push([labels, Number(value.replace("+Inf", "Infinity"))]);
  }
  return families;
}

function sum(families, name) {
  return (families.get(name) ?? []).reduce((total, [, value]) => total + value, 0);
}

/** Bound -> count, over all engines. */
function buckets(families, name) {
  const found = new Map();
  for (const [labels, value] of families.get(`${name}_bucket`) ?? []) {
    const bound = Number(labels.le.replace("+Inf", "Infinity"));
    found.set(bound, (found.get(bound) ?? 0) + value);
  }
  return found;
}

/** Where a quantile lies between two samples of a histogram, linear within its bucket. */
function quantile(now, before, q) {
  const counts = [...now].map(([bound, count]) => [bound, count - (before.get(bound) ?? 0)]).sort((a, b) => a[0] - b[0]);
  const total = counts.at(-1)?.[1] ?? 0;
  if (!total) return null;
  let [low, below] = [0, 0];
  for (const [bound, count] of counts) {
    if (count >= q * total) {
      return bound === Infinity ? low : low + ((bound - low) * (q * total - below)) / Math.max(count - below, 1e-9);
    }
    [low, below] = [bound, count];
  }
  return low;
}

function seconds(value) {
  if (value === null) return "\u2013";
  if (value < 0.001) return `${(value * 1e6).toFixed(0)} \u00b5s`;
  return value < 1 ? `${(value * 1e3).toFixed(value < 0.1 ? 1 : 0)} ms` : `${value.toFixed(2)} s`;
}

function short(value) {
  if (value >= 1e6) return `${(value / 1e6).toFixed(1)}M`;
  if (value >= 1e4) return `${(value / 1e3).toFixed(1)}k`;
  return value >= 100 || Number.isInteger(value) ? value.toFixed(0) : value.toFixed(1);
}

const LATENCIES = [
  ["first token", "vllm:time_to_first_token_seconds"],
  ["between tokens", "vllm:inter_token_latency_seconds"],
  ["whole answer", "vllm:e2e_request_latency_seconds"],
  ["queue", "vllm:request_queue_time_seconds"],
  ["render", "vllm:frontend_render_seconds"],
  ["tokenize", "vllm:frontend_tokenize_seconds"],
  ["write", "vllm:frontend_write_seconds"],
];
const samples = [];

function sample(text) {
  const families = parseMetrics(text);
  samples.push({
    time: performance.now() / 1000,
    generated: sum(families, "vllm:generation_tokens_total"),
    prompt: sum(families, "vllm:prompt_tokens_total"),
    latencies: LATENCIES.map(([, name]) => buckets(families, name)),
  });
  if (samples.length > KEPT + 1) samples.shift();
  return families;
}

function rates(name) {
  const steps = samples.slice(1).map((now, at) => [now, samples[at]]);
  return steps.map(([now, before]) => Math.max(0, now[name] - before[name]) / (now.time - before.time));
}

function drawTiles(families) {
  const queries = sum(families, "vllm:prefix_cache_queries_total");
  const hits = sum(families, "vllm:prefix_cache_hits_total");
  const tiles = [
    ["running", short(sum(families, "vllm:num_requests_running"))],
    ["waiting", short(sum(families, "vllm:num_requests_waiting"))],
    ["tokens generated", short(sum(families, "vllm:generation_tokens_total"))],
    ["prompt tokens", short(sum(families, "vllm:prompt_tokens_total"))],
    ["prefix cache hits", queries ? `${((100 * hits) / queries).toFixed(0)} %` : "\u2013"],
    ["refused, queue full", short(sum(families, "vllm:frontend_rejections_total"))],
  ];
  $("tiles").replaceChildren(...tiles.map(([name, value]) => {
    const tile = make("div", "tile");
    tile.append(make("b", "", value), make("span", "", name));
    return tile;
  }));
}

function svg(tag, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  Object.entries(attributes).forEach(([name, value]) => element.setAttribute(name, value));
  return element;
}

function path(values, most) {
  const from = KEPT - values.length;
  return values.map((value, at) => `${at ? "L" : "M"}${from + at + 1} ${(80 - (76 * value) / most).toFixed(2)}`).join("");
}

function drawRate() {
  const [generated, prompt] = [rates("generated"), rates("prompt")];
  const most = Math.max(1, ...generated, ...prompt);
  const image = svg("svg", { viewBox: `0 0 ${KEPT} 84`, preserveAspectRatio: "none", role: "img" });
  if (generated.length) {
    const line = path(generated, most);
    image.append(svg("path", { class: "area", d: `${line}L${KEPT} 80L${KEPT - generated.length + 1} 80Z` }));
    image.append(svg("path", { class: "curve second", d: path(prompt, most) }), svg("path", { class: "curve", d: line }));
  }
  const caption = make("figcaption");
  for (const [name, values, kind] of [["generated", generated, ""], ["prompt", prompt, "second"]]) {
    const part = make("span", kind, `${name} `);
    part.append(make("b", "", short(values.at(-1) ?? 0)));
    caption.append(part);
  }
  caption.append(make("span", "", `peak ${short(most)}`));
  $("rate").replaceChildren(image, caption);
}

function row(cells) {
  const line = make("tr");
  line.append(...cells.map((cell) => make("td", "", cell)));
  return line;
}

function drawLatency() {
  const now = samples.at(-1);
  const before = samples.at(-1 - MINUTE) ?? samples[0]; // a young page knows less than a minute
  const rows = LATENCIES.map(([name], at) => {
    const each = [0.5, 0.9, 0.99].map((q) => quantile(now.latencies[at], before.latencies[at], q));
    return row([name, ...each.map(seconds)]);
  });
  $("latency").tBodies[0].replaceChildren(...rows);
}

function drawEngines(load) {
  $("engines").replaceChildren(...load.engines.map((engine) => {
    const box = make("div", engine.ready ? "engine" : "engine lost");
    const line = make("div");
    line.append(make("b", "", `engine ${engine.index}${engine.ready ? "" : " is lost"}`));
    line.append(make("span", "", `${engine.running ?? 0} running, ${engine.waiting ?? 0} waiting`));
    const meter = make("meter");
    Object.assign(meter, { min: 0, max: 1, low: 0.7, high: 0.9, optimum: 0, value: engine.kv_cache_usage ?? 0 });
    meter.title = "KV cache in use";
    const used = make("div");
    used.append(make("span", "", "KV cache"), make("span", "", `${(100 * (engine.kv_cache_usage ?? 0)).toFixed(1)} %`));
    box.append(line, used, meter);
    return box;
  }));
}

function drawAnswers(families) {
  const finished = new Map();
  for (const [labels, value] of families.get("vllm:request_success_total") ?? []) {
    finished.set(labels.finished_reason, (finished.get(labels.finished_reason) ?? 0) + value);
  }
  const http = families.get("http_requests_total") ?? [];
  const failed = (kind) => http.filter(([labels]) => labels.status === kind).reduce((total, [, value]) => total + value, 0);
  const rows = [...finished].map(([reason, count]) => row([`ended: ${reason}`, short(count)]));
  rows.push(row(["HTTP 4xx", short(failed("4xx"))]), row(["HTTP 5xx", short(failed("5xx"))]));
  $("answers").tBodies[0].replaceChildren(...rows);
}

function setStatus(kind, text) {
  $("status").className = `status ${kind}`;
  $("status").textContent = text;
}

async function update() {
  try {
    const [metrics, load] = await Promise.all([get("/metrics"), get("/load")]);
    const families = sample(await metrics.text());
    const loads = await load.json();
    drawTiles(families);
    drawRate();
    drawLatency();
    drawEngines(loads);
    drawAnswers(families);
    const ready = loads.engines.filter((engine) => engine.ready).length;
    setStatus(ready ? "good" : "bad", ready ? `ready, ${ready} of ${loads.engines.length} engines` : "no engine serves");
    if (!$("model").options.length) await loadModels();
  } catch (error) {
    setStatus("bad", error.message);
  }
}

async function loadModels() {
  const { data } = await (await get("/v1/models")).json();
  $("model").replaceChildren(...data.map((card) => make("option", "", card.id)));
  $("model-name").textContent = data[0]?.id ?? "Model";
}

async function loadVersion() {
  const { version } = await (await get("/version")).json();
  $("version").textContent = version;
}

async function run() {
  loadVersion().catch((error) => setStatus("bad", error.message));
  for (;;) {
    if (!document.hidden) await update();
    await new Promise((wake) => setTimeout(wake, PERIOD_MS));
  }
}

$("key").addEventListener("change", update);
run();
