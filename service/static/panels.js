// The panels about the chosen configuration: the answer, each technique alone, the energy, a comparison, the table.

import { swatch } from "./chart.js";
import { byId, element, refill, shape } from "./dom.js";
import * as words from "./words.js";

const list = (facts) => element("dl", { class: "facts" }, facts.map(([name, text]) => element("div", {}, element("dt", {}, name), element("dd", {}, text))));

/** What the runs of a configuration are: retrained each time, or one measurement. */
const made = (runs) => (runs.retrained ? `${runs.runs} fresh runs` : `a bootstrap over ${runs.images.toLocaleString("en")} images and ${runs.chips} chips`);

/** How a configuration was confirmed, or that it was not. */
const confirmedBy = ({ confirmation: runs }, record) =>
  runs ? `${made(runs)}: ${words.spread(runs)} held out, ${words.percent(runs.test_accuracy)} on test images` : `measured once, ${words.percent(record.accuracy)}`;

/** Whether a configuration is confirmed at the target, as a badge and a text. */
function because({ verdict, confirmation: runs }, answer) {
  if (verdict === null) return ["unsure", "Below the target", " as it was measured, so there is nothing to confirm."];
  if (!runs) return ["unsure", words.VERDICTS[verdict], verdict === "untried" ? ": it was measured once. The cheapest of many measured configurations owes a little to luck; confirmation measures it again, on other images." : "."];
  const drop = answer.max_accuracy_drop, its = answer.baseline.confirmation;
  const by = `${made(runs)}${runs.retrained ? ", each retrained and measured on held-out images" : ""}: ${words.spread(runs)}`;
  if (verdict === "confirmed") {
    const bound = drop === null ? `at least ${words.percent(runs.accuracy_lower_bound)}` : `at most ${Number((drop * 100).toFixed(2))} points below the baseline's${its ? ` ${words.spread(its)}` : ""}`;
    return ["sure", words.VERDICTS[verdict], ` by ${by}; with 97.5\u00a0% confidence ${bound}.`];
  }
  return ["unsure", words.VERDICTS[verdict], `: with 97.5\u00a0% confidence it may fall ${(-runs.margin_lower_bound * 100).toFixed(2)} points short, by ${by}.`];
}

function others({ confirmed, rejected, untried }) {
  const notes = [];
  const count = (number, text) => number && notes.push(`${number} cheaper ${number === 1 ? "one was" : "ones were"} ${text}`);
  count(rejected.length, "rejected in confirmation");
  if (confirmed) count(untried.length, "measured once");
  return notes.length ? `${notes.join("; ")}.` : null;
}

/** The configuration that comes nearest to a target at which nothing cheaper than the baseline is confirmed. */
const nearest = ({ rejected }) => rejected.reduce((one, other) => (other.confirmation.margin_lower_bound > one.confirmation.margin_lower_bound ? other : one));

