// The page: loads and shows the stored results, and handles the controls.

import { Rejection, ask, key, post, save, useKey } from "./api.js";
import { FrontChart, STEP, drawLegend } from "./chart.js";
import { isBuiltIn, loadDatasets, nameOf, openable, select } from "./datasets.js";
import { byId, copyText, element, refill, speaker, whileBusy } from "./dom.js";
import { Followed, ended, listJobs } from "./jobs.js";
import { fillTable, markTable, showAnswer, showComparison, showEnergy, showTechniques } from "./panels.js";
import { DEFAULT_DROP, aimAt, aloneAt, evidenceOf, floored, isAimed, isAnswered, otherOf, read, readAnswer, remember, shareView, shown, stored, view, wanted } from "./view.js";
import * as words from "./words.js";

const NEAR = 0.1; // below the baseline's accuracy
const DROPS = [0.005, 0.01, 0.02, 0.05];
const RELOAD_MS = 2500; // shortest time between reloads while a search runs
const LIST_MS = 10000; // between updates of the list while one of its searches runs
const RESULTS = ["results", "details", "comparison", "table-section"];

const say = speaker("said", 700);
const chart = new FrontChart(byId("chart"), { choose, retarget: (share) => retarget({ min_accuracy: share }) });
const followed = new Followed({ arrived, changed: jobChanged });
let loading = new AbortController();

// Stored results -----------------------------------------------------------------------------------------------------

/** Show an error beside a control; if a key is missing, ask for one. */
function showError(error, place) {
  if (error.name === "AbortError") return;
  if (!(error instanceof Rejection)) throw error;
  if (error.status === 401) {
    askForKey(key() ? error.message : "");
  } else {
    byId(place).textContent = error.message;
  }
}

function askForKey(why) {
  document.body.classList.add("locked");
  byId("key-panel").hidden = false;
  byId("key-alert").textContent = why;
  byId("key").focus();
}

/** Load the stored results of the view, and show them. */
async function load({ quietly = false } = {}) {
  loading.abort();
  loading = new AbortController();
  const { signal } = loading;
  if (!quietly) byId("page-alert").textContent = "";
  try {
    await read(signal);
  } catch (error) {
    if (quietly || error.name === "AbortError") return;
    stored.baseline = null; // the results shown belong to another view
    hideResults(true);
    byId("empty").hidden = true;
    shareView();
    showError(error, "page-alert");
    return;
  }
  byId("key-panel").hidden = true;
  document.body.classList.remove("locked");
  reset();
}

/** Hide or show the results; without results, a target can only be relative to the baseline. */
function hideResults(hidden) {
  for (const id of RESULTS) byId(id).hidden = hidden;
  byId("search-heading").textContent = hidden ? "Search" : "Search more";
  document.querySelector("[name=goal][value=absolute]").closest("label").hidden = hidden;
  if (hidden) document.querySelector("[name=goal][value=relative]").checked = true;
}

/** Show the results that were loaded. */
function reset() {
  const empty = stored.baseline === null;
  hideResults(empty);
  showEmpty();
  byId("search-note").textContent = `For ${nameOf(view.dataset)} on ${view.hardware} at ${view.effort} effort, as chosen above. Its results are added to the stored ones.`;
  if (empty) {
    const sentence = `No results for ${nameOf(view.dataset)} on ${view.hardware} at ${view.effort} effort are stored.`;
    say(sentence);
    byId("empty-words").textContent = `${sentence} Start a search below: it trains and measures one configuration after the other, and the front appears here as it grows.${isBuiltIn(view.dataset) ? " The digits data set is built in; others are downloaded once, by the worker." : ""}`;
    shareView();
    return;
  }
  fillOthers();
  fillPresets();
  lookUp();
}

let looking = false;

/** Show the answer to the target; while it is loaded, the previous one, which is marked as outdated. */
async function lookUp() {
  render();
  if (looking || !stored.answer) return; // for the target as it is when the answer before arrives
  looking = true;
  try {
    while (!isAnswered()) {
      await readAnswer(loading.signal);
      render();
    }
  } catch (error) {
    showError(error, "answer-alert");
  } finally {
    looking = false;
  }
}

/** Suggest a search where nothing is stored, unless one is running. */
function showEmpty() {
  byId("empty").hidden = stored.baseline !== null || (followed.matches(view) && !ended(followed.job));
}

