// Playground: one request in any dialect, and everything that comes back.

import { ask, call, data } from "./api.js";
import { field, h, put, say, select, table } from "./dom.js";
import { took } from "./format.js";
import { events } from "./sse.js";

const user = (content) => [{ role: "user", content }];
const SHAPES = {
  openai: { title: "OpenAI chat", path: () => "/v1/chat/completions", body: (model, text, stream) => ({ model, stream, messages: user(text) }) },
  responses: { title: "OpenAI responses", path: () => "/v1/responses", body: (model, text, stream) => ({ model, stream, input: text }) },
  anthropic: { title: "Anthropic messages", path: () => "/v1/messages", headers: { "anthropic-version": "2023-06-01" }, body: (model, text, stream) => ({ model, stream, max_tokens: 512, messages: user(text) }) },
  gemini: { title: "Gemini generateContent", path: (model, stream) => `/v1beta/models/${encodeURIComponent(model)}:${stream ? "streamGenerateContent?alt=sse" : "generateContent"}`, body: (model, text) => ({ contents: [{ role: "user", parts: [{ text }] }] }) },
  short: { title: "Chimera's short form", path: () => "/api/v1/generate", body: (model, text, stream) => ({ model, stream, prompt: text }) },
};

// The text that an event or a whole answer adds, in whichever dialect it is told.
export function textOf(value) {
  const parts = value?.candidates?.[0]?.content?.parts;
  if (parts) return parts.map(({ text }) => text ?? "").join("");
  const choice = value?.choices?.[0];
  if (choice) return choice.delta?.content ?? choice.message?.content ?? "";
  if (value?.type === "response.output_text.delta") return value.delta ?? "";
  if (value?.type === "content_block_delta") return value.delta?.text ?? "";
  if (Array.isArray(value?.content)) return value.content.map(({ text }) => text ?? "").join("");
  if (Array.isArray(value?.output)) return value.output.flatMap(({ content }) => content ?? []).map(({ text }) => text ?? "").join("");
  return "";
}

function parse(text) {
  try { return JSON.parse(text); } catch { return undefined; }
}

export default function playground(root) {
  const shape = select(Object.entries(SHAPES).map(([name, { title }]) => [name, title]), "openai", () => compose());
  const models = h("datalist", { id: "models" });
  const model = h("input", { list: "models", value: "sim-small", autocomplete: "off", id: "model", input: () => compose() });
  const prompt = h("textarea", { rows: 5, id: "prompt", input: () => compose() });
  prompt.value = "Say hello in five words.";
  const stream = h("input", { type: "checkbox", checked: true, change: () => compose() });
  const fresh = h("input", { type: "checkbox" });
  const client = h("select", {});
  const as = field("As the client", client);
  const body = h("textarea", { rows: 9, spellcheck: "false", id: "body" });
  const send = h("button", { class: "main", type: "submit", id: "send" }, "Send");
  const stop = h("button", { type: "button", disabled: true, click: () => running?.abort() }, "Stop");
  const out = h("div", { class: "stack" });
  let running;

  function compose() {
    body.value = JSON.stringify(SHAPES[shape.value].body(model.value, prompt.value, stream.checked), null, 2);
  }

  async function submit(event) {
    event.preventDefault();
    const chosen = SHAPES[shape.value];
    const began = performance.now();
    const since = () => (performance.now() - began) / 1000;
    const [status, answer, raw] = [h("p", { role: "status" }, "Waiting for the first byte…"), h("pre", { tabindex: 0, id: "answer" }), h("pre", { tabindex: 0 })];
    const about = h("div", {});
    put(out, h("section", { class: "card" }, h("h2", {}, "Answer"), status, answer),
      h("section", { class: "card" }, h("h2", {}, "As it came"), raw),
      h("section", { class: "card" }, h("h2", {}, "Headers"), about));
    running = new AbortController();
    stop.disabled = false;
    send.disabled = true;
    try {
      const response = await call(data(chosen.path(model.value, stream.checked)), {
        method: "POST", body: body.value, signal: running.signal,
        headers: { "content-type": "application/json", ...chosen.headers, ...(fresh.checked ? { "x-chimera-cache": "no-cache" } : {}), ...(as.hidden ? {} : { "x-chimera-tenant": client.value }) },
      });
      const head = since();
      put(about, headers(response.headers));
      let first;
      const add = (value) => {
        const text = textOf(value);
        if (text) {
          first ??= since();
          answer.append(text);
        }
      };
      if (response.headers.get("content-type")?.startsWith("text/event-stream")) {
        await events(response.body, ({ data }) => add(parse(data)), (text) => raw.append(text));
      } else {
        const text = await response.text();
        const value = parse(text);
        say(raw, value === undefined ? text : JSON.stringify(value, null, 2));
        add(value);
        const error = value?.error?.message ?? value?.error;
        if (typeof error === "string") say(answer, error);
      }
      status.className = response.ok ? "good" : "bad";
      say(status, `${response.status}, head after ${took(head)}, first text after ${took(first)}, all after ${took(since())}`);
    } catch (error) {
      status.className = "bad";
      say(status, error.name === "AbortError" ? `Stopped after ${took(since())}` : error.message);
    }
    stop.disabled = true;
    send.disabled = false;
  }

  put(root,
    h("div", { class: "head" }, h("h1", {}, "Playground"), h("p", {}, "A request in any dialect, through this gateway")),
    h("div", { class: "grid wide" },
      h("form", { class: "card", submit },
        h("div", { class: "grid" }, field("Dialect", shape), field("Model", model), as), models,
        field("Prompt", prompt),
        h("div", { class: "row" }, h("label", { class: "check" }, stream, "Stream"), h("label", { class: "check" }, fresh, "Not from the cache")),
        field("Request body", body), h("div", { class: "row" }, send, stop)),
      out));
  put(out, h("section", { class: "card" }, h("p", { class: "soft" }, "The answer, its headers and its server-timing stand here.")));
  compose();

  let before;
  const update = ({ state }) => {
    const clients = state.clients ?? [];
    if (JSON.stringify(clients) === before) return;
    before = JSON.stringify(clients);
    put(client, clients.map((name) => h("option", { value: name }, name)));
    as.hidden = !clients.some((name) => name !== "open");
    const options = as.hidden ? {} : { headers: { "x-chimera-tenant": client.value } };
    ask(data("/v1/models"), options).then((list) => put(models, (list.data ?? []).map(({ id }) => h("option", { value: id })))).catch(() => {});
  };
  update.leave = () => running?.abort();
  return update;
}

// Headers as they came, and where the time went.
function headers(all) {
  const timing = (all.get("server-timing") ?? "").split(",").map((part) => part.trim().match(/^([\w-]+);dur=([\d.]+)/)).filter(Boolean);
  return h("div", { class: "stack small" },
    timing.length ? table("Server timing", [["Part"], ["Took", true]], timing.map(([, name, ms]) => [name, took(Number(ms) / 1000)])) : null,
    table("Headers", [["Header"], ["Value"]], [...all].map(([name, value]) => [name, value])));
}
