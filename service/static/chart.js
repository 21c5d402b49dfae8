// The chart of the front: energy on a logarithmic axis, accuracy, the target, and the evaluations of a running search.

import { byId, element, refill, shape } from "./dom.js";
import * as words from "./words.js";

const MARKS = {
  network: "M-5-5H5V5H-5Z",
  pruning: "M0-6.2L5.8 4.6H-5.8Z",
  multiplier: "M0-6.8L6.8 0L0 6.8L-6.8 0Z",
  memory: "M-5-5L5 5M-5 5L5-5",
  baseline: "M0-8.5L2.2-2.9L8.1-2.6L3.5 1.1L5 6.9L0 3.6L-5 6.9L-3.5 1.1L-8.1-2.6L-2.2-2.9Z",
  front: "M0-4.5A4.5 4.5 0 1 1 0 4.5A4.5 4.5 0 1 1 0-4.5Z",
  live: "M0-2.6A2.6 2.6 0 1 1 0 2.6A2.6 2.6 0 1 1 0-2.6Z",
};
const VERDICT_WORDS = { confirmed: "confirmed", rejected: "rejected in confirmation", untried: "not confirmed" };
export const STEP = 0.0005; // change of the target per key press

/** A mark of the chart, for a legend or a table. */
export const swatch = (kind) =>
  shape("svg", { class: "swatch", viewBox: "-10 -10 20 20", "aria-hidden": "true" }, shape("path", { class: `mark ${kind}`, d: MARKS[kind] }));

/** The points that no other beats, in order of increasing energy. */
export function frontOf(records) {
  const found = [];
  for (const record of [...records].sort((a, b) => a.energy_pj - b.energy_pj || b.accuracy - a.accuracy)) {
    if (!found.length || record.accuracy > found.at(-1).accuracy) found.push(record);
  }
  return found;
}

function accuracyTicks(low, high) {
  const step = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2].find((one) => (high - low) / one <= 7) ?? 0.5;
  const found = [];
  for (let number = Math.ceil(low / step - 1e-9); number * step <= high + 1e-9; number += 1) found.push(number * step);
  return found;
}

function energyTicks(low, high, width) {
  for (const steps of [[1, 2, 5], [1, 3], [1]]) {
    const found = [];
    for (let power = Math.floor(low); power <= high; power += 1) {
      for (const step of steps) {
        const at = power + Math.log10(step);
        if (at >= low && at <= high) found.push(step * 10 ** power);
      }
    }
    if (found.length <= width / 74 || steps.length === 1) return found;
  }
  return [];
}

