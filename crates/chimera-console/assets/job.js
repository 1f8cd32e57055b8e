// One optimization job: its curve and its lineage while it runs, and what came of it.

import { ask, call, data, tell } from "./api.js";
import { diff } from "./diff.js";
import { announce, confirm, h, pairs, put, say, table } from "./dom.js";
import { number, span } from "./format.js";
import { plot } from "./plot.js";
import { events } from "./sse.js";

export const JOBS = data("/api/v1/optimizations");

const KINDS = { running: "good", finished: "good", budget: "good", failed: "bad", paused: "warn", cancelled: "warn" };
const LIMITS = { evaluations: "roll-outs", tokens: "tokens", money: "dollars", wall: "time", patience: "steps without a better one" };
// Drawn so often at most, however much happens.
const BEAT = 100;
// Refusals in a row that are borne with: a gateway that was just started may not know its jobs yet.
const PATIENCE = 5;

export const isOver = ({ status }) => status !== "waiting" && status !== "running";

// How a job stands, as a word in its colour.
export function standing(job, kind = "") {
  const status = !isOver(job) && job.progress?.paused ? "paused" : job.status;
  return h("span", { class: `${kind} ${KINDS[status] ?? ""}` }, status === "budget" ? "budget used" : status);
}

const wait = (time) => new Promise((resolve) => setTimeout(resolve, time));

// Shows a job, and follows it until it is over or `signal` says to stop. `changed` is told when it ends.
export async function follow(id, root, headers, signal, changed) {
  const path = `${JOBS}/${encodeURIComponent(id)}`;
  let job = await ask(path, { headers, signal });
  const view = show(root, job, () => cancel(path, headers, view, changed));
  if (isOver(job)) return;
  let refused = 0;
  while (!isOver(job)) {
    try {
      const response = await call(`${path}/events`, { headers: { accept: "text/event-stream", ...headers }, signal });
      if (response.ok) await events(response.body, ({ event, data: text }) => view.told(event, JSON.parse(text)));
      // The job tells that it is over a moment before it is.
      await wait(BEAT);
      job = await ask(path, { headers, signal });
      refused = 0;
    } catch (error) {
      if (error.status) refused += 1;
      if (signal.aborted || refused > PATIENCE) throw error;
      // Where the gateway cannot be reached, it may come back.
      await wait(1000);
    }
    if (signal.aborted) return;
    view.stands(job);
  }
  announce(`The job ${job.name} is over`);
  changed();
}

async function cancel(path, headers, view, changed) {
  if (!(await confirm("Cancel the job?", "Its calls end at once. What was found so far stays.", "Cancel the job"))) return;
  try {
    view.stands(await tell(`${path}/cancel`, {}, "POST", headers));
    announce("The job is cancelled");
    changed();
  } catch (error) {
    announce(error.message);
  }
}

// The parts of the page that show a job, and what keeps them true.
function show(root, job, cancelled) {
  const curve = plot({ title: "Best score by roll-outs", format: number, x: (at) => `${number(at)} roll-outs`, top: 1, series: [{ key: "best", label: "best", fill: true }] });
  const [state, facts, tree, result] = ["", "stack", "stack", "stack"].map((kind) => h("div", { class: kind }));
  const button = h("button", { class: "danger", type: "button", id: "cancel", click: cancelled }, "Cancel…");
  put(root,
    h("section", { class: "card", id: "job" }, h("div", { class: "row apart" }, h("h2", {}, job.name), state), facts, h("div", { class: "row" }, button)),
    h("section", { class: "card" }, curve.element), h("section", { class: "card" }, h("h2", {}, "Lineage"), tree), result);

  let points = [];
  let lineage = [];
  let grown;
  let by;
  let timer;
  const draw = () => {
    timer = undefined;
    put(state, standing(job, "badge"));
    button.hidden = isOver(job);
    put(facts, told(job));
    curve.update(stairs(points, job.progress?.evaluations));
    // Drawn anew only when it is another, so that it can be read and scrolled meanwhile.
    if (grown !== lineage.length) put(tree, lineage.length ? candidates(lineage, job.result?.best_member) : h("p", { class: "soft" }, "No change was accepted yet."));
    grown = lineage.length;
  };
  const progress = (more) => {
    job.progress = { ...job.progress, ...more };
    const { best, evaluations } = job.progress;
    if (evaluations < points.at(-1)?.[0]) points = [];
    if (typeof best === "number" && best !== points.at(-1)?.[1]) points.push([evaluations, best]);
  };
  const stands = (now) => {
    job = { ...now };
    progress(job.progress);
    if (job.result) {
      points = job.result.curve.map(({ evaluations, score }) => [evaluations, score]);
      lineage = job.result.lineage;
      grown = undefined;
      outcome(result, job.result);
    }
    draw();
  };
  const TOLD = {
    standing: stands,
    tried: (event) => { by = event.by; },
    // A job that goes on after a restart tells of some of them again.
    accepted: ({ member, parent, validation, note }) => {
      if (!lineage.some((one) => one.member === member)) lineage.push({ member, parents: [parent], validation, note, by });
    },
    budget: ({ type, ...more }) => progress(more),
    paused: ({ reason }) => progress({ paused: reason }),
    resumed: () => progress({ paused: null }),
  };
  stands(job);
  return {
    stands,
    told: (kind, event) => {
      TOLD[kind]?.(event);
      timer ??= setTimeout(draw, BEAT);
    },
  };
}

