// Speaking to the server's API below /v1.

const KEY = "gateway-key";

export class Problem extends Error {
  constructor(status, body) {
    super(body.detail ?? `the server answered ${status}`);
    this.status = status;
    this.body = body;
  }
}

export function getKey() {
  return sessionStorage.getItem(KEY) ?? "";
}

export function setKey(key) {
  if (key) sessionStorage.setItem(KEY, key);
  else sessionStorage.removeItem(KEY);
}

async function call(path, options = {}) {
  const headers = { ...options.headers };
  if (getKey()) headers.authorization = `Bearer ${getKey()}`;
  let response;
  try {
    response = await fetch(path, { ...options, headers, credentials: "omit", redirect: "error" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, { detail: "the server can't be reached" });
  }
  if (response.ok) return response;
  throw new Problem(response.status, await response.json().catch(() => ({})));
}

export async function get(path, signal) {
  return (await call(path, { signal })).json();
}

export async function post(path, body, headers = {}) {
  const options = { method: "POST", headers: { "content-type": "application/json", ...headers } };
  return (await call(path, { ...options, body: JSON.stringify(body ?? {}) })).json();
}

// Follows a run's events to its end; `hear` gets each one. Goes on after a lost connection where it stopped.
export async function follow(run, hear, signal) {
  let last = "";
  while (!signal.aborted) {
    try {
      const headers = last ? { "last-event-id": last } : {};
      const response = await call(`v1/runs/${encodeURIComponent(run)}/events`, { headers, signal });
      if (response.status === 204) return;
      for await (const event of readEvents(response.body)) {
        last = event.id || last;
        hear(event);
        if (event.kind === "end") return;
      }
    } catch (error) {
      if (error.name === "AbortError") return;
      if (error instanceof Problem && error.status >= 400 && error.status < 500) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}

async function* readEvents(body) {
  let rest = "";
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const fields = Object.fromEntries(block.split("\n").map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 2)]));
        if (fields.data) yield { id: fields.id, kind: fields.event, data: JSON.parse(fields.data) };
      }
    }
  } finally {
    reader.cancel().catch(() => null);
  }
}