/** Fill the card with the answer; returns its content as a sentence. */
export function showAnswer({ record, evidence, chosen, answer }) {
  const heading = byId("answer-heading"), { baseline, right_sized: sized } = answer, asked = words.goal(answer);
  if (!record) {
    heading.textContent = `Nothing stored reaches ${words.percent(answer.wanted_accuracy)}`;
    const sentence = `The most accurate stored configuration reaches ${words.percent(answer.highest_accuracy)}. Choose a lower target, or search for one.`;
    refill(byId("answer"), element("p", {}, sentence));
    return `${heading.textContent}. ${sentence}`;
  }
  const isBaseline = record.id === baseline.id, confirmed = evidence.verdict === "confirmed", grey = confirmed ? null : "unsure";
  const saves = `${words.ratio(baseline.energy_pj / record.energy_pj)} less energy than the baseline`;
  const savesSized = `${words.ratio(sized.energy_pj / record.energy_pj)} less than the right-sized network`;
  const [kind, badge, text] = because(evidence, answer);
  const runs = evidence.confirmation;
  if (chosen) heading.textContent = "The configuration you chose";
  else if (!answer.confirmed) heading.textContent = `Nothing is confirmed ${asked}`;
  else heading.textContent = isBaseline && answer.max_accuracy_drop !== null ? `Nothing cheaper is confirmed ${asked}` : `Cheapest ${asked}`;
  const unconfirmed = chosen || answer.confirmed ? null : runs ? "The nearest, not confirmed:" : "The cheapest measured, not confirmed:";
  const [ratio, ...rest] = saves.split(" ");
  const near = !chosen && isBaseline && answer.rejected.length ? nearest(answer) : null;
  const nearWords = near && `Nearest, not confirmed: ${words.short(near.candidate)}, ${words.ratio(baseline.energy_pj / near.energy_pj)} less than the baseline, ${words.ratio(sized.energy_pj / near.energy_pj)} less than the right-sized network.`;
  refill(
    byId("answer"),
    unconfirmed && element("p", { class: "note" }, unconfirmed),
    element("p", { class: ["saving", grey].filter(Boolean).join(" ") }, element("strong", {}, ratio), " ", isBaseline ? "the baseline itself" : rest.join(" ")),
    isBaseline ? null : element("p", { class: ["saving-right-sized", grey].filter(Boolean).join(" ") }, savesSized),
    element("p", { class: "instead" }, `${words.energy(record.energy_pj)} instead of ${words.energy(baseline.energy_pj)} for one inference; area ${words.area(record.area_mm2 / baseline.area_mm2)} of the baseline's`),
    element("p", { class: "evidence" }, element("span", { class: `badge ${kind}` }, badge), text),
    chosen || !others(answer) ? null : element("p", { class: "note" }, others(answer)),
    near && element("p", { class: "note" }, nearWords),
    answer.caution && element("p", { class: "note" }, answer.caution),
    list([
      ["accuracy", words.spread(record)],
      ["worst chip", words.percent(record.accuracy_worst_chip)],
      ["test images", words.percent(record.test_accuracy)],
      ...(runs ? [["confirmation", words.spread(runs)], ["its test images", words.percent(runs.test_accuracy)]] : []),
      ["latency", `${Number(record.latency_us.toPrecision(3))} us`],
    ]),
    element("dl", { class: "configuration" },
      inTechniques(record.candidate).map(([name, said]) => element("div", {}, element("dt", {}, swatch(name), name), element("dd", {}, said))),
      element("div", {}, element("dt", {}, "right-sized"), element("dd", {}, sized.id === baseline.id
        ? "the baseline: no smaller dense, exact, 8-bit network that keeps the accuracy is stored"
        : `${words.network(sized.candidate)}, dense, exact, 8 bits, nominal voltage: ${words.energy(sized.energy_pj)}; ${confirmedBy(sized, sized)}`)),
      element("div", {}, element("dt", {}, "baseline"), element("dd", {}, `${words.network(baseline.candidate)}: ${words.energy(baseline.energy_pj)}; ${confirmedBy(baseline, baseline)}`))),
    element("p", { class: "note" }, `Evaluation ${record.id}`),
  );
  const found = isBaseline ? "the baseline itself" : `${saves}, ${savesSized}`;
  return [`${heading.textContent}: ${unconfirmed ? `${unconfirmed} ` : ""}${found}, ${words.energy(record.energy_pj)}, accuracy ${words.percent(record.accuracy)}, ${badge.toLowerCase()}. ${words.short(record.candidate)}.`, nearWords].filter(Boolean).join(" ");
}

const inTechniques = (candidate) => Object.entries(words.inWords(candidate));

