// Calls of the admin API. An answer that is not a success becomes an error that says what to do.
const TIMEOUT_MS = 10_000;

export class ApiError extends Error {
  constructor(status, body) {
    super(body.message ?? `HTTP ${status}`);
    this.status = status;
    this.slug = body.error ?? "";
    this.reason = body.reason ?? "";
    this.remedy = body.remedy ?? "";
  }
}

/** Tells that the runner wants to know who we are: main.js shows the sign-in form. */
export const door = new EventTarget();

export async function call(method, path, body) {
  const answer = await fetch(path, {
    method,
    cache: "no-store",
    credentials: "same-origin",
    headers: body === undefined ? {} : { "content-type": "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  let content = {};
  try { content = await answer.json(); } catch { /* told by the status */ }
  if (answer.ok) return content;
  if (answer.status === 401 && path !== "/login") door.dispatchEvent(new Event("closed"));
  throw new ApiError(answer.status, content);
}

export const get = (path) => call("GET", path);
export const post = (path, body) => call("POST", path, body);
export const del = (path) => call("DELETE", path);

export const sessionPath = (id, rest = "") => `/api/sessions/${encodeURIComponent(id)}${rest}`;
