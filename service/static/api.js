// Requests to the service, with the key of this tab if there is one.

const KEPT = "crosslayer-key";

/** Parameters in messages, as the page's fields are called. */
const inFields = (text) => text.replace(/\bclass_names\b/g, "class names");

/** A request that the service rejected, with its explanation (RFC 9457). */
export class Rejection extends Error {
  constructor(status, problem) {
    const words = inFields(problem.detail ?? `the service responded with status ${status}`);
    super(words.charAt(0).toUpperCase() + words.slice(1));
    this.status = status;
    this.errors = problem.errors ?? [];
  }
}

export const key = () => sessionStorage.getItem(KEPT);

export const useKey = (text) => sessionStorage.setItem(KEPT, text);

const unreachable = () => new Rejection(0, { detail: "the service cannot be reached; is it still running?" });

const address = (path) => new URL(path.replace(/^\//, ""), document.baseURI);

async function send(path, { method = "GET", body, headers = {}, signal } = {}) {
  const all = { ...headers };
  if (key()) all.Authorization = `Bearer ${key()}`;
  if (body !== undefined) all["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(address(path), { method, headers: all, signal, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw unreachable();
  }
  if (!response.ok) throw new Rejection(response.status, await response.json().catch(() => ({})));
  return response;
}

/** Send a request; returns the JSON of the response. */
export async function ask(path, options) {
  const response = await send(path, options);
  return response.status === 204 ? null : response.json();
}

/** Post a file; `sent` is called with the share of it that was sent, which only an XMLHttpRequest knows. */
export function upload(path, file, sent) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", address(path));
    request.setRequestHeader("Content-Type", "application/octet-stream");
    if (key()) request.setRequestHeader("Authorization", `Bearer ${key()}`);
    request.responseType = "json";
    request.upload.addEventListener("progress", ({ loaded, total }) => sent(loaded / total));
    request.addEventListener("load", () => (request.status < 300 ? resolve(request.response) : reject(new Rejection(request.status, request.response ?? {}))));
    request.addEventListener("error", () => reject(unreachable()));
    request.send(file);
  });
}

/** Post a search request: the status says whether the response is an answer (200) or a job (202). */
export async function post(path, body) {
  const response = await send(path, { method: "POST", body });
  return { status: response.status, content: await response.json() };
}

/** Save a response as a file, where a link could not send the key. */
export async function save(path, name) {
  const blob = await (await send(path)).blob();
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

/** Connect to a stream of the events after a given one; an EventSource could not send the key. */
export async function events(path, after, signal) {
  const headers = { Accept: "text/event-stream", ...(after ? { "Last-Event-ID": String(after) } : {}) };
  return read(await send(path, { headers, signal }));
}

/** The events of a response, in the format of the HTML standard. */
async function* read(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let unread = "";
  while (true) {
    const { done, value } = await reader.read();
    if (done) return;
    const blocks = (unread + value).split("\n\n");
    unread = blocks.pop();
    for (const block of blocks) {
      const found = { id: "", event: "", data: "" };
      for (const line of block.split("\n")) {
        const [, name, text] = /^(id|event|data): ?(.*)$/.exec(line) ?? [];
        if (name) found[name] += text;
      }
      if (found.data) yield { number: Number(found.id), kind: found.event, data: JSON.parse(found.data) };
    }
  }
}
