// Config: what is in force, secrets redacted, and whether a new file would be taken.

import { ask } from "./api.js";
import { announce, confirm, h, put, say } from "./dom.js";

function shown(value) {
  if (value === null || typeof value !== "object") return h("code", {}, JSON.stringify(value));
  if (Array.isArray(value) && value.every((one) => one === null || typeof one !== "object")) return h("code", {}, JSON.stringify(value));
  const members = Object.entries(value);
  if (!members.length) return h("span", { class: "soft" }, "nothing");
  return h("dl", { class: "pairs" }, members.map(([name, member]) => [h("dt", {}, name), h("dd", {}, shown(member))]));
}

export default function config(root) {
  const list = h("div", { class: "grid wide" });
  const result = h("p", { role: "status" });

  async function load() {
    try {
      const file = await ask("/api/v1/config");
      put(list, Object.entries(file).map(([name, section]) => h("section", { class: "card" }, h("h2", {}, name), shown(section))));
    } catch (error) {
      put(list, h("p", { class: "bad" }, error.message));
    }
  }

  async function run(path, good) {
    try {
      await ask(path, { method: "POST" });
      result.className = "good";
      say(result, good);
    } catch (error) {
      result.className = "bad";
      say(result, error.message);
    }
    announce(result.textContent);
  }

  async function reload() {
    const sure = await confirm("Load the configuration anew?", "The file is read and put in force. Requests under way finish under the old one; a file that is not valid is refused.", "Reload");
    if (!sure) return;
    await run("/api/v1/reload", "The new configuration is in force.");
    await load();
  }

  put(root,
    h("div", { class: "head" }, h("h1", {}, "Config"), h("p", {}, "In force now, secrets redacted")),
    h("section", { class: "card" },
      h("div", { class: "row" },
        h("button", { type: "button", id: "check", click: () => run("/api/v1/config/check", "The file is valid: a reload would take it.") }, "Check the file"),
        h("button", { class: "danger", type: "button", id: "reload", click: reload }, "Reload…")),
      result),
    list);
  load();
  return () => {};
}
