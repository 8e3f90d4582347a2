// The server, as this page uses it. Every request goes to the origin that the page came from.

const KEY = "heedful-key";

/** What the server refused, in its own words; status 0 where nobody answered. */
class ApiError extends Error {
  constructor(message, status = 0, code = null, wait = null) {
    super(message);
    Object.assign(this, { status, code, wait });
  }
}

/** Keep the key for as long as the tab lives; null forgets it. */
export function setKey(key) {
  try {
    if (key === null) sessionStorage.removeItem(KEY);
    else sessionStorage.setItem(KEY, key);
  } catch {
    memory = key; // storage is switched off
  }
}

let memory = null;

function key() {
  try {
    return sessionStorage.getItem(KEY) ?? memory;
  } catch {
    return memory;
  }
}

async function call(path, body = null, signal = null) {
  const headers = headersOf(body);
  const request = { method: body ? "POST" : "GET", headers, signal, body: body && JSON.stringify(body), redirect: "error", cache: "no-store" };
  let response;
  try {
    response = await fetch(path, request);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("unreachable");
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

function headersOf(body) {
  try {
    return new Headers({ ...(key() && { Authorization: `Bearer ${key()}` }), ...(body && { "Content-Type": "application/json" }) });
  } catch {
    throw new ApiError("no key has such letters", 401); // as the server would say, but a header cannot even hold them
  }
}

async function refusal(response) {
  const told = await response.json().catch(() => ({}));
  const { message = response.statusText, code = null } = told.error ?? {};
  return new ApiError(message, response.status, code, Number(response.headers.get("Retry-After")) || null);
}

const json = async (path, body = null) => (await call(path, body)).json();

export const about = () => json("/about");
export const models = async () => (await json("/v1/models")).data;
export const feedbackCounts = () => json("/feedback");
export const sendFeedback = (opinion, run) => json(run ? `/feedback?run_id=${run}` : "/feedback", opinion);
export const reportAddress = async () => (await json("/report", {})).address;

/** Yield the chunks of a streamed answer as they come. */
export async function* streamChat(body, signal) {
  const response = await call("/v1/chat/completions", { ...body, stream: true }, signal);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { value, done } = await reader.read().catch(broken);
    held += value ?? "";
    const lines = held.split(/\r?\n/);
    held = done ? "" : lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data:")) continue;
      const data = line.slice(5).trim();
      if (data === "[DONE]") return;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new ApiError(chunk.error.message, response.status, chunk.error.code);
      yield chunk;
    }
    if (done) throw new ApiError("unreachable"); // the stream ended without its last line
  }
}

function broken(error) {
  if (error.name === "AbortError") throw error;
  throw new ApiError("unreachable");
}
