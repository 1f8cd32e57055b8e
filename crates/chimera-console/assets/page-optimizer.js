// Optimizer: jobs that improve a prompt, followed while they run.

import { ask, call, data, tell } from "./api.js";
import { diff } from "./diff.js";
import { announce, confirm, field, h, pairs, put, say, table } from "./dom.js";
import { seen } from "./feed.js";
import { number, percent, span } from "./format.js";
import { plot } from "./plot.js";
import { events } from "./sse.js";

const JOBS = "/api/v1/optimizations";

// Tasks name the client whose job it is, where clients have keys.
const as = (client) => (client ? { "x-chimera-tenant": client } : {});
const idOf = (job) => String(job.id ?? job.job ?? "");
const stateOf = (job) => String(job.state ?? job.status ?? job.ended ?? "unknown");
const KINDS = { finished: "good", completed: "good", running: "good", failed: "bad", paused: "warn", cancelled: "warn" };
const RUNNING = ["queued", "running", "paused"];

export default function optimizer(root) {
  const list = h("div", {});
  const one = h("div", { class: "stack" });
  const client = h("select", { change: () => load() });
  const who = field("As the client", client);
  const task = h("textarea", { rows: 10, spellcheck: "false", id: "task" });
  const said = h("p", { class: "bad", role: "alert" });
  const name = () => (who.hidden ? "" : client.value);
  let following;

  const start = h("form", { class: "card", submit: async (event) => {
    event.preventDefault();
    say(said, "");
    try {
      const job = await tell(data(JOBS), JSON.parse(task.value), "POST", as(name()));
      announce("The job was started");
      await load();
      open(idOf(job));
    } catch (error) {
      say(said, error.message);
    }
  } }, h("h2", {}, "Start a job"), field("The task, as JSON", task), said, h("div", { class: "row" }, h("button", { class: "main", type: "submit", id: "start" }, "Start")));

  async function load() {
    if (!seen.state.optimizer) return put(list, h("p", { class: "soft" }, "There is no optimizer on this gateway."));
    try {
      const answer = await ask(data(JOBS), { headers: as(name()) });
      const jobs = Array.isArray(answer) ? answer : answer.optimizations ?? answer.jobs ?? answer.data ?? [];
      start.hidden = false;
      if (!jobs.length) return put(list, h("p", { class: "soft" }, "No jobs yet."));
      put(list, table("Jobs", [["Job"], ["State"], ["Best score", true], ["Roll-outs", true]], jobs.map((job) => [
        h("button", { type: "button", class: "link", click: () => open(idOf(job)) }, String(job.name ?? job.task ?? idOf(job))),
        h("span", { class: KINDS[stateOf(job)] ?? "" }, stateOf(job)), number(job.best ?? job.progress?.best ?? undefined), number(job.evaluations ?? job.progress?.evaluations)])));
    } catch (error) {
      const none = error.status === 404 || error.status === 405;
      start.hidden = none;
      put(list, h("p", { class: none ? "soft" : "bad" }, none ? "There is no optimizer on this gateway." : error.message));
    }
    return undefined;
  }

  function open(id) {
    following?.abort();
    following = new AbortController();
    follow(id, one, as(name()), following.signal, load).catch((error) => {
      if (error.name !== "AbortError") put(one, h("p", { class: "bad" }, error.message));
    });
  }

  put(root, h("div", { class: "head" }, h("h1", {}, "Optimizer"), h("p", {}, "Better prompts, with evidence")), who, h("section", { class: "card" }, list), one, start);
  start.hidden = true;
  let before;
  const update = ({ state }) => {
    const clients = state.clients ?? [];
    if (JSON.stringify([clients, state.optimizer]) === before) return;
    before = JSON.stringify([clients, state.optimizer]);
    put(client, clients.map((name) => h("option", { value: name }, name)));
    who.hidden = !clients.some((name) => name !== "open");
    load();
  };
  update.leave = () => following?.abort();
  return update;
}

