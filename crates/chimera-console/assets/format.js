// Numbers and times for people.

const NONE = "–";
const known = (value) => typeof value === "number" && Number.isFinite(value);

// Three digits, and a letter for thousands and beyond.
export function number(value) {
  if (!known(value)) return NONE;
  for (const [size, letter] of [[1e9, "G"], [1e6, "M"], [1e4, "k"]]) {
    if (Math.abs(value) >= size) return `${digits(value / (letter === "k" ? 1e3 : size))} ${letter}`;
  }
  return digits(value);
}

function digits(value) {
  const size = Math.abs(value);
  if (Number.isInteger(value) && size < 1e4) return String(value);
  return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : size >= 0.1 ? 2 : 3);
}

export function percent(share, places = 1) {
  return known(share) ? `${(share * 100).toFixed(share > 0.999 && share < 1 ? 2 : places)} %` : NONE;
}

// A time that something took.
export function took(seconds) {
  if (!known(seconds)) return NONE;
  if (seconds === 0) return "0 s";
  if (seconds < 1e-3) return `${digits(seconds * 1e6)} µs`;
  if (seconds < 1) return `${digits(seconds * 1e3)} ms`;
  return seconds < 120 ? `${digits(seconds)} s` : span(seconds);
}

// A time that passes.
export function span(seconds) {
  if (!known(seconds)) return NONE;
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 120) return `${whole} s`;
  if (whole < 7200) return `${Math.round(whole / 60)} min`;
  return whole < 172800 ? `${Math.round(whole / 3600)} h` : `${Math.round(whole / 86400)} days`;
}

export function bytes(value) {
  if (!known(value)) return NONE;
  let size = value;
  for (const unit of ["B", "KiB", "MiB"]) {
    if (Math.abs(size) < 1024) return `${digits(Math.round(size * 100) / 100)} ${unit}`;
    size /= 1024;
  }
  return `${digits(size)} GiB`;
}

// Of whatever currency the prices are.
export function money(value) {
  return known(value) ? value.toFixed(value < 0.1 ? 4 : 2) : NONE;
}

export function clock(time) {
  return new Date(time * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
}

export function day(time) {
  return new Date(time * 1000).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
}