// Views --------------------------------------------------------------------------------------------------------------

function render() {
  const { answer, baseline, techniques, front } = stored;
  if (!baseline || !answer) return; // nothing is stored, or another view is loading
  const { chosen, record } = shown();
  const [other, otherName] = otherOf();
  const live = followed.matches(view) ? followed.points : [];
  const scene = { front, baseline, techniques, live, before: live.length ? followed.before : [], target: wanted(), ...ends(), chosen: record, other: other === baseline ? null : other, evidenceOf };
  chart.draw(scene);
  drawLegend(scene);
  showSlider(scene);
  for (const id of ["answer", "techniques", "compare", "table"]) byId(id).setAttribute("aria-busy", String(!isAnswered()));
  const evidence = record && evidenceOf(record);
  const sentence = showAnswer({ record, evidence, chosen, answer });
  if (sentence !== render.said && isAnswered()) say(sentence);
  render.said = sentence;
  byId("confirm").hidden = chosen || (answer.confirmed && record.id !== baseline.id);
  byId("confirm").textContent = answer.confirmed ? "Search for a cheaper one" : record === null ? "Search for one" : "Search for a confirmed one";
  byId("confirm-note").hidden = byId("confirm").hidden;
  byId("follow-target").hidden = !chosen;
  byId("copy").hidden = byId("download").hidden = record === null;
  if (record) byId("download").setAttribute("href", `v1/evaluations/${record.id}/export`);
  if (render.goal !== view.goal) showGoal();
  render.goal = view.goal;
  byId("goal-absolute").textContent = `at ${words.percent(wanted())} or more`;
  showTechniques({ techniques, baseline, record, evidence, answer, aloneAt });
  byId("details").classList.toggle("alone", record === null);
  byId("comparison").hidden = record === null;
  if (record) {
    showBreakdown(record);
    showComparison({ record, other, answer, otherName, evidenceOf });
  }
  if (render.answer !== answer) fillTable({ front, answer, evidenceOf }, choose);
  render.answer = answer;
  markTable({ record, other });
  byId("other").value = [...byId("other").options].some((one) => one.value === view.other) ? view.other : "baseline";
  shareView();
}

/** Let the form of a search ask for the target of the view. */
function showGoal() {
  const { max_accuracy_drop: drop } = view.goal;
  document.querySelector(`[name=goal][value=${drop === undefined ? "absolute" : "relative"}]`).checked = true;
  if (drop !== undefined) byId("drop").value = String(Number((drop * 100).toFixed(4)));
}

/** The range of the slider and of the chart, in percent, with some room above the best accuracy so far. */
function ends() {
  const { baseline, front } = stored;
  const low = view.range === "near" ? baseline.accuracy - NEAR : Math.min(front[0].accuracy, baseline.accuracy);
  return {
    lowest: Math.max(0.5, Math.floor(Math.min(low, wanted()) * 100)),
    highest: Math.min(100, Math.max(Math.ceil(front.at(-1).accuracy * 200 + 1) / 2, wanted() * 100)),
  };
}

function showSlider({ lowest, highest, target }) {
  const slider = byId("target-slider");
  [slider.min, slider.max] = [lowest, highest];
  slider.step = STEP * 100;
  slider.value = target * 100;
  slider.setAttribute("aria-valuetext", words.percent(target));
  if (document.activeElement !== byId("target-number")) byId("target-number").value = (target * 100).toFixed(2);
  for (const button of byId("presets").querySelectorAll("button")) button.setAttribute("aria-pressed", String(Number(button.value) === view.goal.max_accuracy_drop));
}

function fillPresets() {
  refill(byId("presets"), byId("presets-label"), DROPS.map((drop) => element("button", { type: "button", value: drop, "data-focus": String(drop), "aria-label": `${drop * 100} point${drop === 0.01 ? "" : "s"} below the baseline`, onclick: () => retarget({ max_accuracy_drop: drop }) }, String(drop * 100))), "points");
}

function fillOthers() {
  const option = (value, text) => element("option", { value }, text);
  refill(byId("other"), option("baseline", "the baseline"),
    words.TECHNIQUES.filter((name) => stored.techniques[name]?.length).map((name) => option(name, `${name} alone, at the target`)),
    element("optgroup", { label: "on the front" }, stored.front.map((one) => option(one.id, `${words.energy(one.energy_pj)}, ${words.percent(one.accuracy)}`))));
}

