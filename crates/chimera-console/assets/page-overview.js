// Overview: does the gateway do what it is to do, and what is going on?

import { h, meter, put, say } from "./dom.js";
import { bytes, money, number, percent, took } from "./format.js";
import { historyPlot } from "./plot.js";

// The objectives: what is, what is to be, and how much room there is.
function objectives({ hour = {}, about }) {
  const { targets } = about ?? { targets: {} };
  const availability = hour.counted > 0 ? 1 - hour.failed / hour.counted : undefined;
  const budget = availability === undefined ? undefined : 1 - (1 - availability) / (1 - targets.availability);
  const below = (value, target) => (value === undefined ? undefined : 1 - value / target);
  return [
    { name: "Requests that did not fail", value: percent(availability, 2), target: `at least ${percent(targets.availability, 1)}`,
      met: availability === undefined ? undefined : availability >= targets.availability,
      room: budget, note: budget === undefined ? "" : budget >= 0 ? `${percent(budget, 0)} of the hour's error budget left` : `the hour's error budget is spent ${number(1 - budget)} times` },
    { name: "Generations, 95th percentile", value: took(hour.p95), target: `at most ${took(targets.latency_p95)}`,
      met: hour.p95 === undefined ? undefined : hour.p95 <= targets.latency_p95, room: below(hour.p95, targets.latency_p95) },
    { name: "Gateway's own part, 99th percentile", value: took(hour.overhead_p99), target: `at most ${took(targets.overhead_p99)}`,
      met: hour.overhead_p99 === undefined ? undefined : hour.overhead_p99 <= targets.overhead_p99, room: below(hour.overhead_p99, targets.overhead_p99) },
    { name: "Look-ups that hit", value: percent(hour.hit), target: `at least ${percent(targets.hit_rate, 0)}`,
      met: hour.hit === undefined ? undefined : hour.hit >= targets.hit_rate, room: hour.hit },
  ];
}

function objective({ name, value, target, met, room, note }) {
  const kind = met === undefined ? "soft" : met ? "good" : "bad";
  const word = met === undefined ? "not known yet" : met ? "met" : "missed";
  return h("li", { class: "card goal" },
    h("span", { class: "label" }, name),
    h("p", { class: "big" }, value),
    meter(met === undefined ? 0 : Math.max(0, room ?? 0), met === false ? "bad" : room < 0.25 ? "warn" : "", note || `${name}: ${word}`),
    h("div", { class: "row apart small" }, h("span", { class: "soft" }, target), h("span", { class: `badge ${kind}` }, word), note && h("span", { class: "soft" }, note)));
}

// What somebody should look at.
function cares({ providers = {}, cache = {}, ready }) {
  const found = [];
  if (ready === false) found.push(["warn", "This gateway is stopping: it takes no new work."]);
  for (const [provider, { deployments = {}, keys = {} }] of Object.entries(providers)) {
    for (const [name, { state, forced, why }] of Object.entries(deployments)) {
      if (forced) found.push(["warn", `${name} is held ${forced} by an operator.`]);
      else if (state !== "closed") found.push(["bad", `${name} is ${state.replace("_", " ")}${why ? `: ${why}` : ""}.`]);
    }
    const dead = (keys.resting ?? []).filter(({ why }) => ["refused", "payment", "quota"].includes(why));
    if (dead.length) found.push(["bad", `${dead.length} of ${keys.configured} keys of ${provider} need care: ${[...new Set(dead.map(({ why }) => why))].join(", ")}.`]);
  }
  for (const [name, { up, why }] of Object.entries(cache.tiers ?? {})) {
    if (up === false) found.push(["bad", `The cache's tier ${name} does not answer${why ? `: ${why}` : ""}.`]);
  }
  return found;
}

function tiles({ now = {}, hour = {}, about }) {
  const shown = [
    ["Requests", number(now.rate), "/s"],
    ["Failed", number(now.failed), "/s"],
    ["Median", took(now.p50), ""],
    ["Hit rate", percent(now.hit), ""],
    ["Tokens out", number(now.output), "/s"],
    ["In flight", number(now.in_flight), ""],
    ["Memory", bytes(now.memory), ""],
  ];
  if (about?.priced) shown.push(["Spent, last hour", money(hour.spent), ""]);
  return shown;
}

export default function overview(root) {
  const goals = h("ul", { class: "grid", "aria-label": "Objectives over the last hour" });
  const care = h("ul", { class: "card", "aria-label": "What needs care", hidden: true });
  const strip = h("ul", { class: "card strip", "aria-label": "The last seconds" });
  const plots = [
    historyPlot({ title: "Requests a second", format: number, series: [{ key: "rate", label: "all", fill: true }, { key: "refused", label: "refused" }, { key: "failed", label: "failed" }] }),
    historyPlot({ title: "Time of generations", format: took, series: [{ key: "p50", label: "p50" }, { key: "p95", label: "p95" }, { key: "p99", label: "p99" }] }),
    historyPlot({ title: "Cache hit rate", format: percent, top: 1, series: [{ key: "hit", label: "hits" }] }),
    historyPlot({ title: "Tokens a second", format: number, series: [{ key: "output", label: "out", fill: true }, { key: "input", label: "in" }] }),
  ];
  put(root,
    h("div", { class: "head" }, h("h1", {}, "Overview"), h("p", {}, "Objectives over the last hour, and what goes on now")),
    care, goals, strip,
    h("div", { class: "grid wide" }, plots.map(({ element }) => h("section", { class: "card" }, element))));
  let before = "";
  return ({ state, history }) => {
    // What is read aloud is replaced only when it says something else.
    const found = cares(state);
    if (JSON.stringify(found) !== before) {
      before = JSON.stringify(found);
      care.hidden = !found.length;
      put(care, found.map(([kind, text]) => h("li", { class: kind }, text)));
    }
    put(goals, objectives(state).map(objective));
    const wanted = tiles(state);
    if (strip.children.length !== wanted.length) {
      put(strip, wanted.map(([name]) => h("li", {}, h("span", { class: "label" }, name), h("p", { class: "big" }, h("span", {}), h("small", {})))));
    }
    wanted.forEach(([, value, unit], at) => {
      const [shown, after] = strip.children[at].lastChild.children;
      say(shown, value);
      say(after, unit);
    });
    for (const { update } of plots) update(history);
  };
}
