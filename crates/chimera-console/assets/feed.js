// What the gateway tells of itself: all of it once, then what changes, over one stream.

import { call } from "./api.js";

export const seen = { state: {}, history: { times: [], columns: {} }, is: "connecting" };
const watchers = new Set();
let source;
let lost;

// Calls `listener` now and whenever something changed; gives what ends that.
export function watch(listener) {
  watchers.add(listener);
  listener(seen);
  return () => watchers.delete(listener);
}

function changed() {
  for (const listener of watchers) listener(seen);
}

// A JSON merge patch (RFC 7396): null takes away.
export function merge(target, patch) {
  if (patch === null || typeof patch !== "object" || Array.isArray(patch)) return patch;
  // Names come from the configuration, and `__proto__` may be one.
  const known = target !== null && typeof target === "object" && !Array.isArray(target) ? target : {};
  const merged = Object.assign(Object.create(null), known);
  for (const [name, change] of Object.entries(patch)) {
    if (change === null) delete merged[name];
    else merged[name] = merge(merged[name], change);
  }
  return merged;
}

function take(state) {
  const row = state.row;
  seen.state = state;
  const { times, columns, most } = seen.history;
  if (row && !(row.time <= times.at(-1))) {
    times.push(row.time);
    for (const [name, values] of Object.entries(columns)) values.push(row[name] ?? null);
    if (times.length > most) for (const values of [times, ...Object.values(columns)]) values.shift();
  }
  changed();
}

// All that there is to see now, from one call.
export async function load() {
  const response = await call("/api/v1/console/overview");
  if (!response.ok) return false;
  const { state, history } = await response.json();
  let time = 0;
  seen.history = { ...history, times: history.times.map((more) => (time += more)) };
  take(state);
  return true;
}

function set(is) {
  if (seen.is !== is) {
    seen.is = is;
    changed();
  }
}

// Listens while the page is looked at.
export function listen() {
  source?.close();
  clearTimeout(lost);
  if (document.hidden) return;
  source = new EventSource("/api/v1/console/events");
  source.addEventListener("state", (event) => {
    // What came to pass meanwhile is in the history, and in no event.
    if (seen.is === "lost") load().catch(() => {});
    set("live");
    take(JSON.parse(event.data));
  });
  source.addEventListener("delta", (event) => { set("live"); take(merge(seen.state, JSON.parse(event.data))); });
  source.addEventListener("error", () => {
    set("lost");
    // A stream that was refused is not tried again by itself.
    if (source.readyState === EventSource.CLOSED) lost = setTimeout(restart, 3000);
  });
}

async function restart() {
  if (await load().catch(() => false)) listen();
  else lost = setTimeout(restart, 3000);
}

document.addEventListener("visibilitychange", () => { if (document.hidden) source?.close(); else restart(); });
