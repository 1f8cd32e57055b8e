// Optimizer: jobs that improve a prompt, started, followed and cancelled.

import { ask, tell } from "./api.js";
import { announce, field, h, put, say, table } from "./dom.js";
import { seen } from "./feed.js";
import { day, number } from "./format.js";
import { follow, JOBS, standing } from "./job.js";

// The list is asked for anew so often.
const EVERY = 3000;

const EXAMPLE = {
  name: "moods",
  about: "The mood of a customer's message, in one word.",
  model: "gpt-4o-mini",
  prompt: "What is the mood of this message?",
  data: { examples: [
    ["Where is my parcel? It is a week late.", "angry"], ["Thanks, all arrived in time.", "glad"], ["Do you ship to Norway?", "neutral"],
    ["This is the third broken one!", "angry"], ["Best shop I know.", "glad"], ["What does it weigh?", "neutral"],
    ["I want my money back, now.", "angry"], ["It fits perfectly, I love it.", "glad"], ["Is it in stock?", "neutral"],
    ["Nobody answers my letters.", "angry"], ["You made my day.", "glad"], ["My order number is 17.", "neutral"],
  ].map(([input, expected]) => ({ input, expected })) },
  evaluators: [{ kind: "normalized" }],
  budget: { evaluations: 100, wall: "5m" },
};

export default function optimizer(root) {
  const list = h("div", { class: "stack" });
  const one = h("div", { class: "stack" });
  const client = h("select", { change: () => { leave(); put(one); load(true); } });
  const who = field("As the client", client);
  // Tasks name the client whose job it is, where clients have keys.
  const as = () => (who.hidden ? {} : { "x-chimera-tenant": client.value });
  let following;
  let shown;
  let asked = 0;

  const leave = () => following?.abort();
  const open = (id) => {
    leave();
    following = new AbortController();
    const { signal } = following;
    follow(id, one, as(), signal, () => load(true)).catch((error) => {
      if (!signal.aborted) put(one, h("section", { class: "card" }, h("p", { class: "bad", role: "alert" }, error.message)));
    });
  };
  const form = starting(as, (id) => { load(true); open(id); });

  async function load(now) {
    if (!now && Date.now() - asked < EVERY) return;
    const mine = (asked = Date.now());
    let [told, kind] = ["There is no optimizer on this gateway.", "soft"];
    let jobs = [];
    if (seen.state.optimizer) {
      try {
        jobs = (await ask(JOBS, { headers: as() })).data;
        told = "No jobs yet.";
      } catch (error) {
        [told, kind] = [error.message, "bad"];
      }
    }
    const made = JSON.stringify([jobs, told]);
    // A later answer may be there already.
    if (mine !== asked || made === shown) return;
    shown = made;
    form.hidden = !seen.state.optimizer;
    const focused = list.contains(document.activeElement) ? document.activeElement.dataset.job : undefined;
    put(list, jobs.length ? jobTable(jobs, open) : h("p", { class: kind }, told));
    if (focused) [...list.querySelectorAll("button")].find(({ dataset }) => dataset.job === focused)?.focus();
  }

  put(root, h("div", { class: "head" }, h("h1", {}, "Optimizer"), h("p", {}, "Better prompts, with evidence")), who,
    h("section", { class: "card" }, h("h2", {}, "Jobs"), list), one, form);
  form.hidden = true;
  who.hidden = true;
  let before;
  const update = ({ state }) => {
    const clients = state.clients ?? [];
    const now = JSON.stringify([clients, state.optimizer]);
    if (now !== before) {
      put(client, clients.map((name) => h("option", { value: name, selected: name === client.value }, name)));
      who.hidden = !clients.some((name) => name !== "open");
    }
    load(now !== before);
    before = now;
  };
  update.leave = leave;
  return update;
}

function jobTable(jobs, open) {
  return table("Jobs", [["Job"], ["State"], ["Best score", true], ["Roll-outs", true], ["Started", true]], jobs.map((job) => [
    h("button", { type: "button", class: "link", "data-job": job.id, click: () => open(job.id) }, job.name), standing(job),
    number(job.progress.best), number(job.progress.evaluations), day(job.created)]));
}

// The form that starts a job: the task as the API takes it.
function starting(as, started) {
  const task = h("textarea", { rows: 12, spellcheck: "false", id: "task", required: true });
  const said = h("p", { class: "bad", role: "alert" });
  const read = () => {
    try {
      return JSON.parse(task.value);
    } catch (error) {
      throw new Error(`The task is not JSON: ${error.message}`);
    }
  };
  const start = async (event) => {
    event.preventDefault();
    say(said, "");
    try {
      const job = await tell(JOBS, read(), "POST", as());
      announce("The job was started");
      started(job.id);
    } catch (error) {
      const at = error.body?.error?.param;
      say(said, at && !error.message.startsWith(at) ? `${at}: ${error.message}` : error.message);
    }
  };
  return h("form", { class: "card", submit: start }, h("h2", {}, "Start a job"),
    h("p", { class: "soft" }, "A job calls models, and spends up to its budget."), field("The task, as JSON", task), said,
    h("div", { class: "row" }, h("button", { class: "main", type: "submit", id: "start" }, "Start"),
      h("button", { type: "button", click: () => { task.value = JSON.stringify(EXAMPLE, null, 2); task.focus(); } }, "Fill in an example")));
}
