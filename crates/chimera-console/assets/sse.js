// Cuts a stream of bytes into server-sent events.

// Calls `each` with { event, data } as they come, and `raw` with all text.
export async function events(body, each, raw = () => {}) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    raw(value);
    rest += value;
    const blocks = rest.split(/\r?\n\r?\n/);
    rest = blocks.pop();
    for (const block of blocks) {
      const fields = block.split(/\r?\n/);
      const of = (name) => fields.filter((line) => line.startsWith(`${name}:`)).map((line) => line.slice(name.length + 1).replace(/^ /, "")).join("\n");
      const data = of("data");
      if (data) each({ event: of("event"), data });
    }
  }
}
