// Transform: what a pipeline makes of a text.

import { data, tell } from "./api.js";
import { diff } from "./diff.js";
import { field, h, pairs, put, say, select, table } from "./dom.js";
import { number, took } from "./format.js";

const OWN = "own steps";
const STEPS = ["normalize", "redact", "guard", "compress", "budget"];
const EXAMPLE = "Please write to jane.doe@example.com, or call +1 415 555 2671,\nabout card 4111 1111 1111 1111.";

export default function transform(root) {
  const text = h("textarea", { rows: 10, id: "text", spellcheck: "false" });
  text.value = EXAMPLE;
  const model = h("input", { value: "gpt-4o", autocomplete: "off" });
  const client = h("select", {});
  const pipeline = h("select", { id: "pipeline", change: () => { own.hidden = pipeline.value !== OWN; } });
  const boxes = STEPS.map((step) => h("input", { type: "checkbox", value: step, checked: ["normalize", "redact"].includes(step) }));
  const own = h("fieldset", { class: "row" }, boxes.map((box, at) => h("label", { class: "check" }, box, STEPS[at])));
  const result = h("div", { class: "stack", "aria-live": "polite" });
  const run = h("button", { class: "main", type: "submit" }, "Transform");
  const as = field("As the client", client);

  async function submit(event) {
    event.preventDefault();
    const chosen = pipeline.value === OWN
      ? { steps: boxes.filter((box) => box.checked).map((box) => box.value) }
      : { pipeline: pipeline.value };
    run.disabled = true;
    try {
      const headers = as.hidden ? {} : { "x-chimera-tenant": client.value };
      const answer = await tell(data("/api/v1/transform"), { ...chosen, text: text.value, model: model.value }, "POST", headers);
      put(result, shown(text.value, answer));
    } catch (error) {
      put(result, h("p", { class: "bad" }, error.message));
    }
    run.disabled = false;
  }

  put(root,
    h("div", { class: "head" }, h("h1", {}, "Transform"), h("p", {}, "What a pipeline makes of a prompt before it leaves")),
    h("div", { class: "grid wide" },
      h("form", { class: "card", submit },
        h("div", { class: "grid" }, field("Pipeline", pipeline), field("Tokens as counted for", model), as),
        own, field("Text", text), h("div", { class: "row" }, run)),
      result));
  put(result, h("section", { class: "card" }, h("p", { class: "soft" }, "The result, what changed in it, and what each step took stand here.")));

  let before;
  return ({ state }) => {
    const names = JSON.stringify([state.pipelines, state.clients]);
    if (names === before) return;
    before = names;
    put(pipeline, [...(state.pipelines ?? []), OWN].map((name) => h("option", { value: name }, name)));
    own.hidden = pipeline.value !== OWN;
    put(client, (state.clients ?? []).map((name) => h("option", { value: name }, name)));
    as.hidden = !(state.clients ?? []).some((name) => name !== "open");
  };
}

function shown(before, { text, tokens, report, pipeline }) {
  const whole = report.reduce((sum, step) => sum + step.elapsed_us, 0);
  return h("section", { class: "card" },
    h("h2", {}, `Through ${pipeline}`),
    pairs([
      ["Tokens before, after", `${number(tokens.before)}, ${number(tokens.after)}${tokens.exact ? "" : " (estimated)"}`],
      ["All steps together", took(whole / 1e6)],
    ]),
    h("h3", {}, "What changed"), diff(before, text),
    table("What each step did", [["Step"], ["Changed"], ["Found"], ["Took", true]], report.map((step) => [
      step.step, step.failed ? h("span", { class: "bad" }, step.failed) : step.changed ? "yes" : "no",
      notes(step.notes), took(step.elapsed_us / 1e6)])));
}

// What a step tells of itself, whatever it is.
function notes(value) {
  const list = Array.isArray(value) ? value : Object.entries(value ?? {}).map(([name, count]) => `${name}: ${typeof count === "object" ? JSON.stringify(count) : count}`);
  const words = list.map((one) => (typeof one === "object" ? Object.values(one).join(" ") : String(one)));
  return say(h("span", {}), words.join(", ") || "–");
}