async function showBreakdown(record) {
  const byLayer = document.querySelector("[name=breakdown]:checked").value === "layers";
  if (byLayer && !stored.layers.has(record.id)) {
    try {
      stored.layers.set(record.id, (await ask(`v1/evaluations/${record.id}`)).layers_pj);
    } catch (error) {
      showError(error, "energy-alert");
      return;
    }
    if (shown().record?.id !== record.id) return;
  }
  byId("energy-alert").textContent = byLayer && stored.layers.get(record.id) === null ? "The energy of its layers is not stored." : "";
  showEnergy({ record, baseline: stored.baseline, layers: byLayer ? stored.layers.get(record.id) : null });
}

// Controls -----------------------------------------------------------------------------------------------------------

/** Ask for another target: an accuracy, or a loss relative to the baseline. */
function retarget({ min_accuracy: share = null, max_accuracy_drop = null }) {
  if (!Number.isFinite(share ?? max_accuracy_drop)) return;
  aimAt(share === null ? { max_accuracy_drop } : { min_accuracy: Math.min(1, Math.max(0.0001, floored(share))) });
  view.chosen = null;
  byId("answer-alert").textContent = "";
  lookUp();
}

async function choose(id, compare) {
  byId("answer-alert").textContent = "";
  if (!stored.known.has(id)) {
    try { // a point of the running search that is not on the front
      remember([await ask(`v1/evaluations/${encodeURIComponent(id)}`)]);
    } catch (error) {
      showError(error, "answer-alert");
      return;
    }
  }
  if (compare) view.other = id;
  else view.chosen = id;
  render();
}

const request = (goal) => ({
  dataset: view.dataset, hardware: view.hardware, effort: view.effort, ...goal,
  budget: byId("budget").valueAsNumber, seed: byId("seed").valueAsNumber, space: byId("space").value,
});

/** Do the work of a button, and show an error beside it. */
const beside = (button, alert, work) => whileBusy(byId(button), async () => {
  byId(alert).textContent = "";
  try {
    await work();
  } catch (error) {
    showError(error, alert);
  }
});

function begin(job, before = []) {
  followed.follow(job, { before });
  byId("live").focus({ preventScroll: true });
  byId(stored.baseline ? "front-heading" : "live").scrollIntoView({ block: stored.baseline ? "center" : "nearest" });
  loadJobs();
}

byId("confirm").addEventListener("click", () => beside("confirm", "answer-alert", async () => {
  const { status, content } = await post("v1/optimize", request(view.goal));
  if (status === 202) begin(content, stored.front);
  else {
    await load({ quietly: true });
    if (!content.confirmed || content.configurations[0].id === stored.baseline.id) byId("answer-alert").textContent = "A completed search for this target found none. Choose a lower target, or search more with another seed.";
  }
}));

byId("search-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const relative = document.querySelector("[name=goal]:checked").value === "relative";
  const goal = relative ? { max_accuracy_drop: byId("drop").valueAsNumber / 100 } : { min_accuracy: wanted() };
  beside("start", "search-alert", async () => {
    const { content } = await post("v1/jobs", request(goal));
    if (stored.baseline) retarget(goal);
    else aimAt(goal);
    begin(content, stored.front);
  });
});

