// Searches: the one that is followed while it runs, and the list of recent ones.

import { ask, events } from "./api.js";
import { nameOf } from "./datasets.js";
import { byId, element, refill, speaker, whileBusy } from "./dom.js";
import * as words from "./words.js";

const ENDED = ["finished", "failed", "cancelled"];
const SAID_EVERY = 0.1; // of the budget: not every evaluation is announced
const RETRY_MS = 2000;
const WORKERS_MS = 5000; // between checks for a worker
// Errors that end the following of a search; all others may be temporary.
const LOST = {
  401: "The key is no longer valid, so this search is no longer followed.",
  403: "The key no longer allows following this search.",
  404: "This search was deleted. Its results are kept.",
};

export const ended = (job) => ENDED.includes(job.state);

const say = speaker("live-said", 300);

/** Show a warning beside the search; a repeated one only once, as screen readers announce each change. */
function warn(text) {
  if (byId("live-alert").textContent !== text) byId("live-alert").textContent = text;
}

const title = (asked) => `${nameOf(asked.dataset)}, ${words.goal(asked)}`;

const settings = (asked) =>
  `${asked.effort} effort, ${asked.hardware}, ${asked.budget} evaluations, ${asked.space === "default" ? "" : `${asked.space} space, `}seed ${asked.seed}`;

/** The search that is followed: its events become a progress bar, a status text, and points in the chart. */
export class Followed {
  /**
   * @param arrived Called after evaluations have arrived.
   * @param changed Called when the search has ended.
   */
  constructor({ arrived, changed }) {
    this.arrived = arrived;
    this.changed = changed;
    this.job = null;
    this.points = [];
    byId("cancel").addEventListener("click", () => this.#act("cancel"));
    byId("resume").addEventListener("click", () => this.#act("resume"));
    byId("leave").addEventListener("click", () => this.leave());
    setInterval(() => this.job && !this.#over() && this.#show(), 1000);
  }

  /** Follow a job from its first event, instead of the one followed before. */
  async follow(job, { before = [] } = {}) {
    this.stop?.abort();
    const stop = (this.stop = new AbortController());
    // The events repeat the number of evaluations from the beginning.
    Object.assign(this, { job: { ...job, evaluations: 0 }, before, points: [], phase: "", note: "", plan: "", began: null, lost: "", alone: false, lastEvent: 0 });
    byId("live").hidden = false;
    warn("");
    this.#show();
    this.arrived();
    while (true) {
      try {
        const stream = await events(job.links.events, this.lastEvent, stop.signal);
        warn("");
        for await (const event of stream) this.#take(event);
        this.job = await ask(job.links.self, { signal: stop.signal });
        if (ended(this.job)) break;
      } catch (error) {
        if (stop.signal.aborted) return;
        this.lost = LOST[error.status] ?? "";
        if (this.lost) break;
        warn(error.status ? error.message : "The connection is lost; reconnecting.");
      }
      await new Promise((resolve) => { setTimeout(resolve, RETRY_MS); });
      if (stop.signal.aborted) return;
    }
    this.#show();
    this.arrived();
    await this.changed();
  }

  leave() {
    this.stop?.abort();
    this.job = null;
    this.points = [];
    byId("live").hidden = true;
    byId(byId("results").hidden ? "search" : "target").focus({ preventScroll: true });
    this.arrived();
  }

  /** Whether its points belong to a view. */
  matches({ dataset, hardware, effort }) {
    const asked = this.job?.request;
    return asked?.dataset === dataset && asked.hardware === hardware && asked.effort === effort;
  }

  /** Whether no more events are expected. */
  #over() {
    return this.lost !== "" || ended(this.job);
  }

  #take({ number, kind, data }) {
    this.lastEvent = number;
    if (kind === "state") {
      const changed = this.job.state !== data.state;
      this.job = { ...this.job, state: data.state, cancelling: data.cancelling, error: data.error ?? null, confirmed: data.confirmed ?? this.job.confirmed };
      if (data.state === "running" && !data.cancelling) this.began = { at: Date.parse(data.at), after: this.job.evaluations };
      if (changed) Object.assign(this, { phase: "", note: "", alone: false });
      this.endedAt = Date.parse(data.at);
    } else if (kind === "evaluated") {
      this.phase = "";
      this.job = { ...this.job, evaluations: data.number };
      if (!data.stopped) this.points.push({ id: data.id, accuracy: data.accuracy, energy_pj: data.energy_pj });
      this.#gather();
    } else if (kind === "testing") {
      this.phase = `The search is over: measuring ${data.count} configuration${data.count === 1 ? "" : "s"} on test images.`;
    } else if (kind === "confirming") {
      this.phase = `Confirming ${words.short(data.candidate)} by ${data.runs} runs.`;
    } else if (kind === "failed") {
      this.note = `One evaluation failed: ${data.error}`;
    } else if (kind === "note") {
      this.note = data.text;
    } else if (kind === "plan") {
      this.plan = `The search begins; ${data.text}.`;
    }
    this.#show();
  }

  /** Report points in batches: those of an earlier search all arrive at once. */
  #gather() {
    if (this.gathering) return;
    this.gathering = true;
    setTimeout(() => { this.gathering = false; this.arrived(); }, 60);
  }

