// What changed between two texts, word by word.

import { h } from "./dom.js";

// Beyond so many steps a text is shown as it is, and not compared.
const MOST = 4000000;

// Runs of words that stayed, went or came: [kind, text].
export function compare(before, after) {
  const [a, b] = [before, after].map((text) => text.match(/\s+|[\p{L}\p{N}_]+|[^\s\p{L}\p{N}_]/gu) ?? []);
  let start = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start += 1;
  let end = 0;
  while (end < a.length - start && end < b.length - start && a.at(-1 - end) === b.at(-1 - end)) end += 1;
  const runs = [];
  const add = (kind, words) => {
    if (!words.length) return;
    if (runs.at(-1)?.[0] === kind) runs.at(-1)[1] += words.join("");
    else runs.push([kind, words.join("")]);
  };
  add("same", a.slice(0, start));
  middle(a.slice(start, a.length - end), b.slice(start, b.length - end), add);
  add("same", end ? a.slice(-end) : []);
  return runs;
}

// The longest common part of what differs, by the table of lengths.
function middle(a, b, add) {
  if (a.length * b.length > MOST) {
    add("del", a);
    add("ins", b);
    return;
  }
  const wide = b.length + 1;
  const longest = new Uint16Array((a.length + 1) * wide);
  for (let i = a.length - 1; i >= 0; i -= 1) {
    for (let j = b.length - 1; j >= 0; j -= 1) {
      longest[i * wide + j] = a[i] === b[j] ? longest[(i + 1) * wide + j + 1] + 1
        : Math.max(longest[(i + 1) * wide + j], longest[i * wide + j + 1]);
    }
  }
  let [i, j] = [0, 0];
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      add("same", [a[i]]);
      i += 1;
      j += 1;
    } else if (j >= b.length || (i < a.length && longest[(i + 1) * wide + j] >= longest[i * wide + j + 1])) {
      add("del", [a[i]]);
      i += 1;
    } else {
      add("ins", [b[j]]);
      j += 1;
    }
  }
}

// The comparison as an element.
export function diff(before, after) {
  const runs = compare(before, after);
  return h("pre", { class: "diff", tabindex: 0 }, runs.map(([kind, text]) => (kind === "same" ? text : h(kind, {}, text))));
}
