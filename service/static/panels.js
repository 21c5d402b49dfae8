// The panels about the chosen configuration: the answer, each technique alone, the energy, a comparison, the table.

import { swatch } from "./chart.js";
import { byId, element, refill, shape } from "./dom.js";
import * as words from "./words.js";

const list = (facts) => element("dl", { class: "facts" }, facts.map(([name, text]) => element("div", {}, element("dt", {}, name), element("dd", {}, text))));

/** Whether fresh runs confirm a configuration at a target, as a badge and a text. */
function evidence(record, answer, target, baseline) {
  const runs = record.confirmation;
  if (!runs) {
    return ["unsure", "Not confirmed", " yet: it was trained once. The cheapest of many measured configurations owes a little to luck; a confirmed answer is retrained several times."];
  }
  const drop = answer?.max_accuracy_drop ?? null, its = baseline.confirmation;
  const by = `${runs.runs} fresh runs, each retrained and measured on held-out images: ${words.spread(runs)}`;
  const short = drop !== null ? -runs.margin_lower_bound : target - runs.accuracy_lower_bound;
  if (runs.confirmed && short <= 1e-9) {
    const bound = drop === null ? `at least ${words.percent(runs.accuracy_lower_bound)}` : `at most ${Number((drop * 100).toFixed(2))} points below the baseline's${its ? ` ${words.spread(its)}` : ""}`;
    return ["sure", "Confirmed", ` by ${by}; with 97.5\u00a0% confidence ${bound}.`];
  }
  return ["unsure", "Not confirmed", short > 0 ? `: with 97.5\u00a0% confidence it may fall ${(short * 100).toFixed(2)} points short, by ${by}.` : `: too few fresh runs so far. ${by}.`];
}

function others(answer, outdated) {
  const notes = [];
  const count = (number, text) => number && notes.push(`${number} cheaper ${number === 1 ? "one was" : "ones were"} ${text}`);
  count(answer?.rejected.length ?? 0, "rejected by fresh runs");
  count(answer?.untried.length ?? 0, "measured but not retrained");
  if (outdated) notes.push("a cheaper one has been measured since");
  return notes.length ? `${notes.join("; ")}.` : null;
}

/** Fill the card with the answer; returns its content as a sentence. */
export function showAnswer({ record, baseline, target, chosen, answer, outdated, highest }) {
  const heading = byId("answer-heading");
  if (!record) {
    heading.textContent = `Nothing stored reaches ${words.percent(target)}`;
    const next = answer ? "A completed search found none: choose a lower target, or search more with another seed." : "Choose a lower target, or search for one.";
    const sentence = `The most accurate stored configuration reaches ${words.percent(highest)}. ${next}`;
    refill(byId("answer"), element("p", {}, sentence));
    return `Nothing stored reaches ${words.percent(target)}. ${sentence}`;
  }
  const isBaseline = record.id === baseline.id;
  const saved = words.ratio(baseline.energy_pj / record.energy_pj);
  heading.textContent = chosen ? "The configuration you chose" : `Cheapest ${words.goal(answer ?? { min_accuracy: target })}`;
  const [kind, badge, because] = evidence(record, chosen ? null : answer, target, answer?.baseline ?? baseline);
  const runs = record.confirmation;
  const said = inTechniques(record.candidate);
  refill(
    byId("answer"),
    element("p", { class: "saving" }, element("strong", {}, saved), " ", isBaseline ? "the baseline itself" : "less energy than the baseline"),
    element("p", { class: "instead" }, `${words.energy(record.energy_pj)} instead of ${words.energy(baseline.energy_pj)} for one inference`),
    element("p", { class: "evidence" }, element("span", { class: `badge ${kind}` }, badge), because),
    chosen || !others(answer, outdated) ? null : element("p", { class: "note" }, others(answer, outdated)),
    list([
      ["accuracy", words.spread(record)],
      ["worst chip", words.percent(record.accuracy_worst_chip)],
      ["test images", words.percent(record.test_accuracy)],
      ...(runs ? [["fresh runs", words.spread(runs)], ["their test", words.percent(runs.test_accuracy)]] : []),
      ["latency", `${Number(record.latency_us.toPrecision(3))} us`],
    ]),
    element("dl", { class: "configuration" }, said.map(([name, text]) => element("div", {}, element("dt", {}, swatch(name), name), element("dd", {}, text)))),
    element("p", { class: "note" }, `Evaluation ${record.id}`),
  );
  return `${heading.textContent}: ${saved} less energy than the baseline, ${words.energy(record.energy_pj)}, accuracy ${words.percent(record.accuracy)}, ${badge.toLowerCase()}. ${words.short(record.candidate)}.`;
}

const inTechniques = (candidate) => Object.entries(words.inWords(candidate));

