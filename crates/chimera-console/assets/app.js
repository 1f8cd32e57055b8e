// The frame: which page is shown, what it is told, the theme, and the key where one is asked for.

import { onSignIn, openSession } from "./api.js";
import { announce, h, put, say } from "./dom.js";
import { listen, load, seen, watch } from "./feed.js";
import overview from "./page-overview.js";

// A page is made when it is first looked at. It gets the element to fill, and gives what takes in the state.
const PAGES = [
  ["", "Overview", async () => overview],
  ["cache", "Cache", async () => (await import("./page-cache.js")).default],
  ["providers", "Providers", async () => (await import("./page-providers.js")).default],
  ["transform", "Transform", async () => (await import("./page-transform.js")).default],
  ["optimizer", "Optimizer", async () => (await import("./page-optimizer.js")).default],
  ["load", "Load", async () => (await import("./page-load.js")).default],
  ["playground", "Playground", async () => (await import("./page-playground.js")).default],
  ["config", "Config", async () => (await import("./page-config.js")).default],
];

const main = document.getElementById("main");
const live = document.getElementById("live");
let leave = () => {};
let wanted = 0;

async function show(moved) {
  const mine = (wanted += 1);
  const path = location.hash.replace(/^#\/?/, "").split("/")[0];
  const [name, title, make] = PAGES.find(([name]) => name === path) ?? PAGES[0];
  for (const link of document.querySelectorAll("#pages a")) {
    if (link.getAttribute("href") === `#/${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  leave();
  leave = () => {};
  const page = await make().catch(() => null);
  // Somebody may have gone on to another one while this one came.
  if (mine !== wanted) return;
  const root = h("div", { class: "page" });
  const update = page ? page(root) : put(root, h("p", {}, "This page could not be loaded. Is the gateway there?"));
  put(main, ...root.childNodes);
  document.title = `${title} · Chimera`;
  if (typeof update === "function") {
    const end = watch(update);
    leave = () => { end(); update.leave?.(); };
  }
  if (moved) main.focus({ preventScroll: true });
}

function themes() {
  const button = document.getElementById("theme");
  const words = { "": "Theme: system", light: "Theme: light", dark: "Theme: dark" };
  const set = (theme) => {
    if (theme) document.documentElement.dataset.theme = theme;
    else delete document.documentElement.dataset.theme;
    say(button, words[theme]);
  };
  let theme = "";
  try { theme = localStorage.getItem("theme") ?? ""; } catch { /* Not kept here: the system's it is. */ }
  set(words[theme] ? theme : "");
  button.addEventListener("click", () => {
    const order = Object.keys(words);
    theme = order[(order.indexOf(theme) + 1) % order.length];
    set(theme);
    try { localStorage.setItem("theme", theme); } catch { /* It lasts as long as this page. */ }
  });
}

// Asks for the admin key. It is sent once, for a cookie that scripts cannot read, and kept nowhere.
function askForKey() {
  if (document.getElementById("sign-in")) return;
  const key = h("input", { type: "password", id: "key", autocomplete: "current-password", required: true });
  const why = h("p", { class: "bad", role: "alert" });
  const form = h("form", { class: "card", id: "sign-in" },
    h("h1", {}, "Sign in"), h("label", { class: "field" }, "Admin key", key), why, h("button", { class: "main", type: "submit" }, "Open the console"));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (!(await openSession(key.value).catch(() => false))) return say(why, "This is not the key.");
    key.value = "";
    form.remove();
    announce("Signed in");
    start();
  });
  leave();
  put(main, form);
  key.focus();
}

async function start() {
  const here = await load().catch(() => false);
  if (document.getElementById("sign-in")) return;
  await show(false);
  if (here) listen();
}

put(document.getElementById("pages"), h("ul", {}, PAGES.map(([name, title]) => h("li", {}, h("a", { href: `#/${name}` }, title)))));
onSignIn(askForKey);
themes();
watch(() => {
  live.dataset.state = seen.is;
  say(live, { connecting: "Connecting", live: "Live", lost: "No connection" }[seen.is]);
});
addEventListener("hashchange", () => { if (!document.getElementById("sign-in") && location.hash.startsWith("#/")) show(true); });
start();
