// Calls of this gateway. What changes something bears the token that proves that it comes from this page.

let token;
let signIn = () => {};

// Who is told that a key is asked for.
export function onSignIn(listener) { signIn = listener; }

async function proof() {
  if (token === undefined) {
    const response = await fetch("/api/v1/console/session", { cache: "no-store" });
    token = response.ok ? (await response.json()).token ?? "" : "";
  }
  return token;
}

async function send(path, options) {
  const headers = new Headers(options.headers);
  if ((options.method ?? "GET") !== "GET") headers.set("x-chimera-token", await proof());
  return fetch(path, { ...options, headers });
}

// A call whose answer is looked at by the caller. A token of before the gateway's last start is replaced once.
export async function call(path, options = {}) {
  let response = await send(path, options);
  if (response.status === 403 && token) {
    const before = token;
    token = undefined;
    if ((await proof()) !== before) response = await send(path, options);
  }
  if (response.status === 401) signIn();
  return response;
}

// A call whose answer is JSON; an error says what the gateway said.
export async function ask(path, options = {}) {
  const response = await call(path, options);
  const text = await response.text();
  let body = {};
  try { body = JSON.parse(text); } catch { /* Not JSON: the status tells. */ }
  if (response.ok) return body;
  const said = typeof body.error === "string" ? body.error : body.error?.message;
  throw Object.assign(new Error(said ?? `the gateway answered ${response.status}`), { status: response.status, body });
}

// The same with something to say.
export function tell(path, body, method = "POST", headers = {}) {
  return ask(path, { method, headers: { "content-type": "application/json", ...headers }, body: JSON.stringify(body) });
}

// Opens a session with the admin key; false where it is not the one.
export async function openSession(key) {
  const response = await fetch("/api/v1/console/session", { method: "POST", headers: { authorization: `Bearer ${key}` } });
  if (response.ok) token = (await response.json()).token;
  return response.ok;
}

// The path of a call of the data listener, made through this one.
export const data = (path) => `/api/v1/data${path}`;