/** The cheapest stored configuration of each technique alone that reaches the target, beside the chosen one. */
export function showTechniques({ techniques, baseline, record, target }) {
  const alone = words.TECHNIQUES.map((name) => [name, techniques[name]?.find((one) => one.accuracy >= target) ?? null]);
  const rows = [
    ["baseline", "baseline", baseline.accuracy >= target ? baseline : null],
    ...alone.map(([name, one]) => [name, `${name} alone`, one]),
    ["front", "together", record],
  ];
  // Lengths are decades of saving, so the baseline's bar has none.
  const decades = (one) => Math.max(0, Math.log10(baseline.energy_pj / one.energy_pj));
  const most = Math.max(0.3, ...rows.map(([, , one]) => (one ? decades(one) : 0)));
  byId("techniques-note").textContent = `The cheapest stored configuration that reaches ${words.percent(target)} with one technique only. The length of a bar is the logarithm of the saving.`;
  refill(byId("techniques"), element("tbody", {}, rows.map(([name, text, one]) => {
    const bar = element("span", { class: `bar ${name}` });
    if (one) bar.style.setProperty("--share", decades(one) / most);
    return element("tr", {},
      element("th", { scope: "row" }, swatch(name), text),
      element("td", {}, one ? [bar, element("b", {}, words.ratio(baseline.energy_pj / one.energy_pj)), element("small", {}, `${words.energy(one.energy_pj)}, ${words.percent(one.accuracy)}`)] : element("span", { class: "missing" }, "none stored reaches it")));
  })));
}

function stacked(parts, total, { label, range }) {
  const width = 600, most = range ? Math.max(range[1], total) : total;
  const at = (pj) => (pj / most) * width;
  let from = 0;
  const segments = parts.filter(([, pj]) => pj > 0).map(([name, pj]) => {
    const segment = shape("rect", { class: `part ${name}`, x: from, y: 0, width: Math.max(0.5, at(pj) - 1.5), height: 26 }, shape("title", {}, `${words.COMPONENTS[name] ?? name} ${words.energy(pj)}`));
    from += at(pj);
    return segment;
  });
  const whisker = range ? shape("path", { class: "whisker", d: `M${at(range[0])} 31V41M${at(range[0])} 36H${at(range[1]) - 1}M${at(range[1]) - 1} 31V41M${at(total)} 33V39` }) : null;
  return shape("svg", { class: "stacked", viewBox: `0 0 ${width} ${range ? 43 : 26}`, preserveAspectRatio: "none", role: "img", "aria-label": label }, segments, whisker);
}

/** The energy of a configuration beside the baseline's, by component or by layer. */
export function showEnergy({ record, baseline, layers }) {
  const names = [...new Set([...Object.keys(words.COMPONENTS), ...Object.keys(record.components_pj)])].filter((name) => (record.components_pj[name] ?? 0) + (baseline.components_pj[name] ?? 0) > 0);
  const known = record.energy_low_pj !== null && record.energy_high_pj !== null;
  const total = element("p", {}, element("b", {}, words.energy(record.energy_pj)), known ? `, between ${words.energy(record.energy_low_pj)} and ${words.energy(record.energy_high_pj)} with the lowest and the highest published figures` : "");
  const key = (name) => [element("span", { class: `chip ${name}` }), words.COMPONENTS[name] ?? name];
  if (layers) {
    const sums = Object.entries(layers).map(([name, parts]) => [name, parts, Object.values(parts).reduce((a, b) => a + b, 0)]);
    const most = Math.max(...sums.map(([, , sum]) => sum));
    refill(byId("energy"), total,
      element("ul", { class: "key" }, names.map((name) => element("li", {}, key(name)))),
      element("table", { class: "layers", "aria-labelledby": "energy-heading" }, element("tbody", {}, sums.map(([name, parts, sum]) => {
        const picture = stacked(names.map((one) => [one, parts[one] ?? 0]), sum, { label: `${words.energy(sum)}` });
        picture.style.width = `${(100 * sum) / most}%`;
        return element("tr", {}, element("th", { scope: "row" }, `layer ${name}`), element("td", {}, picture), element("td", { class: "numeric" }, words.energy(sum)));
      }))));
    return;
  }
  const share = (one, name) => `${((100 * (one.components_pj[name] ?? 0)) / one.energy_pj).toFixed(1)} %`;
  const saved = (name) => {
    const [mine, its] = [record.components_pj[name] ?? 0, baseline.components_pj[name] ?? 0];
    return mine > 0 && its > 0 ? words.ratio(its / mine) : "–";
  };
  refill(byId("energy"), total,
    stacked(names.map((name) => [name, record.components_pj[name] ?? 0]), record.energy_pj, { label: "Energy by component, as in the table", range: known ? [record.energy_low_pj, record.energy_high_pj] : null }),
    element("table", { class: "components", "aria-labelledby": "energy-heading" },
      element("thead", {}, element("tr", {}, ["component", "energy", "share", "baseline's share", "saves"].map((text, place) => element("th", { scope: "col", class: place ? "numeric" : null }, text)))),
      element("tbody", {}, names.map((name) => element("tr", {}, element("th", { scope: "row" }, key(name)), [words.energy(record.components_pj[name] ?? 0), share(record, name), share(baseline, name), saved(name)].map((text) => element("td", { class: "numeric" }, text)))))));
}

