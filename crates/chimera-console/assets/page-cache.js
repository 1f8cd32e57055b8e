// Cache: what its tiers hold and do, and the lever that makes it forget.

import { ask } from "./api.js";
import { announce, confirm, field, h, meter, pairs, put, say, select } from "./dom.js";
import { bytes, number, percent, took } from "./format.js";
import { historyPlot } from "./plot.js";

const NAMES = { l1: "Memory", l2: "Second tier" };
const SCOPES = [["", "Everything"], ["tenant", "A client's answers"], ["model", "A model's answers"], ["tag", "A tag"], ["key", "One key"], ["prefix", "A key's beginning"]];

function tier([name, tier]) {
  const { hit_rate: rate = {}, latency_seconds: { get = {}, put: written = {} } = {}, evictions = {} } = tier;
  const full = tier.capacity_bytes ? tier.bytes / tier.capacity_bytes : undefined;
  return h("section", { class: "card" },
    h("div", { class: "row apart" },
      h("h2", {}, `${NAMES[name] ?? name} (${name})`),
      h("span", { class: `badge ${tier.up ? "good" : "bad"}` }, tier.up ? "answers" : tier.why ?? "does not answer")),
    h("p", { class: "big" }, percent(rate["5m"] ?? rate.total), h("small", {}, rate["5m"] === undefined ? "hit rate since the start" : "hit rate of five minutes")),
    full !== undefined && meter(full, "", `${percent(full)} full`),
    full !== undefined && h("p", { class: "label" }, `${bytes(tier.bytes)} of ${bytes(tier.capacity_bytes)} in ${number(tier.entries)} entries`),
    pairs([
      ["Hits, misses", `${number(tier.hits)}, ${number(tier.misses)}`],
      ["Hit rate 1 min, 1 h", `${percent(rate["1m"])}, ${percent(rate["1h"])}`],
      ["Look-up p50, p99", `${took(get.p50)}, ${took(get.p99)}`],
      ["Write p50, p99", `${took(written.p50)}, ${took(written.p99)}`],
      ["Evicted for room", number(evictions.room)],
      ["Expired", number(evictions.expired)],
      ["Invalidated", number(evictions.invalidated)],
      ["Refused as too large", number(evictions.refused)],
      ["Bad values", number(tier.bad_values)],
    ]));
}

function moves({ moves = {}, writes = {}, tracking = {}, old = {}, renewals, flights }) {
  const words = { on: "on", lost: "lost", none: "not used" };
  return pairs([
    ["Calls under way that others may join", number(flights)],
    ["Promoted into memory", number(moves.promote)],
    ["Demoted from memory", number(moves.demote)],
    ["Written to the second tier", number(writes.stored)],
    ["Writes refused, failed, dropped", `${number(writes.refused)}, ${number(writes.failed)}, ${number(writes.dropped)}`],
    ["Writes waiting", number(writes.queued)],
    ["Told of others' changes", words[tracking.state] ?? "–"],
    ["Old answers served, or for errors", `${number(old.stale)}, ${number(old.error)}`],
    ["Renewed early, renewals now", `${number(old.early)}, ${number(renewals)}`],
  ]);
}

function purging() {
  const value = h("input", { id: "purge-value", required: true, autocomplete: "off", maxlength: 200 });
  const named = field("Which", value);
  named.hidden = true;
  const scope = select(SCOPES, "", () => {
    named.hidden = !scope.value;
    value.required = Boolean(scope.value);
  });
  value.required = false;
  const result = h("p", { class: "label", role: "status" });
  return h("form", { class: "card", submit: async (event) => {
    event.preventDefault();
    const chosen = scope.value;
    const what = chosen ? `${SCOPES.find(([name]) => name === chosen)[1].toLowerCase()}: ${value.value}` : "everything";
    const sure = await confirm("Forget cached answers?", `This forgets ${what}. The answers have to be made, and paid for, again.`, "Forget them");
    if (!sure) return;
    try {
      const query = chosen ? `?${chosen}=${encodeURIComponent(value.value)}` : "";
      const { purged, purged_l2: far } = await ask(`/api/v1/cache/purge${query}`, { method: "POST" });
      say(result, `${purged} forgotten in memory${far === undefined ? "" : `, ${far} in the second tier`}.`);
      announce(`${purged} cached answers were forgotten`);
    } catch (error) {
      say(result, error.message);
    }
  } },
  h("h2", {}, "Forget answers"),
  field("What", scope), named,
  h("div", { class: "row" }, h("button", { class: "danger", type: "submit", id: "purge" }, "Forget…")), result);
}

export default function cache(root) {
  const tiers = h("div", { class: "grid wide" });
  const moving = h("section", { class: "card" });
  const rate = historyPlot({ title: "Hit rate of the last hour", format: percent, top: 1, series: [{ key: "hit", label: "hits" }] });
  put(root,
    h("div", { class: "head" }, h("h1", {}, "Cache"), h("p", {}, "Identical questions are answered once")),
    tiers, h("section", { class: "card" }, rate.element),
    h("div", { class: "grid wide" }, moving, purging()));
  return ({ state, history }) => {
    const { cache = {} } = state;
    put(tiers, Object.entries(cache.tiers ?? {}).map(tier));
    put(moving, h("h2", {}, "Moves"), moves(cache));
    rate.update(history);
  };
}