export class FrontChart {
  /**
   * @param choose Called with the id of a point, and whether to compare it.
   * @param retarget Called with an accuracy while the target is dragged.
   */
  constructor(root, { choose, retarget }) {
    this.root = root;
    this.choose = choose;
    this.retarget = retarget;
    this.seen = new Set();
    this.current = null;
    this.tip = element("div", { class: "tip", hidden: true, "aria-hidden": "true" });
    this.svg = shape("svg", { role: "group" });
    root.append(this.svg, this.tip);
    new ResizeObserver(() => this.scene && root.clientWidth && this.draw(this.scene)).observe(root); // none while it is hidden
    this.svg.addEventListener("click", (event) => this.#pick(event));
    this.svg.addEventListener("keydown", (event) => this.#press(event));
    this.svg.addEventListener("pointerdown", (event) => this.#drag(event));
    for (const [shown, hidden] of [["pointerover", "pointerout"], ["focusin", "focusout"]]) {
      this.svg.addEventListener(shown, (event) => this.#showTip(event.target.closest("[data-id]")));
      this.svg.addEventListener(hidden, () => { this.tip.hidden = true; });
    }
  }

  /** Draw the front, the baseline, each technique alone, live points, the target, and the chosen points. */
  draw(scene) {
    this.scene = scene = { ...scene, ...this.held };
    const width = Math.max(260, this.root.clientWidth);
    const height = Math.round(Math.min(500, Math.max(300, width * 0.52)));
    this.#scale(scene, width, height);
    const { left, right, top, bottom } = this.area;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.svg.setAttribute("aria-label", `Accuracy against energy: ${scene.front.length} configurations on the front, the baseline and each technique alone`);
    this.svg.setAttribute("height", height);
    refill(
      this.svg,
      shape("defs", {}, shape("clipPath", { id: "plot" }, shape("rect", { x: left, y: top - 12, width: right - left, height: bottom - top + 12 }))),
      this.#axes(),
      shape("g", { "clip-path": "url(#plot)" }, this.#lines(scene)),
      this.#target(scene),
      this.#distance(scene),
      this.#marks(scene),
    );
    this.seen = new Set(scene.live.map((one) => one.id));
  }

  #scale(scene, width, height) {
    const shown = [...scene.front, scene.baseline, ...Object.values(scene.techniques).flat()];
    const [low, high] = [scene.lowest / 100, scene.highest / 100];
    const room = (high - low) * 0.03;
    const visible = shown.filter((one) => one.accuracy >= low - 1e-9);
    const live = scene.live.filter((one) => one.accuracy >= low);
    const energies = [...visible, ...live].map((one) => Math.log10(one.energy_pj));
    const [cheap, dear] = [Math.min(...energies) - 0.12, Math.max(...energies) + 0.1];
    this.area = { left: 46, right: width - 12, top: 26, bottom: height - 44, low: Math.max(0, low - room), high: Math.min(1.005, high + room), cheap, dear };
    const { left, right, top, bottom } = this.area;
    this.x = (pj) => left + ((Math.log10(pj) - cheap) / (dear - cheap)) * (right - left);
    this.y = (share) => bottom - ((share - this.area.low) / (this.area.high - this.area.low)) * (bottom - top);
  }

  #axes() {
    const { left, right, top, bottom, low, high, cheap, dear } = this.area;
    const rows = accuracyTicks(low, Math.min(1, high)).map((share) => {
      const y = this.y(share);
      return [shape("line", { class: "grid", x1: left, x2: right, y1: y, y2: y }), shape("text", { x: left - 8, y: y + 4, "text-anchor": "end" }, String(Number((share * 100).toFixed(1))))];
    });
    const columns = energyTicks(cheap, dear, right - left).map((pj) => {
      const x = this.x(pj), [size, name] = words.unit(pj * 1.0001);
      return [shape("line", { class: "grid", x1: x, x2: x, y1: top, y2: bottom }), shape("text", { x, y: bottom + 18, "text-anchor": "middle" }, `${Number((pj / size).toPrecision(1))} ${name}`)];
    });
    return shape("g", { class: "axes", "aria-hidden": "true" }, rows, columns,
      shape("text", { class: "title", x: 0, y: 13 }, "accuracy, %"),
      shape("text", { class: "title", x: right, y: bottom + 38, "text-anchor": "end" }, "energy of one inference"));
  }

  #steps(records) {
    const places = records.map((one) => [this.x(one.energy_pj), this.y(one.accuracy)]);
    return places.length ? `M${places[0]}${places.slice(1).map(([x, y]) => `H${x}V${y}`).join("")}H${this.area.right}` : "";
  }

  #lines({ front, before, live }) {
    const merged = live.length ? frontOf([...front, ...live]) : front;
    const path = this.#steps(merged);
    return [
      path && shape("path", { class: "beneath", d: `${path}V${this.area.bottom}H${this.x(merged[0].energy_pj)}Z` }),
      before.length ? shape("path", { class: "before", d: this.#steps(before) }) : null,
      path && shape("path", { class: "line", d: path }),
    ].filter(Boolean);
  }

  #target({ target, lowest, highest }) {
    const { left, right } = this.area, y = this.y(target);
    return shape("g", {
      class: "target-line", "data-focus": "target", role: "slider", tabindex: 0, "aria-label": "Accuracy to reach, on the chart", "aria-orientation": "vertical",
      "aria-valuemin": lowest, "aria-valuemax": highest, "aria-valuenow": (target * 100).toFixed(2), "aria-valuetext": words.percent(target),
    },
    shape("line", { x1: left, x2: right, y1: y, y2: y }),
    shape("rect", { class: "reach", x: 0, y: y - 18, width: left, height: 36 }),
    shape("rect", { class: "grip", x: 0, y: y - 11, width: left, height: 22, rx: 4 }),
    shape("text", { x: left / 2, y: y + 4, "text-anchor": "middle" }, (target * 100).toFixed(2)));
  }

  /** How far the chosen configuration is from the baseline. */
  #distance({ baseline, chosen, evidenceOf }) {
    if (!chosen) return null;
    const { bottom, left } = this.area, from = this.x(chosen.energy_pj), to = this.x(baseline.energy_pj), y = bottom - 14;
    const text = `${words.ratio(baseline.energy_pj / chosen.energy_pj)} less`;
    if (to - from < text.length * 7 + 30 || from < left) return null;
    const middle = (from + to) / 2, half = text.length * 3.6 + 6;
    const drop = (x, share) => shape("line", { class: "drop", x1: x, x2: x, y1: Math.min(this.y(share) + 9, bottom), y2: bottom });
    const unsure = evidenceOf(chosen).verdict === "confirmed" ? "" : " unsure";
    return shape("g", { class: `distance${unsure}`, "aria-hidden": "true" },
      drop(from, chosen.accuracy), drop(to, baseline.accuracy),
      shape("path", { d: `M${from + 1} ${y}H${middle - half}M${middle + half} ${y}H${to - 1}M${from + 7} ${y - 4}L${from + 1} ${y}L${from + 7} ${y + 4}` }),
      shape("text", { x: middle, y: y + 4, "text-anchor": "middle" }, text));
  }

  #marks({ front, techniques, baseline, live, target, chosen, other, evidenceOf }) {
    const found = [...front, baseline, ...Object.values(techniques).flat(), ...live];
    const offFront = chosen && !found.some((one) => one.id === chosen.id) ? [chosen] : [];
    const all = [
      ...live.map((record) => ({ kind: "live", record })),
      ...[...front, ...offFront].map((record) => ({ kind: "front", record })),
      ...words.TECHNIQUES.flatMap((kind) => (techniques[kind] ?? []).map((record) => ({ kind, record }))),
      { kind: "baseline", record: baseline },
    ].filter(({ record }) => this.y(record.accuracy) <= this.area.bottom + 1);
    this.order = all.filter(({ kind }) => kind !== "live").sort((a, b) => a.record.energy_pj - b.record.energy_pj).map(({ kind, record }) => `${kind}-${record.id}`);
    if (!this.order.includes(this.current)) {
      this.current = this.order.find((name) => chosen && name.endsWith(chosen.id)) ?? this.order[0];
    }
    return all.map(({ kind, record }) => {
      const name = `${kind}-${record.id}`, reachable = kind !== "live";
      const place = `translate(${this.x(record.energy_pj)} ${this.y(record.accuracy)})`;
      const rejected = reachable && kind !== "baseline" && evidenceOf(record).verdict === "rejected";
      const states = [kind, record.accuracy < target ? "short" : "", rejected ? "rejected" : "", kind === "live" && !this.seen.has(record.id) ? "new" : ""];
      return shape("g", {
        class: `point ${states.filter(Boolean).join(" ")}`, transform: place, "data-id": record.id, "data-kind": kind, "data-focus": name,
        ...(reachable
          ? { role: "button", tabindex: name === this.current ? 0 : -1, "aria-pressed": String(record.id === chosen?.id), "aria-label": this.#label(kind, record).join(", ") }
          : { "aria-hidden": "true" }),
      },
      shape("circle", { class: "reach", r: kind === "live" ? 5 : 11 }),
      record.id === chosen?.id && reachable ? shape("circle", { class: "ring", r: 9.5 }) : null,
      record.id === other?.id && reachable ? shape("circle", { class: "ring other", r: 9.5 }) : null,
      shape("path", { class: `mark ${kind}`, d: MARKS[kind] }));
    });
  }

  #label(kind, record) {
    const names = { front: "", baseline: "baseline", live: "this search" };
    const verdict = kind === "live" ? null : this.scene.evidenceOf(record).verdict;
    const saved = words.ratio(this.scene.baseline.energy_pj / record.energy_pj);
    return [
      names[kind] ?? `${kind} alone`,
      `${words.percent(record.accuracy)}`,
      kind === "baseline" ? words.energy(record.energy_pj) : `${words.energy(record.energy_pj)}, ${saved} less than the baseline`,
      ...(verdict ? [VERDICT_WORDS[verdict]] : []),
      ...(record.candidate ? [words.short(record.candidate)] : []),
    ].filter(Boolean);
  }

