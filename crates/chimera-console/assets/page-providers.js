// Providers: who answers, who is left alone and why, and the lever that holds a breaker.

import { tell } from "./api.js";
import { announce, confirm, h, meter, pairs, put, say } from "./dom.js";
import { number, percent, span } from "./format.js";

const WORDS = { closed: ["good", "closed"], open: ["bad", "open"], half_open: ["warn", "half open"] };
const HOLDS = [["none", "Automatic"], ["closed", "Hold closed"], ["open", "Hold open"]];

async function hold(name, force) {
  const risks = {
    open: `No request goes to ${name} until you let it go.`,
    closed: `Every request goes to ${name}, however many fail, until you let it go.`,
  };
  if (risks[force] && !(await confirm(`${force === "open" ? "Hold open" : "Hold closed"}: ${name}?`, risks[force], "Hold it"))) return;
  try {
    const path = name.split("/").map(encodeURIComponent).join("/");
    const { state } = await tell(`/api/v1/circuit-breakers/${path}`, { force });
    announce(force === "none" ? `${name} is let go, and ${state}` : `${name} is held ${force}`);
  } catch (error) {
    announce(error.message);
  }
}

// Deployments are made once and then kept up to date: a button must not vanish under a finger.
function deployment(name) {
  const [badge, why, since, calls, busy] = ["span", "p", "p", "p", "p"].map((tag) => h(tag, { class: "label" }));
  const full = h("div", {});
  const buttons = HOLDS.map(([force, word]) => h("button", { type: "button", "aria-pressed": "false", click: () => hold(name, force) }, word));
  const element = h("li", { class: "card" },
    h("div", { class: "row apart" }, h("h3", {}, name), badge), why, since, calls, full, busy,
    h("div", { class: "row", role: "group", "aria-label": `Breaker of ${name}` }, buttons));
  const update = ({ state, forced, why: reason, since: from, next_probe: probe, window = {}, probes_in_flight: probes, in_flight, limit, waiting }, now) => {
    const [kind, word] = WORDS[state] ?? ["soft", state];
    badge.className = `badge ${kind}`;
    say(badge, forced ? `held ${forced}` : word);
    say(why, state !== "closed" && reason && !forced ? `Why: ${reason}` : "");
    const next = state === "open" && probe && !forced ? `; next probe ${probe > now ? `in ${span(probe - now)}` : "with the next request"}` : "";
    say(since, forced ? "By an operator, until it is let go" : `For ${span(now - from)}${next}${probes ? `; ${probes} probes under way` : ""}`);
    const share = window.calls ? `, ${percent(window.failures / window.calls)} of them failed${window.slow ? `, ${number(window.slow)} slow` : ""}` : "";
    say(calls, `${number(window.calls)} calls in the window${share}`);
    put(full, meter(limit ? in_flight / limit : 0, in_flight / limit > 0.8 ? "warn" : "", `${in_flight} of ${limit} slots are taken`));
    say(busy, `${number(in_flight)} of ${number(limit)} slots taken, ${number(waiting)} wait`);
    buttons.forEach((button, at) => button.setAttribute("aria-pressed", String(HOLDS[at][0] === (forced ?? "none"))));
  };
  return { element, update };
}

// What is left of a key: of the pace that is set for it, and as its provider last told.
function headroom(list) {
  return (list ?? []).map(({ key, requests, tokens, told_requests: toldRequests, told_tokens: toldTokens }) => {
    const known = [
      [requests, (left) => `requests at once, at ${number(left.per_minute)} a minute`], [tokens, (left) => `tokens at once, at ${number(left.per_minute)} a minute`],
      [toldRequests, () => "requests, says the provider"], [toldTokens, () => "tokens, says the provider"],
    ];
    return known.filter(([left]) => left).map(([left, of]) => {
      const share = left.left / left.most;
      const text = `Key ${key}: ${number(left.left)} of ${number(left.most)} ${of(left)}`;
      return h("li", {}, h("p", { class: "label" }, text), meter(share, share < 0.2 ? "warn" : "", text));
    });
  });
}

function provider(name) {
  const facts = h("div", {});
  const rests = h("ul", {});
  const room = h("ul", {});
  const list = h("ul", { class: "grid" });
  list.style.setProperty("--least", "19rem");
  const made = new Map();
  const element = h("section", { class: "card" }, h("h2", {}, name), facts, room, rests, list);
  const update = ({ dialects = [], base_url: url, connections = {}, keys = {}, deployments = {} }, now) => {
    put(facts, pairs([
      ["Speaks", dialects.join(", ")], ["Address", url],
      ["Connections open, idle", `${number(connections.open)}, ${number(connections.idle)}`],
      ["Keys, at rest", `${number(keys.configured)}, ${number(keys.parked)}`],
    ]));
    put(room, headroom(keys.headroom));
    put(rests, (keys.resting ?? []).map(({ key, why, until, deployment: of }) => h("li", { class: "warn" }, `Key ${key} rests${of ? ` at ${of}` : ""} for another ${span(until - now)}: ${why.replace("_", " ")}`)));
    const names = Object.keys(deployments);
    if (names.join("\n") !== [...made.keys()].join("\n")) {
      for (const gone of made.keys()) if (!deployments[gone]) made.delete(gone);
      for (const name of names) if (!made.has(name)) made.set(name, deployment(name));
      put(list, names.map((name) => made.get(name).element));
    }
    for (const one of names) made.get(one).update(deployments[one], now);
  };
  return { element, update };
}

export default function providers(root) {
  const list = h("div", { class: "grid" });
  const groups = h("p", {});
  list.style.setProperty("--least", "36rem");
  const made = new Map();
  put(root, h("div", { class: "head" }, h("h1", {}, "Providers"), groups), list);
  return ({ state }) => {
    const all = state.providers ?? {};
    const names = Object.keys(all);
    say(groups, state.groups?.length ? `Groups: ${state.groups.join(", ")}` : "No groups are configured");
    if (names.join("\n") !== [...made.keys()].join("\n")) {
      made.clear();
      for (const name of names) made.set(name, provider(name));
      put(list, [...made.values()].map(({ element }) => element));
    }
    for (const name of names) made.get(name).update(all[name], state.time);
  };
}