// The best stays what it is until there is a better one.
function stairs(points, last) {
  const [xs, best] = [[], []];
  for (const [at, score] of points) {
    if (xs.length) {
      xs.push(at);
      best.push(best.at(-1));
    }
    xs.push(at);
    best.push(score);
  }
  if (xs.length && last > xs.at(-1)) {
    xs.push(last);
    best.push(best.at(-1));
  }
  return { xs, columns: { best } };
}

function told({ progress = {}, result, error }) {
  const { input_tokens: read, output_tokens: written, nanodollars } = result?.spend ?? progress.spend ?? {};
  const ended = result?.ended?.budget ? `the limit of ${LIMITS[result.ended.budget] ?? result.ended.budget} was reached`
    : result?.ended === "finished" ? "nothing was left to try" : undefined;
  return pairs([
    ["Best score", number(progress.best)],
    ["Roll-outs, left", `${number(progress.evaluations)}, ${number(progress.evaluations_left)}`],
    ["Tried, accepted", `${number(progress.tried)}, ${number(progress.accepted)}`],
    ["Tokens read, written", `${number(read)}, ${number(written)}`],
    ["Dollars", nanodollars ? (nanodollars / 1e9).toFixed(4) : "–"],
    ["Time", span(result?.seconds ?? progress.seconds)],
    ["Last accepted change", progress.last_accepted || "–"],
    ...(ended ? [["Ended because", ended]] : []),
    ...(error ?? progress.paused ? [["What went wrong", error ?? progress.paused]] : []),
  ]);
}

function candidates(lineage, best) {
  return table("Candidates", [["Candidate", true], ["Parents", true], ["Validation", true], ["Tried on", true], ["Made by"], ["It is"], ["Change"]], lineage.map((one) => [
    String(one.member), one.parents.join(", ") || "–", number(one.validation), number(one.tried_on), one.by,
    [one.member === best && "the best", one.on_frontier && "on the frontier", one.given_up && "given up"].filter(Boolean).join(", ") || "–",
    one.note || "–"]));
}

const estimate = (one) => (one ? `${number(one.mean)} (${number(one.low)} to ${number(one.high)}, ${one.count} examples)` : "–");

// The scores with their 95 % intervals, and each text of the best beside the one that it began as.
function outcome(root, { scores, seed_scores: before, best, seed }) {
  const row = (name, of) => [name, ...["train", "validation", "held_out"].map((set) => estimate(of[set]))];
  put(root,
    h("section", { class: "card" }, h("h2", {}, "Scores"), table("Scores", [["Prompt"], ["Train"], ["Validation"], ["Held out"]], [row("First", before), row("Best", scores)]),
      h("p", { class: "soft" }, "The best was chosen by its validation scores, which flatter it. Held-out examples were looked at once, at the end.")),
    Object.entries(best).map(([name, text]) => h("section", { class: "card" }, h("h2", {}, `Best ${name}`), h("pre", { tabindex: 0 }, text),
      h("h3", {}, "Beside the first"), text === seed[name] ? h("p", { class: "soft" }, "It is the first.") : diff(seed[name] ?? "", text))));
}
