// The only place where elements are made. What is data goes in as text: nothing here makes markup of it, and an
// address may only lead to another page of the console.

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (typeof value === "function") element.addEventListener(name, value);
    else if (name === "href" && !String(value).startsWith("#")) throw new Error("links lead to pages alone");
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(Infinity).filter((child) => child !== undefined && child !== null && child !== false));
  return element;
}

// An element: h("p", { class: "soft", click: listener }, "text", child).
export function h(tag, properties, ...children) {
  return fill(document.createElement(tag), properties, children);
}

// The same for what is drawn.
export function svg(tag, properties, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), properties, children);
}

// Puts text in the place of an element's content, if it is another.
export function say(element, text) {
  const wanted = String(text);
  if (element.textContent !== wanted) element.textContent = wanted;
  return element;
}

// Puts elements in the place of an element's content.
export function put(element, ...children) {
  element.replaceChildren(...children.flat(Infinity).filter(Boolean));
  return element;
}

// A name and a value, one under the other of its kind.
export function pairs(list) {
  return h("dl", { class: "pairs" }, list.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
}

// A table: columns are [title, isNumber]; rows hold text or elements. The first cell of a row is its heading.
export function table(caption, columns, rows) {
  const kind = (at) => ({ class: columns[at]?.[1] ? "number" : "" });
  const cell = (value, at) => h(at === 0 ? "th" : "td", { ...kind(at), scope: at === 0 ? "row" : null }, value ?? "–");
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption },
    h("table", {},
      h("thead", {}, h("tr", {}, columns.map(([title], at) => h("th", { ...kind(at), scope: "col" }, title)))),
      h("tbody", {}, rows.map((row) => h("tr", {}, row.map(cell))))));
}

// A bar that is full to a share; its width is a transform, because styles in markup are not allowed here.
export function meter(share, kind, label) {
  const bar = h("i", { class: kind ?? "" });
  const whole = h("div", { class: "meter", role: "img", "aria-label": label ?? "" }, bar);
  bar.style.transform = `scaleX(${Math.max(0, Math.min(1, share || 0))})`;
  return whole;
}

// A field with its label.
export function field(label, control) {
  return h("label", { class: "field" }, label, control);
}

// A choice among values.
export function select(values, chosen, changed) {
  const options = values.map(([value, text]) => h("option", { value, selected: value === chosen }, text));
  return h("select", { change: changed ?? null }, options);
}

// Tells what came of something, to eyes and to screen readers.
export function announce(text) {
  const said = document.getElementById("said");
  say(said, text);
  clearTimeout(announce.timer);
  announce.timer = setTimeout(() => say(said, ""), 8000);
}

// Asks whether something is to be done; true if so.
export function confirm(title, text, action) {
  return new Promise((resolve) => {
    const done = (answer) => { dialog.close(); dialog.remove(); resolve(answer); };
    const form = h("form", { method: "dialog", submit: (event) => { event.preventDefault(); done(true); } },
      h("h2", { id: "asked" }, title), h("p", {}, text),
      h("div", { class: "row" },
        h("button", { class: "danger", type: "submit" }, action),
        h("button", { type: "button", autofocus: true, click: () => done(false) }, "Leave it")));
    const dialog = h("dialog", { "aria-labelledby": "asked", cancel: (event) => { event.preventDefault(); done(false); } }, form);
    document.body.append(dialog);
    dialog.showModal();
  });
}
