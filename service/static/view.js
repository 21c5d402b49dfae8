// The view, which the address of the page contains, and the stored results for it.

import { ask } from "./api.js";

const RANGES = ["near", "all"];
export const DEFAULT_DROP = 0.02; // the default of `search run`

/** Rounded down to a hundredth of a percent. */
export const floored = (share) => Math.floor(share * 10000 + 1e-6) / 10000;

const asked = new URLSearchParams(location.search);
export const isAimed = asked.has("target") || asked.has("drop"); // else a followed search decides
const within = (name, least, most) => asked.has(name) && asked.get(name) >= least && asked.get(name) <= most;
export const view = {
  dataset: asked.get("dataset"), hardware: asked.get("hardware"), effort: asked.get("effort") ?? "standard",
  chosen: asked.get("show"), other: asked.get("with"), job: asked.get("job"),
  range: RANGES.includes(asked.get("range")) ? asked.get("range") : "near",
};
if (within("target", 0.01, 100)) aimAt({ min_accuracy: floored(asked.get("target") / 100) });
else aimAt({ max_accuracy_drop: within("drop", 0, 99) ? asked.get("drop") / 100 : DEFAULT_DROP });

/** Set the target: either an accuracy, or a loss relative to the baseline, as in requests. */
export function aimAt({ min_accuracy = null, max_accuracy_drop = null }) {
  view.goal = min_accuracy === null ? { max_accuracy_drop } : { min_accuracy };
}

/** The accuracy to reach. There has to be a baseline. */
export const wanted = () => view.goal.min_accuracy ?? Math.max(0.0001, floored(stored.baseline.accuracy - view.goal.max_accuracy_drop));

/** Put the view into the address, so that it can be shared. */
export function shareView() {
  const { min_accuracy: target, max_accuracy_drop: drop } = view.goal;
  const now = new URLSearchParams({ dataset: view.dataset, hardware: view.hardware, effort: view.effort });
  if (target !== undefined) now.set("target", (target * 100).toFixed(2));
  else now.set("drop", String(Number((drop * 100).toFixed(4))));
  if (view.chosen) now.set("show", view.chosen);
  if (view.other) now.set("with", view.other);
  if (view.job) now.set("job", view.job);
  if (view.range !== "near") now.set("range", view.range);
  history.replaceState(null, "", `?${now}`);
}

// `answer` is what the service answers to `question`, with the verdicts of confirmation at that target. While another
// question is being answered, all that is shown follows the previous one.
export const stored = { front: [], techniques: {}, baseline: null, answer: null, question: null, evidence: new Map(), known: new Map(), answers: new Map(), layers: new Map() };

const query = (more) => new URLSearchParams({ hardware: view.hardware, effort: view.effort, ...more });

const question = () => JSON.stringify([view.dataset, view.hardware, view.effort, view.goal]);

/** Whether the answer is that to the target of the view. */
export const isAnswered = () => stored.question === question();

/** Load the front of the view, and the answer to its target; all are empty if nothing is stored. */
export async function read(signal) {
  const front = await ask(`v1/fronts/${encodeURIComponent(view.dataset)}?${query()}`, { signal });
  const found = front.baseline === null ? null : await answerTo(view.goal, signal);
  Object.assign(stored, { front: front.configurations, baseline: front.baseline, answer: null, answers: new Map() });
  if (found === null) return;
  remember([front.baseline, ...front.configurations]);
  keep(found);
  view.chosen = await known(view.chosen, signal);
  if (!Object.hasOwn(stored.techniques, view.other ?? "")) view.other = await known(view.other, signal);
}

/** Load the answer to the target of the view, unless it was loaded before. */
export async function readAnswer(signal) {
  keep(stored.answers.get(question()) ?? (await answerTo(view.goal, signal)));
}

/** The stored answer to a target, and each technique alone with its verdicts there; this never starts a search. */
async function answerTo(goal, signal) {
  const asking = question(), name = encodeURIComponent(view.dataset);
  const [{ answer }, { techniques }] = await Promise.all(
    ["fronts", "techniques"].map((what) => ask(`v1/${what}/${name}?${query(goal)}`, { signal })),
  );
  return { question: asking, answer, techniques };
}

function keep(found) {
  const { answer, techniques } = found;
  const alone = Object.values(techniques).flat();
  const answered = [answer.baseline, answer.right_sized, ...answer.configurations, ...answer.untried, ...answer.rejected];
  stored.answers.set(found.question, found);
  Object.assign(stored, found, { evidence: new Map([...alone, ...answered].map((one) => [one.id, one])) });
  remember([...alone, ...answered]);
}

/** What confirmation says of a configuration at the target: its verdict, and the runs if there are any. */
export function evidenceOf(record) {
  const verdict = record.accuracy >= stored.answer.wanted_accuracy ? "untried" : null;
  return stored.evidence.get(record.id) ?? { verdict, confirmation: null };
}

/** The id of an evaluation named in the address, or null if it does not belong to this view. */
async function known(id, signal) {
  if (!id || stored.known.has(id)) return id;
  try {
    const found = await ask(`v1/evaluations/${encodeURIComponent(id)}`, { signal });
    if (found.task !== view.dataset || found.hardware !== view.hardware || found.effort !== view.effort) return null;
    remember([found]);
    return found.id;
  } catch (error) {
    if (error.status !== 404) throw error;
    return null;
  }
}

export function remember(records) {
  for (const record of records) stored.known.set(record.id, record);
}

/** The configuration shown: the chosen one, else the answer. */
export function shown() {
  const chosen = view.chosen === null ? null : stored.known.get(view.chosen) ?? null;
  return { chosen: chosen !== null, record: chosen ?? stored.answer?.configurations[0] ?? null };
}

/** The cheapest configuration of a technique alone: a confirmed one, else one that is not rejected; null if there is none. */
export function aloneAt(name) {
  const of = (verdict) => (stored.techniques[name] ?? []).find((one) => one.verdict === verdict);
  return of("confirmed") ?? of("untried") ?? null;
}

export function otherOf() {
  const { baseline, techniques } = stored;
  const alone = Object.hasOwn(techniques, view.other ?? "") ? techniques[view.other] : [];
  if (alone.length) {
    const one = aloneAt(view.other);
    return one ? [one, `${view.other} alone`] : [alone.at(-1), `${view.other} alone, which falls short`];
  }
  const other = stored.known.get(view.other);
  return other && other.id !== baseline.id ? [other, `Evaluation ${other.id}`] : [baseline, "Baseline"];
}
