// The view, which the address of the page contains, and the stored results for it.

import { ask } from "./api.js";

const RANGES = ["near", "all"];

/** Rounded down to a hundredth of a percent. */
export const floored = (share) => Math.floor(share * 10000 + 1e-6) / 10000;

const asked = new URLSearchParams(location.search);
export const view = {
  dataset: asked.get("dataset"), hardware: asked.get("hardware"), effort: asked.get("effort") ?? "standard",
  target: asked.get("target") > 0 && asked.get("target") <= 100 ? floored(asked.get("target") / 100) : null,
  chosen: asked.get("show"), other: asked.get("with"), job: asked.get("job"),
  range: RANGES.includes(asked.get("range")) ? asked.get("range") : "near",
};

/** Put the view into the address, so that it can be shared. */
export function shareView() {
  const now = new URLSearchParams({ dataset: view.dataset, hardware: view.hardware, effort: view.effort });
  if (view.target !== null) now.set("target", (view.target * 100).toFixed(2));
  if (view.chosen) now.set("show", view.chosen);
  if (view.other) now.set("with", view.other);
  if (view.job) now.set("job", view.job);
  if (view.range !== "near") now.set("range", view.range);
  history.replaceState(null, "", `?${now}`);
}

export const stored = { front: [], techniques: {}, baseline: null, known: new Map(), answers: new Map(), layers: new Map() };

const query = () => new URLSearchParams({ hardware: view.hardware, effort: view.effort });

/** Load the front of the view and each technique alone; both are empty if nothing is stored. */
export async function read(signal) {
  const name = encodeURIComponent(view.dataset);
  const front = await ask(`v1/fronts/${name}?${query()}`, { signal });
  const { techniques } = await ask(`v1/techniques/${name}?${query()}`, { signal });
  Object.assign(stored, { front: front.configurations, baseline: front.baseline, techniques });
  if (!front.baseline) return;
  remember([front.baseline, ...front.configurations, ...Object.values(techniques).flat()]);
  view.chosen = await known(view.chosen, signal);
  if (!Object.hasOwn(techniques, view.other ?? "")) view.other = await known(view.other, signal);
}

/** The id of an evaluation named in the address, or null if it does not belong to this view. */
async function known(id, signal) {
  if (!id || stored.known.has(id)) return id;
  try {
    const found = await ask(`v1/evaluations/${encodeURIComponent(id)}`, { signal });
    if (found.dataset !== view.dataset || found.hardware !== view.hardware || found.effort !== view.effort) return null;
    remember([found]);
    return found.id;
  } catch (error) {
    if (error.status !== 404) throw error;
    return null;
  }
}

export function remember(records) {
  for (const record of records) stored.known.set(record.id, { ...record, confirmation: record.confirmation ?? stored.known.get(record.id)?.confirmation ?? null });
}

export function keepAnswer(answer) {
  remember([answer.baseline, ...answer.configurations, ...answer.untried, ...answer.rejected]);
  if (answer.max_area) return; // the page asks without a bound on area, which only jobs of other clients have
  stored.answers.set(JSON.stringify([answer.dataset, answer.hardware, answer.effort, floored(answer.wanted_accuracy)]), answer);
}

const place = () => JSON.stringify([view.dataset, view.hardware, view.effort, view.target]);

const cheapest = () => stored.front.find((one) => one.accuracy >= view.target) ?? null;

/** The configuration shown: the chosen one, else the answer if it was requested, else the cheapest of the front. */
export function shown() {
  const answer = stored.answers.get(place()) ?? null;
  const chosen = view.chosen === null ? null : stored.known.get(view.chosen) ?? null;
  const [answered, best] = [answer?.configurations[0] ?? null, cheapest()];
  // Whether something cheaper has been found since, which the answer does not mention.
  const outdated = answered !== null && best !== null && best.energy_pj < answered.energy_pj && ![...answer.rejected, ...answer.untried].some((one) => one.id === best.id);
  return { answer, outdated, chosen: chosen !== null, record: chosen ?? answered ?? best };
}

export function otherOf() {
  const { baseline, techniques } = stored;
  const alone = Object.hasOwn(techniques, view.other ?? "") ? techniques[view.other] : [];
  if (alone.length) {
    const one = alone.find((record) => record.accuracy >= view.target);
    return one ? [one, `${view.other} alone`] : [alone.at(-1), `${view.other} alone, which falls short`];
  }
  const other = stored.known.get(view.other);
  return other && other.id !== baseline.id ? [other, `Evaluation ${other.id}`] : [baseline, "Baseline"];
}