  #act(verb) {
    return whileBusy(byId(verb), async () => {
      warn("");
      try {
        const job = await ask(this.job.links[verb], { method: "POST" });
        if (verb === "resume") {
          this.follow(job, { before: this.before });
        } else {
          this.job = { ...this.job, state: job.state, cancelling: job.cancelling };
          this.#show();
        }
      } catch (error) {
        warn(error.message);
      }
    });
  }

  #state() {
    const { job } = this;
    const made = `${job.evaluations} of ${job.request.budget} evaluations`;
    if (this.lost) return this.lost;
    if (job.state === "queued") return this.alone ? "Waiting: no worker is running. On the machine of the service, start one with: search worker" : "Waiting for a worker.";
    if (job.state === "failed") return `Failed after ${made}: ${job.error ?? "unknown reason"}`;
    if (job.state === "cancelled") return `Cancelled after ${made}. Its results are kept.`;
    const seconds = this.began ? ((job.state === "finished" ? this.endedAt : Date.now()) - this.began.at) / 1000 : 0;
    if (job.state === "finished") return `Finished: ${made} in ${words.duration(seconds)}. Its answer is ${job.confirmed ? "" : "not "}confirmed.`;
    if (job.cancelling) return `Cancelling after ${made}, as soon as its worker notices.`;
    if (this.phase) return `${this.phase} ${words.duration(seconds)} so far.`;
    if (!job.evaluations) return this.plan || "The search is starting.";
    const since = job.evaluations - (this.began?.after ?? 0);
    const left = since > 0 && job.evaluations < job.request.budget ? ` About ${words.duration((seconds / since) * (job.request.budget - job.evaluations))} left, and then confirmation.` : "";
    return `${made} in ${words.duration(seconds)}.${left}`;
  }

  #show() {
    const { job } = this;
    if (!job) return;
    const over = this.#over(), progress = byId("progress"), state = this.#state();
    byId("live-heading").textContent = `Search: ${title(job.request)}`;
    progress.max = job.request.budget;
    if (job.state === "queued" && !over) progress.removeAttribute("value");
    else progress.value = job.evaluations;
    byId("live-words").textContent = state;
    byId("live-note").textContent = this.note || settings(job.request);
    byId("live-note").classList.toggle("settings", !this.note);
    const mine = job.may_change && !this.lost;
    const gone = [[byId("cancel"), over || job.cancelling || !mine], [byId("resume"), (job.state !== "failed" && job.state !== "cancelled") || !mine]];
    for (const [button, hidden] of gone) {
      if (hidden && button === document.activeElement) byId("live").focus({ preventScroll: true });
      button.hidden = hidden;
    }
    const share = job.evaluations / job.request.budget;
    const key = `${job.state} ${job.cancelling} ${this.lost} ${this.alone} ${this.phase} ${Math.floor(share / SAID_EVERY)}`;
    if (key !== this.said) say(state);
    this.said = key;
    if (job.state === "queued" && !over) this.#askForWorkers();
  }

  async #askForWorkers() {
    if (this.asking) return;
    this.asking = true;
    setTimeout(() => { this.asking = false; }, WORKERS_MS);
    const { workers } = await ask("readyz").catch(() => ({ workers: null }));
    if (workers !== null) this.alone = workers === 0;
  }
}

/** The list of recent searches, each with a button to show it. */
export function listJobs(jobs, show) {
  const label = (job) => (job.cancelling ? "cancelling" : job.state === "finished" ? (job.confirmed ? "confirmed" : "not confirmed") : job.state);
  if (!jobs.length) {
    refill(byId("jobs"), element("li", { class: "note" }, "There are none yet."));
    return;
  }
  refill(byId("jobs"), jobs.map((job) =>
    element("li", {},
      element("div", {}, element("b", {}, title(job.request)), " ", element("span", { class: `badge ${job.state === "finished" && job.confirmed ? "sure" : job.state === "failed" ? "bad" : "plain"}` }, label(job)),
        element("small", {}, `${settings(job.request)}; ${job.evaluations} made, ${words.ago(job.created_at)}${job.error ? `; ${job.error}` : ""}`)),
      element("button", { type: "button", "data-focus": job.id, "aria-label": `${ended(job) ? "Show" : "Follow"} the search of ${title(job.request)}, ${words.ago(job.created_at)}`, onclick: () => show(job) }, ended(job) ? "Show" : "Follow"))));
}