byId("follow-target").addEventListener("click", () => {
  view.chosen = null;
  render();
  byId("confirm").focus();
});
byId("target-slider").addEventListener("input", (event) => retarget({ min_accuracy: event.target.valueAsNumber / 100 }));
byId("target-number").addEventListener("input", (event) => event.target.valueAsNumber > 0 && event.target.valueAsNumber <= 100 && retarget({ min_accuracy: event.target.valueAsNumber / 100 }));
byId("target-number").addEventListener("change", (event) => { event.target.value = (wanted() * 100).toFixed(2); });
byId("other").addEventListener("change", (event) => { view.other = event.target.value; render(); });
byId("drop").addEventListener("input", () => { document.querySelector("[name=goal][value=relative]").checked = true; });
byId("range").addEventListener("change", (event) => { view.range = event.target.value; render(); });
byId("breakdown").addEventListener("change", () => showBreakdown(shown().record));
byId("copy").addEventListener("click", async () => {
  const { record } = shown();
  const done = await copyText(JSON.stringify(record.candidate, null, 2));
  byId("said").textContent = done ? "Copied" : "";
  byId("answer-alert").textContent = done ? "" : "This browser does not allow copying; download it instead.";
  byId("copy").classList.toggle("done", done);
  setTimeout(() => byId("copy").classList.remove("done"), 1500);
});
byId("download").addEventListener("click", (event) => {
  if (!key()) return; // the link itself suffices
  event.preventDefault();
  const { record } = shown();
  save(`v1/evaluations/${record.id}/export`, `${nameOf(view.dataset)}-${record.id}.json`).catch((error) => showError(error, "answer-alert"));
});
byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey(byId("key").value.trim());
  start();
});
byId("view").addEventListener("submit", (event) => event.preventDefault());
function viewAnother() {
  for (const name of ["dataset", "hardware", "effort"]) view[name] = byId(name).value;
  Object.assign(view, { chosen: null, other: null });
  stored.answer = null;
  aimAt({ max_accuracy_drop: DEFAULT_DROP });
  return load();
}
byId("view").addEventListener("change", viewAnother);
openable({
  onFailure: showError,
  async onChange({ shown = null, deleted = null }) {
    const leave = deleted === view.dataset && stored.baseline === null; // nothing of it is left
    await loadDatasets(shown ?? (leave ? "digits" : view.dataset));
    if (shown !== null || leave) await viewAnother();
  },
});

// Searches -----------------------------------------------------------------------------------------------------------

let reloading = 0, reloaded = 0, listing = 0;

/** Draw the points of a search, and reload the stored results while it runs. */
function arrived() {
  view.job = followed.job?.id ?? null;
  if (stored.baseline) render();
  else {
    showEmpty();
    shareView();
  }
  if (!followed.job || ended(followed.job) || !followed.matches(view) || !followed.points.length || reloading) return;
  reloading = setTimeout(() => {
    [reloading, reloaded] = [0, Date.now()];
    if (followed.matches(view)) load({ quietly: true });
  }, Math.max(0, reloaded + RELOAD_MS - Date.now()));
}

async function jobChanged() {
  loadJobs();
  if (followed.matches(view) && followed.points.length) await load({ quietly: true });
}

async function showJob(job) {
  const asked = job.request;
  view.dataset = select(asked.dataset);
  for (const name of ["hardware", "effort"]) view[name] = byId(name).value = asked[name];
  Object.assign(view, { chosen: null, other: null });
  stored.answer = null;
  aimAt(asked);
  await load();
  begin(job);
}

async function loadJobs() {
  clearTimeout(listing);
  try {
    const { jobs } = await ask("v1/jobs?limit=8");
    byId("jobs-alert").textContent = "";
    listJobs(jobs, showJob);
    if (!jobs.every(ended)) listing = setTimeout(loadJobs, LIST_MS);
  } catch (error) {
    showError(error, "jobs-alert");
    if (error.status === 0 || error.status >= 500) listing = setTimeout(loadJobs, LIST_MS);
  }
}

// Start --------------------------------------------------------------------------------------------------------------

/** Fill a selection with names, and select the wanted one if it is among them; returns the selected name. */
function fill(id, names, wanted, byDefault) {
  refill(byId(id), names.map(([name, text]) => element("option", { value: name }, text)));
  byId(id).value = names.some(([name]) => name === wanted) ? wanted : byDefault;
  return byId(id).value;
}

async function start() {
  try {
    if ((await ask("healthz")).keys_required && !key()) {
      askForKey("");
      return;
    }
    view.dataset = await loadDatasets(view.dataset);
    const hardware = await ask("v1/hardware");
    view.hardware = fill("hardware", hardware.map((one) => [one.name, one.name]), view.hardware, hardware.find((one) => one.default).name);
    view.effort = fill("effort", ["quick", "standard", "thorough"].map((name) => [name, name]), view.effort, "standard");
    const underWay = view.job && (await ask(`v1/jobs/${encodeURIComponent(view.job)}`).catch(() => null));
    view.job = null;
    if (underWay && !isAimed) aimAt(underWay.request);
    await load();
    if (underWay) followed.follow(underWay);
    await loadJobs();
  } catch (error) {
    showError(error, "page-alert");
  }
}

document.querySelector(`[name=range][value=${view.range}]`).checked = true;
start();