/** Two configurations side by side. */
export function showComparison({ record, other, baseline, otherName }) {
  const saved = (one) => words.ratio(baseline.energy_pj / one.energy_pj);
  const times = (a, b) => (a === b ? "same" : a > b ? `${words.ratio(a / b)} less` : `${words.ratio(b / a)} more`);
  const share = (name) => [words.percent(record[name]), words.percent(other[name]), record[name] === null || other[name] === null ? "–" : words.points(other[name] - record[name])];
  const number = (text, name) => [text(record[name]), text(other[name]), record[name] === null || other[name] === null ? "–" : times(record[name], other[name])];
  const knob = (text) => [text(record.candidate), text(other.candidate), ""];
  const rows = [
    ["energy", ...number(words.energy, "energy_pj")],
    ["saves", saved(record), saved(other), times(other.energy_pj, record.energy_pj)],
    ["accuracy", ...share("accuracy")],
    ["worst chip", ...share("accuracy_worst_chip")],
    ["test images", ...share("test_accuracy")],
    ["network", ...knob(words.network)],
    ["pruned", ...knob(words.pruned)],
    ["bits", ...knob(words.bits)],
    ["multiplier", ...knob(words.multiplier)],
    ["memory", ...knob(words.memory)],
    ["latency", ...number((us) => `${Number(us.toPrecision(3))} us`, "latency_us")],
    ["area", ...number((mm2) => (mm2 === null ? "–" : `${Number(mm2.toPrecision(3))} mm²`), "area_mm2")],
    ["multiply-adds", ...number((macs) => macs.toLocaleString("en"), "macs")],
  ];
  refill(byId("compare"),
    element("thead", {}, element("tr", {}, ["", "This one", otherName, "The other has"].map((text) => (text ? element("th", { scope: "col" }, text) : element("td", {}))))),
    element("tbody", {}, rows.map(([name, mine, its, difference]) => element("tr", { class: mine === its ? null : "differs" },
      element("th", { scope: "row" }, name), element("td", {}, mine), element("td", {}, its), element("td", {}, mine === its ? "same" : difference || "different")))));
}

const COLUMNS = [
  ["accuracy", (one) => words.percent(one.accuracy), true],
  ["test", (one) => words.percent(one.test_accuracy), true],
  ["energy", (one) => words.energy(one.energy_pj), true],
  ["saves", (one, baseline) => words.ratio(baseline.energy_pj / one.energy_pj), true],
  ["worst chip", (one) => words.percent(one.accuracy_worst_chip), true],
  ["network", (one) => words.network(one.candidate)],
  ["pruned", (one) => words.pruned(one.candidate), true],
  ["bits", (one) => words.bits(one.candidate)],
  ["multiplier", (one) => words.multiplier(one.candidate)],
  ["memory", (one) => words.memory(one.candidate)],
];

/** The front as a table, the baseline last, with columns to choose the configurations shown and compared. */
export function fillTable({ front, baseline }, choose) {
  const row = (one) => {
    const name = one.id === baseline.id ? "the baseline" : `${words.energy(one.energy_pj)}, ${words.percent(one.accuracy)}`;
    const radio = (group, verb, compare) => element("input", { type: "radio", name: group, value: one.id, "aria-label": `${verb} ${name}`, "data-focus": `${group}-${one.id}`, onchange: () => choose(one.id, compare) });
    return element("tr", { "data-id": one.id, "data-accuracy": one.accuracy, class: one.id === baseline.id ? "baseline" : null },
      element("td", {}, radio("shown", "Show", false)),
      element("td", {}, radio("compared", "Compare with", true)),
      COLUMNS.map(([, text, numeric]) => element("td", { class: numeric ? "numeric" : null }, text(one, baseline))));
  };
  const rows = [...front].reverse(); // the most accurate first, as in the command line
  if (!front.some((one) => one.id === baseline.id)) rows.push(baseline);
  refill(byId("table"),
    element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "show"), element("th", { scope: "col" }, "with"), COLUMNS.map(([name, , numeric]) => element("th", { scope: "col", class: numeric ? "numeric" : null }, name)))),
    element("tbody", {}, rows.map(row)));
}

export function markTable({ target, record, other }) {
  for (const row of byId("table").tBodies[0].rows) {
    row.classList.toggle("chosen", row.dataset.id === record?.id);
    const [shown, compared] = row.querySelectorAll("input");
    shown.checked = row.dataset.id === record?.id;
    compared.checked = row.dataset.id === other?.id;
    row.classList.toggle("short", Number(row.dataset.accuracy) < target);
  }
}
