// Requests to the service, with the key of this tab if there is one.

const KEPT = "crosslayer-key";

/** A request that the service rejected, with its explanation (RFC 9457). */
export class Rejection extends Error {
  constructor(status, problem) {
    const words = problem.detail ?? `the service responded with status ${status}`;
    super(words.charAt(0).toUpperCase() + words.slice(1));
    this.status = status;
    this.errors = problem.errors ?? [];
  }
}

export const key = () => sessionStorage.getItem(KEPT);

export const useKey = (text) => sessionStorage.setItem(KEPT, text);

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
    throw new Rejection(0, { detail: "the service cannot be reached; is it still running?" });
  }
  if (!response.ok) throw new Rejection(response.status, await response.json().catch(() => ({})));
  return response;
}

/** Send a request; returns the JSON of the response. */
export async function ask(path, options) {
  return (await send(path, options)).json();
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
