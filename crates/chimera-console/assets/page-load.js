// Load: what runs of the load tester came to.

import { ask } from "./api.js";
import { h, pairs, put, table } from "./dom.js";
import { bytes, day, number, percent, span, took } from "./format.js";
import { plot } from "./plot.js";

const PERCENTILES = ["p50", "p90", "p95", "p99", "p999", "max"];

export default function load(root) {
  const list = h("div", {});
  const report = h("div", { class: "stack" });
  put(root, h("div", { class: "head" }, h("h1", {}, "Load"), h("p", {}, "Reports of chimera-load")), h("section", { class: "card" }, list), report);

  async function open(name) {
    try {
      put(report, shown(name, await ask(`/api/v1/load-reports/${encodeURIComponent(name)}`)));
    } catch (error) {
      put(report, h("p", { class: "bad" }, error.message));
    }
  }

  ask("/api/v1/load-reports").then(({ configured, reports }) => {
    if (!configured) return put(list, h("p", { class: "soft" }, "No folder of reports is configured. Set console.load_reports to where chimera-load writes its JSON."));
    if (!reports.length) return put(list, h("p", { class: "soft" }, "There are no reports in the folder yet."));
    put(list, table("Reports", [["Report"], ["Written"], ["Size", true]], reports.map(({ name, modified, bytes: size }) => [
      h("button", { type: "button", class: "link", click: () => open(name) }, name), day(modified), bytes(size)])));
    return open(reports[0].name);
  }).catch((error) => put(list, h("p", { class: "bad" }, error.message)));
  return () => {};
}

function shown(name, run) {
  const { overall = {}, timeline = [], verdicts = [], curve = [], mixes = {} } = run;
  const time = plot({ title: "Latency over time", format: took, x: (at) => `${number(at)} s`, series: [{ key: "p50", label: "p50" }, { key: "p95", label: "p95" }, { key: "p99", label: "p99" }] });
  const rate = plot({ title: "Good answers a second", format: number, x: (at) => `${number(at)} s`, series: [{ key: "throughput", label: "answered", fill: true }, { key: "offered", label: "offered" }] });
  const shape = plot({ title: "Latency by percentile", format: took, x: (at) => curve[Math.round(at)] ? `${number(curve[Math.round(at)][0])} %` : "", series: [{ key: "latency", label: "at most" }] });
  const column = (key) => timeline.map((row) => row[key] ?? null);
  const xs = timeline.map(({ at }) => at);
  time.update({ xs, columns: { p50: column("p50"), p95: column("p95"), p99: column("p99") } });
  rate.update({ xs, columns: { throughput: column("throughput"), offered: column("offered") } });
  shape.update({ xs: curve.map((_, at) => at), columns: { latency: curve.map(([, latency]) => latency) } });
  const held = !run.refused && verdicts.every((verdict) => verdict.held);
  return [
    h("section", { class: "card" },
      h("div", { class: "row apart" }, h("h2", {}, `${run.scenario ?? name} (${run.shape ?? "unknown"})`), h("span", { class: `badge ${held ? "good" : "bad"}` }, held ? "held" : "did not hold")),
      run.refused && h("p", { class: "bad" }, `The result does not count: ${run.refused}`),
      pairs([
        ["Target", String(run.target ?? "–")], ["Began", run.began ? day(run.began) : "–"], ["Counted for", span(run.seconds)],
        ["Good, failed", `${number(overall.ok)}, ${number(overall.failed)}`], ["Error rate", percent(overall.error_rate, 2)],
        ["Good answers a second", number(overall.throughput)], ["Hit rate", percent(overall.hit_rate)],
        ["Tokens a second", number(overall.tokens_per_second)],
      ])),
    verdicts.length && h("section", { class: "card" }, h("h2", {}, "Thresholds"),
      table("Thresholds", [["Threshold"], ["Was"], ["Held"]], verdicts.map(({ threshold, shown, held }) => [
        threshold, shown, h("span", { class: held ? "good" : "bad" }, held ? "yes" : "no")]))),
    h("section", { class: "card" }, h("h2", {}, "Latency by kind"),
      table("Latency by kind", [["Kind"], ["Good", true], ["Failed", true], ...PERCENTILES.map((name) => [name, true])],
        [["all", overall], ...Object.entries(mixes)].map(([kind, numbers]) => [
          kind, number(numbers.ok), number(numbers.failed), ...PERCENTILES.map((at) => took(numbers.latency?.[at]))]))),
    h("div", { class: "grid wide" }, [time, rate, shape].map(({ element }) => h("section", { class: "card" }, element))),
  ].filter(Boolean);
}