// One job: its curve and its lineage while it runs, and what came of it.
async function follow(id, root, headers, signal, changed) {
  const path = data(`${JOBS}/${encodeURIComponent(id)}`);
  const job = await ask(path, { headers, signal });
  const curve = plot({ title: "Best score by roll-outs", format: number, x: (at) => `${number(at)} roll-outs`, series: [{ key: "best", label: "best", fill: true }] });
  const points = { xs: [], columns: { best: [] } };
  const lineage = [];
  const [state, facts, tree, result] = [h("span", { class: "badge" }), h("div", {}), h("div", {}), h("div", { class: "stack" })];
  const cancel = h("button", { class: "danger", type: "button", id: "cancel", click: async () => {
    if (!(await confirm("Cancel the job?", "Its calls end at once. What was found so far stays.", "Cancel the job"))) return;
    try {
      await tell(`${path}/cancel`, {}, "POST", headers);
      announce("The job is cancelled");
      say(state, "cancelled");
      changed();
    } catch (error) {
      announce(error.message);
    }
  } }, "Cancel…");
  put(root,
    h("section", { class: "card" }, h("div", { class: "row apart" }, h("h2", {}, String(job.name ?? id)), state), facts, h("div", { class: "row" }, cancel)),
    h("section", { class: "card" }, curve.element), h("section", { class: "card" }, h("h2", {}, "Lineage"), tree), result);

  const show = (word, progress = {}) => {
    state.className = `badge ${KINDS[word] ?? ""}`;
    say(state, word);
    cancel.hidden = !RUNNING.includes(word);
    put(facts, pairs([
      ["Best score", number(progress.best ?? undefined)], ["Roll-outs, left", `${number(progress.evaluations)}, ${number(progress.evaluations_left ?? undefined)}`],
      ["Tried, accepted", `${number(progress.tried)}, ${number(progress.accepted)}`], ["Time", span(progress.seconds)],
      ["Last accepted change", String(progress.last_accepted || "–")], ["Waits for", String(progress.paused ?? "–")]]));
    if (typeof progress.best === "number") {
      points.xs.push(progress.evaluations ?? points.xs.length);
      points.columns.best.push(progress.best);
      curve.update(points);
    }
  };
  const grow = () => put(tree, lineage.length
    ? table("Candidates", [["Candidate", true], ["Parent", true], ["Validation", true], ["Change"]], lineage.map(({ member, parent, validation, note }) => [
      String(member), String(parent ?? "–"), percent(validation ?? undefined), String(note ?? "")]))
    : h("p", { class: "soft" }, "The seed alone so far."));
  lineage.push(...(job.lineage ?? []));
  for (const [evaluations, best] of job.curve ?? []) {
    points.xs.push(evaluations);
    points.columns.best.push(best);
  }
  show(stateOf(job), job.progress ?? job);
  grow();
  outcome(result, job);
  if (!RUNNING.includes(stateOf(job))) return;

  const response = await call(`${path}/events`, { headers: { accept: "text/event-stream", ...headers }, signal });
  let progress = job.progress ?? {};
  await events(response.body, ({ event, data: text }) => {
    const told = JSON.parse(text);
    const type = told.type ?? event;
    if (type === "budget") progress = { ...progress, ...told };
    if (type === "best") progress = { ...progress, best: told.score };
    if (type === "paused") progress = { ...progress, paused: told.reason };
    if (type === "resumed") progress = { ...progress, paused: undefined };
    if (type === "accepted") {
      lineage.push(told);
      grow();
    }
    if (type === "budget" || type === "paused" || type === "resumed") show(progress.paused ? "paused" : "running", progress);
  });
  const ended = await ask(path, { headers, signal });
  show(stateOf(ended), { ...progress, ...ended.progress });
  outcome(result, ended);
  changed();
}

// The best prompt beside the one that it began as.
function outcome(root, job) {
  const best = job.result?.best?.components ?? job.result?.best ?? job.best_prompt;
  const seed = job.result?.seed?.components ?? job.result?.seed ?? job.seed;
  if (!best || typeof best !== "object") return;
  put(root, Object.entries(best).filter(([, text]) => typeof text === "string").map(([name, text]) => h("section", { class: "card" },
    h("h2", {}, `Best ${name}`), diff(String(seed?.[name] ?? ""), text))));
}