  #find(node) {
    const { front, techniques, baseline, live, chosen } = this.scene;
    return [...front, baseline, ...Object.values(techniques).flat(), ...live, chosen].find((one) => one?.id === node.dataset.id);
  }

  #showTip(node) {
    const record = node && this.#find(node);
    if (!record) return;
    const [first, ...rest] = this.#label(node.dataset.kind, record);
    refill(this.tip, element("b", {}, first), rest.map((line) => element("span", {}, line)));
    this.tip.hidden = false;
    const x = this.x(record.energy_pj), y = this.y(record.accuracy), box = this.tip.getBoundingClientRect();
    this.tip.style.left = `${Math.max(0, Math.min(x - box.width / 2, this.root.clientWidth - box.width))}px`;
    this.tip.style.top = `${y - box.height - 14 < -30 ? y + 14 : y - box.height - 14}px`;
  }

  #pick(event) {
    const node = event.target.closest("[data-id]");
    if (!node) return;
    if (node.dataset.kind !== "live") this.current = node.dataset.focus;
    this.choose(node.dataset.id, event.shiftKey);
  }

  #press(event) {
    if (event.target.closest(".target-line")) return this.#shift(event);
    const node = event.target.closest("[data-id]");
    const steps = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, Home: -Infinity, End: Infinity };
    if (node && (event.key === "Enter" || event.key === " ")) {
      event.preventDefault();
      this.choose(node.dataset.id, event.shiftKey);
    } else if (node && event.key in steps) {
      event.preventDefault();
      const place = this.order.indexOf(node.dataset.focus) + steps[event.key];
      this.current = this.order[Math.max(0, Math.min(place, this.order.length - 1))];
      for (const one of this.svg.querySelectorAll("[tabindex]")) one.setAttribute("tabindex", one.dataset.focus === this.current ? 0 : -1);
      this.svg.querySelector("[tabindex='0']").focus();
    }
  }

  #shift(event) {
    const steps = { ArrowUp: STEP, ArrowRight: STEP, ArrowDown: -STEP, ArrowLeft: -STEP, PageUp: 20 * STEP, PageDown: -20 * STEP, Home: -1, End: 1 };
    if (!(event.key in steps)) return;
    event.preventDefault();
    this.#bounded(this.scene.target + steps[event.key]);
  }

  /** Set the target, limited to the range of the slider. */
  #bounded(share) {
    this.retarget(Math.min(this.scene.highest / 100, Math.max(this.scene.lowest / 100, share)));
  }

  #drag(event) {
    if (event.button !== 0 || !event.target.closest(".target-line")) return;
    event.preventDefault();
    this.svg.querySelector(".target-line").focus();
    this.svg.setPointerCapture(event.pointerId); // the grip itself is redrawn under the pointer
    this.held = { lowest: this.scene.lowest, highest: this.scene.highest }; // otherwise the axis would move under the pointer
    const over = new AbortController();
    const options = { signal: over.signal };
    this.svg.addEventListener("pointermove", ({ clientY }) => {
      const { low, high, top, bottom } = this.area;
      this.#bounded(low + ((bottom - (clientY - this.svg.getBoundingClientRect().top)) / (bottom - top)) * (high - low));
    }, options);
    for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) this.svg.addEventListener(end, () => { over.abort(); this.held = null; }, options);
  }
}

/** Draw the legend of the marks that are in use. */
export function drawLegend({ front, techniques, live, before, evidenceOf }) {
  const hollow = shape("svg", { class: "swatch", viewBox: "-10 -10 20 20", "aria-hidden": "true" }, shape("g", { class: "point rejected" }, shape("path", { class: "mark front", d: MARKS.front })));
  const isRejected = (one) => evidenceOf(one).verdict === "rejected";
  const line = (kind) => shape("svg", { class: "swatch", viewBox: "-10 -10 20 20", "aria-hidden": "true" }, shape("path", { class: kind, d: "M-10 0H10" }));
  const entries = [
    [swatch("front"), "front"],
    ...([...front, ...Object.values(techniques).flat()].some(isRejected) ? [[hollow, "rejected in confirmation"]] : []),
    [swatch("baseline"), "baseline"],
    ...words.TECHNIQUES.filter((kind) => techniques[kind]?.length).map((kind) => [swatch(kind), `${kind} alone`]),
    ...(live.length ? [[swatch("live"), "this search"]] : []),
    ...(before.length ? [[line("before"), "front before the search"]] : []),
  ];
  refill(byId("legend"), entries.map(([mark, text]) => element("li", {}, mark, text)));
}
