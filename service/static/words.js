// Numbers and configurations as text, as in the tables of the command line.

export const TECHNIQUES = ["network", "pruning", "multiplier", "memory"];

export const COMPONENTS = {
  mac: "multiply and add", registers: "registers", clock: "clock", weight_sram: "weight SRAM", metadata: "pruning metadata", biases: "biases and scales",
  activation_sram: "activation SRAM", partial_sums: "partial sums", requantisation: "sums to codes", dram: "DRAM", leakage: "leakage", overhead: "overhead",
};

export const count = (number) => number.toLocaleString("en");

/** The size of images: height and width, and whether they have colours. */
export const size = ([channels, height, width]) => `${height}x${width} ${channels === 1 ? "gray" : "RGB"}`;

/** The first of some names. */
export const some = (names, all) => `${names.slice(0, 6).join(", ")}${all > 6 ? ` and ${count(all - 6)} more` : ""}`;

export const percent = (share) => (share === null || share === undefined ? "–" : `${(share * 100).toFixed(2)}\u00a0%`);

/** An accuracy with its standard error, where that is known. */
export const spread = ({ accuracy, accuracy_standard_error: error }) => (error === null ? percent(accuracy) : `${(accuracy * 100).toFixed(2)}\u00a0±\u00a0${percent(error)}`);

export const points = (difference) => `${difference < 0 ? "−" : "+"}${Math.abs(difference * 100).toFixed(2)} points`;

/** The unit that suits an energy: its size in pJ, and its name. */
export function unit(pj) {
  const rounded = Number(pj.toPrecision(3)); // as shown: 999.6 pJ are 1 nJ
  for (const [size, name] of [[1e9, "mJ"], [1e6, "uJ"], [1e3, "nJ"]]) if (rounded >= size) return [size, name];
  return [1, "pJ"];
}

export function energy(pj) {
  if (pj === null || pj === undefined) return "–";
  const [size, name] = unit(pj);
  return `${digits(pj / size)}\u00a0${name}`;
}

/** Three significant digits, never as a power of ten. */
function digits(value) {
  const rounded = Number(value.toPrecision(3));
  const whole = Math.max(1, Math.floor(Math.log10(Math.abs(rounded) || 1)) + 1);
  return rounded.toFixed(Math.abs(rounded) < 1 ? 3 : Math.max(0, 3 - whole));
}

export const ratio = (value) => (value < 100 ? `${Number(value.toPrecision(3))}x` : `${Math.round(value).toLocaleString("en")}x`);

/** An area relative to the baseline's. */
export const area = (value) => (value < 10 ? `${value.toFixed(2)}x` : `${Math.round(value).toLocaleString("en")}x`);

/** What confirmation says of a configuration that reaches the target in its search. */
export const VERDICTS = { confirmed: "Confirmed", rejected: "Rejected", untried: "Not confirmed yet" };

export const verdict = (one) => (one === null ? "–" : { confirmed: "confirmed", rejected: "rejected", untried: "not confirmed" }[one]);

const byLayer = (words, between) => (new Set(words).size > 1 ? words.join(between) : String(words[0]));

const named = (identity) => String(identity).split("@")[0];

/** The values of the first layer, the middle layers and the last layer. */
const groups = (candidate, knob) => {
  const middle = candidate[knob];
  return [candidate[`${knob}_first`] ?? middle, middle, candidate[`${knob}_last`] ?? middle];
};

export const multiplier = (candidate) => byLayer(groups(candidate, "multiplier").map(named), " | ");

const robust = (candidate) => byLayer(groups(candidate, "robust_bits"), "|");

/** A network of a family by depth and width; one that comes trained by the eighths of its channels that are kept. */
export const network = ({ family, depth, width }) => (family.endsWith("/8") ? `${family.slice(0, -2)} ${width}/8` : `${family} ${depth}x${width}`);

export const pruned = (candidate) => (candidate.sparsity ? `${Math.round(candidate.sparsity * 100)} %` : "–");

export const bits = (candidate) => `w${candidate.weight_bits}a${candidate.activation_bits}`;

export const memory = (candidate) => `${candidate.supply_v.toFixed(2)} V${robust(candidate) === "0" ? "" : ` +${robust(candidate)}`}`;

export const short = (candidate) =>
  [network(candidate), candidate.sparsity ? `${pruned(candidate)} pruned` : null, bits(candidate), multiplier(candidate), memory(candidate)].filter(Boolean).join(", ");

/** The four techniques of a candidate, in words. */
export function inWords(candidate) {
  const protectedBits = robust(candidate);
  const robustWords = protectedBits === "0" ? "no bits in 8T cells" : `top ${protectedBits} bit${protectedBits === "1" ? "" : "s"} of each weight in 8T cells`;
  return {
    network: `${candidate.family}, depth ${candidate.depth}, width ${candidate.width}`,
    pruning: candidate.sparsity ? `${pruned(candidate)} of the weights pruned` : "dense",
    multiplier: `${multiplier(candidate)}; ${candidate.weight_bits}-bit weights, ${candidate.activation_bits}-bit activations`,
    memory: `weights at ${candidate.supply_v.toFixed(2)} V, ${robustWords}`,
  };
}

export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  return minutes < 60 ? `${minutes} min ${whole % 60} s` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

export function ago(time) {
  const seconds = (Date.now() - Date.parse(time)) / 1000;
  for (const [size, name] of [[86400, "day"], [3600, "hour"], [60, "minute"]]) {
    const count = Math.floor(seconds / size);
    if (count >= 1) return `${count} ${name}${count === 1 ? "" : "s"} ago`;
  }
  return "just now";
}

/** The target of a request. */
export const goal = (asked) =>
  (asked.min_accuracy === null || asked.min_accuracy === undefined
    ? `within ${Number((asked.max_accuracy_drop * 100).toFixed(2))} points of the baseline`
    : `at ${percent(asked.min_accuracy)} or more`) + (asked.max_area ? `, on at most ${Number(asked.max_area.toPrecision(3))}x the baseline's area` : "");
