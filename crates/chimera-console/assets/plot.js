// Lines over time, drawn on SVG. The drawing is stretched over whatever room there is; what is text stands outside.

import { h, say, svg } from "./dom.js";
import { clock } from "./format.js";

const WIDTH = 1000;
const HEIGHT = 100;
const CLASSES = ["one", "two", "three"];

// A maximum that reads well: 1, 2 or 5 times a power of ten.
export function nice(most) {
  if (!(most > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(most));
  return [1, 2, 5, 10].find((step) => step * power >= most) * power;
}

// Runs of neighbours that are known, as points of a path.
function runs(places, values, most) {
  const all = [];
  let run;
  values.forEach((value, at) => {
    if (value === null || value === undefined) run = undefined;
    else {
      if (!run) all.push((run = []));
      run.push(`${places[at].toFixed(1)} ${(HEIGHT - (HEIGHT * Math.min(value, most)) / most).toFixed(2)}`);
    }
  });
  return all;
}

// A single point is drawn as a dash, or it would not be seen.
const line = (all) => all.map((run) => `M${run.length === 1 ? [...run, run[0]].join("h-2L") : run.join("L")}`).join("");
const under = (all) => all.map((run) => `M${run.join("L")}L${run.at(-1).split(" ")[0]} ${HEIGHT}L${run[0].split(" ")[0]} ${HEIGHT}Z`).join("");

// A plot: `series` is a list of { key, label }. `update({ xs, columns })` draws anew; xs are times unless `x` puts
// them into words.
export function plot({ title, series, format, x = clock, top, lowest = 0.001 }) {
  const paths = series.map((_, at) => svg("path", { class: CLASSES[at], "vector-effect": "non-scaling-stroke" }));
  const area = svg("path", { class: "fill one" });
  const cross = svg("line", { class: "cross", y1: 0, y2: HEIGHT, "vector-effect": "non-scaling-stroke", visibility: "hidden" });
  const rules = [0, 0.5, 1].map((share) => svg("line", { class: "rule", x1: 0, x2: WIDTH, y1: HEIGHT * share, y2: HEIGHT * share, "vector-effect": "non-scaling-stroke" }));
  const drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" }, rules, area, paths, cross);
  const [high, middle, empty] = [h("span", { class: "scale high" }), h("span", { class: "scale middle" }), h("span", { class: "empty" })];
  const [from, to] = [h("span"), h("span")];
  const frame = h("div", { class: "frame", tabindex: 0, role: "img" }, drawing, high, middle, empty);
  const values = series.map(() => h("b"));
  const legend = h("div", { class: "legend" }, series.map(({ label }, at) => h("span", { class: CLASSES[at] }, `${label} `, values[at])));
  const figure = h("figure", { class: "plot" }, h("div", { class: "row apart" }, h("h3", {}, title), legend), frame, h("div", { class: "times" }, from, to));

  let drawn = { xs: [], places: [], columns: {} };
  let at = null;

  const show = () => {
    const last = drawn.xs.length - 1;
    const index = at === null ? last : Math.min(at, last);
    series.forEach(({ key }, n) => say(values[n], index < 0 ? "–" : format(drawn.columns[key]?.[index])));
    const away = at === null || index < 0;
    cross.setAttribute("visibility", away ? "hidden" : "visible");
    if (!away) {
      cross.setAttribute("x1", drawn.places[index]);
      cross.setAttribute("x2", drawn.places[index]);
    }
    say(to, index < 0 ? "" : x(drawn.xs[index]));
    const said = series.map(({ key, label }) => `${label} ${index < 0 ? "not known" : format(drawn.columns[key]?.[index])}`);
    frame.setAttribute("aria-label", `${title}${index < 0 ? "" : ` at ${x(drawn.xs[index])}`}: ${said.join(", ")}`);
  };

  const move = (index) => {
    at = index === null || !drawn.xs.length ? null : Math.max(0, Math.min(drawn.xs.length - 1, index));
    show();
  };
  frame.addEventListener("pointermove", (event) => {
    const box = frame.getBoundingClientRect();
    const place = ((event.clientX - box.left) / box.width) * WIDTH;
    const near = drawn.places.findIndex((other) => other >= place);
    move(near < 0 ? drawn.xs.length - 1 : near);
  });
  frame.addEventListener("pointerleave", () => move(null));
  frame.addEventListener("blur", () => move(null));
  frame.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -12, PageDown: 12, Home: -Infinity, End: Infinity }[event.key];
    if (event.key === "Escape") move(null);
    if (step === undefined) return;
    event.preventDefault();
    move((at ?? drawn.xs.length - 1) + step);
  });

  const update = ({ xs, columns }) => {
    const all = series.flatMap(({ key }) => columns[key] ?? []).filter((value) => value !== null && value !== undefined);
    const most = top ?? nice(Math.max(lowest, ...all));
    const [first, last] = [xs[0], xs.at(-1)];
    const places = xs.map((place) => (last > first ? ((place - first) / (last - first)) * WIDTH : WIDTH));
    drawn = { xs: [...xs], places, columns };
    const known = series.map(({ key }) => runs(places, columns[key] ?? [], most));
    known.forEach((all, n) => paths[n].setAttribute("d", line(all)));
    area.setAttribute("d", series.length === 1 || series[0].fill ? under(known[0]) : "");
    say(high, all.length ? format(most) : "");
    say(middle, all.length ? format(most / 2) : "");
    say(empty, all.length ? "" : "Nothing to show yet");
    say(from, xs.length ? x(first) : "");
    show();
  };
  return { element: figure, update };
}

// The same over the last hour's history, drawn again only when it has grown.
export function historyPlot(options) {
  const made = plot(options);
  let last;
  return {
    element: made.element,
    update: ({ times, columns }) => {
      if (times.at(-1) === last && last !== undefined) return;
      last = times.at(-1);
      made.update({ xs: times, columns });
    },
  };
}