/** The cheapest stored configuration of each technique alone at the target, beside the one shown. */
export function showTechniques({ techniques, baseline, record, evidence, answer, aloneAt }) {
  const rows = [
    ["baseline", "baseline", baseline.accuracy >= answer.wanted_accuracy ? baseline : null, true],
    ...words.TECHNIQUES.map((name) => [name, `${name} alone`, aloneAt(name), aloneAt(name)?.verdict === "confirmed"]),
    ["front", "together", record, evidence?.verdict === "confirmed"],
  ];
  // Lengths are decades of saving, so the baseline's bar has none.
  const decades = (one) => Math.max(0, Math.log10(baseline.energy_pj / one.energy_pj));
  const most = Math.max(0.3, ...rows.map(([, , one]) => (one ? decades(one) : 0)));
  byId("techniques-note").textContent = `The cheapest stored configuration ${words.goal(answer)} with one technique only, without those rejected in confirmation; grey: not confirmed. The length of a bar is the logarithm of the saving.`;
  refill(byId("techniques"), element("tbody", {}, rows.map(([name, text, one, confirmed]) => {
    const bar = element("span", { class: `bar ${confirmed ? name : "unsure"}` });
    if (one) bar.style.setProperty("--share", decades(one) / most);
    return element("tr", { class: one && !confirmed ? "unsure" : null },
      element("th", { scope: "row" }, swatch(name), text),
      element("td", {}, one
        ? [bar, element("b", {}, words.ratio(baseline.energy_pj / one.energy_pj)), element("small", {}, `${words.energy(one.energy_pj)}, ${words.percent(one.accuracy)}${confirmed ? "" : ", not confirmed"}`)]
        : element("span", { class: "missing" }, techniques[name]?.some((other) => other.verdict === "rejected") ? "all that reach it are rejected" : "none stored reaches it")));
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
export function showComparison({ record, other, answer, otherName, evidenceOf }) {
  const { baseline, right_sized: sized } = answer;
  const saved = (one) => words.ratio(baseline.energy_pj / one.energy_pj);
  const savedSized = (one) => words.ratio(sized.energy_pj / one.energy_pj);
  const verdict = (one) => words.verdict(evidenceOf(one).verdict);
  const times = (a, b) => (a === b ? "same" : a > b ? `${words.ratio(a / b)} less` : `${words.ratio(b / a)} more`);
  const share = (name) => [words.percent(record[name]), words.percent(other[name]), record[name] === null || other[name] === null ? "–" : words.points(other[name] - record[name])];
  const number = (text, name) => [text(record[name]), text(other[name]), record[name] === null || other[name] === null ? "–" : times(record[name], other[name])];
  const knob = (text) => [text(record.candidate), text(other.candidate), ""];
  const rows = [
    ["energy", ...number(words.energy, "energy_pj")],
    ["saves", saved(record), saved(other), times(other.energy_pj, record.energy_pj)],
    ["right-sized", savedSized(record), savedSized(other), times(other.energy_pj, record.energy_pj)],
    ["confirmation", verdict(record), verdict(other), ""],
    ["accuracy", ...share("accuracy")],
    ["worst chip", ...share("accuracy_worst_chip")],
    ["test images", ...share("test_accuracy")],
    ["network", ...knob(words.network)],
    ["pruned", ...knob(words.pruned)],
    ["bits", ...knob(words.bits)],
    ["multiplier", ...knob(words.multiplier)],
    ["memory", ...knob(words.memory)],
    ["latency", ...number((us) => `${Number(us.toPrecision(3))} us`, "latency_us")],
    ["area", ...number((mm2) => `${Number(mm2.toPrecision(3))} mm², ${words.area(mm2 / baseline.area_mm2)}`, "area_mm2")],
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
  ["saves", (one, { baseline }) => words.ratio(baseline.energy_pj / one.energy_pj), true],
  ["right-sized", (one, { right_sized }) => words.ratio(right_sized.energy_pj / one.energy_pj), true],
  ["area", (one, { baseline }) => words.area(one.area_mm2 / baseline.area_mm2), true],
  ["confirmation", (one, answer, verdict) => words.verdict(verdict)],
  ["worst chip", (one) => words.percent(one.accuracy_worst_chip), true],
  ["network", (one, answer) => [words.network(one.candidate), named(one, answer)]],
  ["pruned", (one) => words.pruned(one.candidate), true],
  ["bits", (one) => words.bits(one.candidate)],
  ["multiplier", (one) => words.multiplier(one.candidate)],
  ["memory", (one) => words.memory(one.candidate)],
];

/** What a configuration is beside being on the front, if anything. */
function named({ id }, { baseline, right_sized: sized, configurations, confirmed }) {
  const names = [confirmed && id === configurations[0].id && "the answer", id === sized.id && "right-sized", id === baseline.id && "baseline"].filter(Boolean);
  return names.length ? element("small", {}, names.join(", ")) : null;
}

/**
 * The front as a table, with columns to choose the configurations shown and compared. At its end are the answer and the
 * right-sized network where they are off the front, and the baseline.
 */
export function fillTable({ front, answer, evidenceOf }, choose) {
  const { baseline, right_sized: sized } = answer;
  const row = (one) => {
    const name = one.id === baseline.id ? "the baseline" : `${words.energy(one.energy_pj)}, ${words.percent(one.accuracy)}`;
    const { verdict } = evidenceOf(one);
    const radio = (group, verb, compare) => element("input", { type: "radio", name: group, value: one.id, "aria-label": `${verb} ${name}`, "data-focus": `${group}-${one.id}`, onchange: () => choose(one.id, compare) });
    return element("tr", { "data-id": one.id, class: [one.id === baseline.id && "baseline", verdict !== "confirmed" && "unsure"].filter(Boolean).join(" ") || null },
      element("td", {}, radio("shown", "Show", false)),
      element("td", {}, radio("compared", "Compare with", true)),
      COLUMNS.map(([, text, numeric]) => element("td", { class: numeric ? "numeric" : null }, text(one, answer, verdict))));
  };
  const rows = [...front].reverse(); // the most accurate first, as in the command line
  for (const one of [...answer.configurations.slice(0, 1), sized, baseline]) if (!rows.some(({ id }) => id === one.id)) rows.push(one);
  refill(byId("table"),
    element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "show"), element("th", { scope: "col" }, "with"), COLUMNS.map(([name, , numeric]) => element("th", { scope: "col", class: numeric ? "numeric" : null }, name)))),
    element("tbody", {}, rows.map(row)));
}

export function markTable({ record, other }) {
  for (const row of byId("table").tBodies[0].rows) {
    row.classList.toggle("chosen", row.dataset.id === record?.id);
    const [shown, compared] = row.querySelectorAll("input");
    shown.checked = row.dataset.id === record?.id;
    compared.checked = row.dataset.id === other?.id;
  }
}
