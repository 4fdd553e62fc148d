// The gateway's API: calls with the session's token, and server-sent events. Events are read by fetch: EventSource
// can't send the token in a header, and a token must not be part of a URL.

const SILENCE_MS = 45_000; // three heartbeats; a connection that is silent for longer counts as dead
const MAX_BACKOFF_MS = 15_000;

export class Refused extends Error {
  constructor(status, type, retryAfterS) {
    super(`refused with ${status}`);
    this.status = status;
    this.type = type;
    this.retryAfterS = retryAfterS;
  }
}

export async function call(method, path, { token, body, signal, headers } = {}) {
  const all = { ...headers };
  if (token) all.Authorization = `Bearer ${token}`;
  if (body) all["Content-Type"] = "application/json";
  const response = await fetch(path, { method, headers: all, body: body && JSON.stringify(body), signal, cache: "no-store" });
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({}));
  throw new Refused(response.status, problem.type || "", Number(response.headers.get("Retry-After")) || 0);
}

export const pause = (ms, signal) =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });

// Follows the replies; returns a function that stops it. `after()` gives the last sequence number seen, so that a new
// connection continues after it. `on` has the callbacks reply, failed, state and unauthorized.
export function follow(token, after, on) {
  const stopping = new AbortController();
  let nudge = () => {};
  const online = () => nudge();
  addEventListener("online", online);

  async function run() {
    let backoff = 500;
    while (!stopping.signal.aborted) {
      try {
        await connect(token, after(), stopping.signal, on, () => (backoff = 500));
      } catch (error) {
        if (stopping.signal.aborted) return;
        if (error.status === 401) return on.unauthorized();
        backoff = Math.max(backoff, (error.retryAfterS || 0) * 1000);
      }
      if (stopping.signal.aborted) return;
      on.state("reconnecting");
      const woken = new AbortController();
      nudge = () => woken.abort();
      stopping.signal.addEventListener("abort", nudge, { once: true });
      await pause(backoff * (0.75 + Math.random() / 2), woken.signal);
      backoff = Math.min(MAX_BACKOFF_MS, backoff * 2);
    }
  }
  run();
  return () => {
    removeEventListener("online", online);
    stopping.abort();
  };
}

async function connect(token, after, signal, on, opened) {
  const silent = new AbortController();
  let timer = setTimeout(() => silent.abort(), SILENCE_MS);
  const quit = () => silent.abort();
  signal.addEventListener("abort", quit, { once: true });
  try {
    const headers = { Accept: "text/event-stream", "Last-Event-ID": String(after) };
    const response = await call("GET", "/v1/stream", { token, signal: silent.signal, headers });
    opened();
    on.state("online");
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let buffer = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      clearTimeout(timer);
      timer = setTimeout(() => silent.abort(), SILENCE_MS);
      const blocks = (buffer + value).split("\n\n");
      buffer = blocks.pop();
      blocks.forEach((block) => dispatch(block, on));
    }
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", quit);
  }
}

function dispatch(block, on) {
  const fields = {};
  for (const line of block.split("\n")) {
    const colon = line.indexOf(": ");
    if (colon > 0) fields[line.slice(0, colon)] = line.slice(colon + 2);
  }
  if (fields.data && on[fields.event]) on[fields.event](JSON.parse(fields.data));
}
