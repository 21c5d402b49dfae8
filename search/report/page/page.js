"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const narrow = matchMedia("(max-width: 40rem)");
  const root = document.documentElement;

  const byId = (id) => document.getElementById(id);
  const style = (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();
  // Plotly interprets some tags and entities in texts.
  const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const short = (text) => (text.length > 20 ? `${text.slice(0, 19)}…` : text);
  const chosen = (name) => document.querySelector(`input[name=${name}]:checked`).value;

  const MARKS = {
    network: { symbol: "square-open", words: "network alone" },
    pruning: { symbol: "triangle-up-open", words: "pruning alone" },
    multiplier: { symbol: "diamond-open", words: "multiplier alone" },
    memory: { symbol: "x-thin-open", words: "memory alone" },
  };

  // The tools of a chart are to its right; narrow charts have none.
  const margin = (more) => ({ l: 52, r: narrow.matches ? 12 : 40, t: 10, b: 48, ...more });

  function layout(more) {
    const ink = style("ink");
    return {
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: style("sans"), size: 13, color: ink },
      margin: margin(),
      modebar: { orientation: "v", bgcolor: "rgba(0,0,0,0)", color: style("behind"), activecolor: style("ink") },
      dragmode: narrow.matches ? false : "zoom",
      hovermode: "closest",
      hoverlabel: { bgcolor: style("surface"), bordercolor: style("line"), font: { family: style("sans"), color: ink, size: 13 }, align: "left" },
      ...more,
    };
  }

  function axis(title, more) {
    return {
      title: { text: title, font: { color: style("muted"), size: 13 }, standoff: 10 },
      gridcolor: style("grid"),
      linecolor: style("line"),
      tickcolor: style("line"),
      zeroline: false,
      automargin: true,
      ...more,
    };
  }

  const legend = (more) => ({
    orientation: "h", x: 0, xanchor: "left", y: 1.01, yanchor: "bottom",
    ...(narrow.matches ? { font: { size: 12 }, entrywidth: 104, entrywidthmode: "pixels" } : {}),
    ...more,
  });

  function draw(id, traces, arrangement, tools = ["toImage", "zoom2d", "pan2d", "resetScale2d"]) {
    return Plotly.react(id, traces, arrangement, {
      responsive: true,
      displaylogo: false,
      displayModeBar: narrow.matches || !tools.length ? false : "hover",
      modeBarButtons: [tools],
      toImageButtonOptions: { filename: `${data.name}-${id}`, scale: 2 },
    });
  }

  // The front -------------------------------------------------------------------------------------------------------

  function hover(points, place) {
    const lines = data.columns.map((column, index) => `${column} ${plain(points.words[place][index])}`);
    const worst = points.worst[place] < points.accuracy[place] ? `, worst chip ${points.worst[place].toFixed(2)} %` : "";
    const error = points.error[place] === null ? "" : ` ± ${points.error[place].toFixed(2)}`;
    return [
      `<b>${points.accuracy[place].toFixed(2)}${error} %</b>${worst}`,
      `<b>${points.energy[place].toPrecision(3)} ${data.unit}</b>, saves ${(data.baseline.energy[0] / points.energy[place]).toPrecision(3)}x, ${(data.right_sized / points.energy[place]).toPrecision(3)}x against the right-sized network`,
      ...(points.verdict[place] ? [data.verdicts[points.verdict[place]]] : []),
      ...lines,
      points.id[place],
    ].join("<br>");
  }

  function scatter(points, name, more, bars) {
    const places = points.id.map((_, place) => place);
    const down = places.map((place) => points.accuracy[place] - points.worst[place]);
    return {
      type: "scatter",
      mode: "markers",
      name,
      x: points.energy,
      y: points.accuracy,
      text: places.map((place) => hover(points, place)),
      hovertemplate: "%{text}<extra></extra>",
      ...(bars && down.some((length) => length > 0)
        ? { error_y: { type: "data", symmetric: false, array: down.map(() => 0), arrayminus: down, thickness: 1.2, width: 3, color: bars } }
        : {}),
      ...more,
    };
  }

  // The points drawn large, and the ranges that show those near the baseline.
  const large = [data.baseline, data.answer, data.front, ...Object.values(data.alone)];
  const baselineAccuracy = data.baseline.accuracy[0];
  const near = (() => {
    const found = { x: [], y: [] };
    for (const points of large) {
      points.accuracy.forEach((accuracy, place) => {
        if (accuracy >= baselineAccuracy - 10) {
          found.x.push(Math.log10(points.energy[place]));
          found.y.push(accuracy, Math.max(points.worst[place], baselineAccuracy - 10));
        }
      });
    }
    if (data.target >= baselineAccuracy - 10) found.y.push(data.target);
    const padded = (values, share, least) => {
      const low = Math.min(...values), high = Math.max(...values);
      const room = Math.max((high - low) * share, least);
      return [low - room, high + room];
    };
    return { x: padded(found.x, 0.06, 0.1), y: padded(found.y, 0.08, 0.4) };
  })();
  const everything = [...data.behind.accuracy, ...data.front.accuracy];
  if (Math.min(...everything) >= near.y[0]) byId("front-range").hidden = true;

  function drawFront() {
    const accent = style("accent"), ink = style("ink"), paper = style("paper");
    const ringed = data.confirmed ? ink : style("muted");
    const traces = data.stopped.id.length
      ? [scatter(data.stopped, "stopped early", { marker: { symbol: "x-thin", color: style("behind"), size: narrow.matches ? 4 : 6, opacity: 0.5, line: { width: 1, color: style("behind") } } })]
      : [];
    traces.push(
      scatter(data.behind, "evaluations", { marker: { color: style("behind"), size: narrow.matches ? 4 : 6, opacity: data.behind.id.length > 500 ? 0.3 : 0.55 } }),
    );
    for (const [technique, mark] of Object.entries(MARKS)) {
      const points = data.alone[technique];
      if (points.id.length) {
        traces.push(
          scatter(points, mark.words, { marker: { symbol: mark.symbol, size: narrow.matches ? 7 : 10, color: style(technique), line: { width: 2, color: style(technique) } } }, style(technique)),
        );
      }
    }
    traces.push(
      scatter(
        data.front,
        data.front.verdict.includes("rejected") ? "front (hollow: rejected)" : "front",
        {
          // With a third objective the front is not a line in this plane.
          mode: data.third === null ? "lines+markers" : "markers",
          line: { color: accent, width: 1.5, shape: "vh" },
          marker: {
            color: data.front.verdict.map((verdict) => (verdict === "rejected" ? paper : accent)),
            size: narrow.matches ? 7 : 9,
            line: { color: data.front.verdict.map((verdict) => (verdict === "rejected" ? accent : paper)), width: 1.5 },
          },
        },
        accent,
      ),
      ...(data.answer.id.length
        ? [scatter(data.answer, data.confirmed ? "answer" : "not confirmed", { marker: { symbol: "circle-open", color: ringed, size: narrow.matches ? 13 : 17, line: { width: 2, color: ringed } } })]
        : []),
      scatter(data.baseline, "baseline", { marker: { symbol: "star", color: ink, size: 15, line: { color: paper, width: 1 } } }, ink),
    );
    const limits = chosen("front-range") === "near" && !byId("front-range").hidden;
    const shapes = [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: data.target, y1: data.target, line: { color: style("muted"), width: 1, dash: "dash" } }];
    const annotations = [{ xref: "paper", x: 1, xanchor: "right", y: data.target, yanchor: "bottom", text: "target", showarrow: false, font: { color: style("muted"), size: 12 } }];
    draw("front-chart", traces, layout({
      xaxis: axis(`energy of one inference, ${data.unit}`, {
        type: "log", tickformat: "~g", dtick: limits && near.x[1] - near.x[0] < 1 ? "D1" : narrow.matches ? 1 : "D2", minor: { ticks: "outside", ticklen: 3, tickcolor: style("line") },
        ...(limits ? { range: near.x } : { autorange: true }),
      }),
      yaxis: axis("accuracy, %", { ...(limits ? { range: near.y } : { autorange: true }) }),
      legend: legend(),
      shapes,
      annotations,
      uirevision: chosen("front-range"),
    }));
  }

  // Where the energy goes -------------------------------------------------------------------------------------------

  function lightened(hex) {
    const share = Number(style("lighten"));
    const parts = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
    return `rgb(${parts.map((part) => Math.round(part + (255 - part) * share)).join(",")})`;
  }

  function unit(pj) {
    for (const [size, name] of [[1e9, "mJ"], [1e6, "uJ"], [1e3, "nJ"]]) if (pj >= size) return [size, name];
    return [1, "pJ"];
  }

  function drawEnergy() {
    const { bars, components } = data.breakdown;
    const scale = chosen("energy-scale");
    const labels = bars.map((bar) => `${bar.label}<br><b>${bar.total}</b>`);
    byId("energy-chart").style.height = scale === "log" ? `${Math.max(18, 5 + components.length * 2.4)}rem` : `${8 + bars.length * 3.4 + (narrow.matches ? Math.ceil(components.length / 2) * 1.4 : 0)}rem`;
    if (scale === "log") {
      const shades = [style("ink"), style("accent"), style("network"), style("pruning"), style("multiplier"), style("memory")];
      const symbols = ["star", "circle", "square", "triangle-up", "diamond", "x"];
      const [size, name] = unit(Math.max(...bars.map((bar) => bar.pj)) / 30);
      const names = components.map((component) => component.name);
      const traces = bars.map((bar, place) => ({
        type: "scatter",
        mode: "markers",
        name: bar.label,
        x: components.map((component) => (component.pj[place] > 0 ? component.pj[place] / size : null)),
        y: names,
        text: components.map((component) => component.words[place]),
        hovertemplate: `<b>%{text}</b> %{y}<extra>${bar.label}</extra>`,
        marker: { color: shades[place], symbol: symbols[place], size: 11, line: { color: style("paper"), width: 1 } },
      }));
      draw("energy-chart", traces, layout({
        xaxis: axis(`energy of one inference, ${name}`, { type: "log", tickformat: "~g", dtick: narrow.matches ? 2 : 1, tickangle: 0 }),
        yaxis: axis("", { type: "category", autorange: "reversed", showgrid: true }),
        legend: legend(narrow.matches ? { entrywidth: 160 } : {}),
        margin: margin({ l: 10 }),
      }));
      return;
    }
    const largest = Math.max(...bars.map((bar) => bar.pj));
    const [size, name] = unit(largest);
    const traces = components.map((component) => ({
      type: "bar",
      orientation: "h",
      name: component.name,
      y: labels,
      x: component.pj.map((pj, place) => (scale === "share" ? (100 * pj) / bars[place].pj : pj / size)),
      customdata: component.pj.map((pj, place) => [component.words[place], `${((100 * pj) / bars[place].pj).toPrecision(3)} %`]),
      hovertemplate: `<b>%{customdata[0]}</b>, %{customdata[1]}<extra>${plain(component.name)}</extra>`,
      marker: { color: lightened(component.colour), line: { color: style("paper"), width: 1 } },
    }));
    draw("energy-chart", traces, layout({
      barmode: "stack",
      bargap: 0.35,
      xaxis: axis(scale === "share" ? "share of the energy, %" : `energy of one inference, ${name}`, scale === "share" ? { range: [0, 100] } : { rangemode: "tozero" }),
      yaxis: axis("", { type: "category", autorange: "reversed", showgrid: false, tickfont: { size: narrow.matches ? 12 : 13 } }),
      legend: legend({ traceorder: "normal" }),
      margin: margin({ l: 10 }),
    }));
  }

  // The knobs -------------------------------------------------------------------------------------------------------

  function canDrawLines() {
    const canvas = document.createElement("canvas");
    return Boolean(canvas.getContext("webgl") || canvas.getContext("experimental-webgl"));
  }

  const linesMissing = !data.knob_axes.axes.length
    ? "No knob varied, so there is nothing to draw."
    : !canDrawLines() ? "This chart needs WebGL, which this browser lacks." : "";
  if (linesMissing) {
    byId("knobs-chart").textContent = linesMissing;
    byId("knobs-chart").className = "missing";
    byId("knobs-colour").hidden = true;
  }
  if (data.knob_axes.constant.length) byId("constant-knobs").textContent = `Constant: ${data.knob_axes.constant.join(", ")}.`;

  function drawKnobs() {
    if (linesMissing) return;
    const { axes, accuracy, log_energy } = data.knob_axes;
    const around = (values) => {
      const low = Math.min(...values), high = Math.max(...values);
      return low === high ? [low - 1, high + 1] : [low, high];
    };
    // Whether every value can have its own tick.
    const fewAndApart = (values) => {
      const sorted = [...new Set(values)].sort((a, b) => a - b);
      const least = (sorted.at(-1) - sorted[0]) / 14;
      return sorted.every((value, place) => place === 0 || value - sorted[place - 1] >= least);
    };
    const dimensions = axes.map((one) => ({
      label: plain(one.label),
      values: one.values,
      ...(one.names ? { tickvals: one.names.map((_, place) => place), ticktext: one.names.map((name) => plain(short(name))) } : {}),
      ...(!one.names && fewAndApart(one.values) ? { tickvals: [...new Set(one.values)] } : {}),
    }));
    const [low, high] = around(log_energy);
    const ticks = [];
    for (let power = Math.floor(low); power <= high + 1; power += 1) {
      for (const step of high - low < 1.5 ? [1, 2, 5] : [1]) {
        const value = power + Math.log10(step);
        if (value >= low && value <= high) ticks.push(value);
      }
    }
    dimensions.push(
      { label: "accuracy, %", values: accuracy, range: around(accuracy) },
      {
        label: "energy", values: log_energy, range: [low, high], tickvals: ticks,
        ticktext: ticks.map((value) => { const [size, name] = unit(10 ** value * 1.000001); return `${Number((10 ** value / size).toPrecision(3))} ${name}`; }),
      },
    );
    const byAccuracy = chosen("knobs-colour") === "accuracy";
    const colours = [style("scale-low"), style("scale-middle"), style("scale-high")];
    const [dearest, cheapest] = [Math.max(...log_energy), Math.min(...log_energy)];
    // Most accuracies are near the top, so the scale begins ten points below the baseline.
    const limits = byAccuracy ? [Math.min(baselineAccuracy - 10, Math.max(...accuracy) - 1), Math.max(...accuracy)] : [cheapest, dearest + (dearest === cheapest ? 1 : 0)];
    draw("knobs-chart", [{
      type: "parcoords",
      dimensions,
      line: {
        color: byAccuracy ? accuracy : log_energy,
        cmin: limits[0],
        cmax: limits[1],
        colorscale: (byAccuracy ? colours : [...colours].reverse()).map((colour, place) => [place / 2, colour]),
      },
      labelfont: { size: 12.5, color: style("ink") },
      tickfont: { size: 11.5, color: style("ink"), shadow: "none" },
      rangefont: { size: 1, color: "rgba(0,0,0,0)" },
      unselected: { line: { color: style("behind"), opacity: 0.08 } },
    }], layout({ margin: { l: 46, r: 24, t: 44, b: 16 } }), []);
  }

  // Progress --------------------------------------------------------------------------------------------------------

  function drawProgress() {
    const { evaluation, hypervolume } = data.course;
    draw("progress-chart", [{
      type: "scatter",
      mode: evaluation.length > 1 ? "lines" : "markers",
      x: evaluation,
      y: hypervolume,
      line: { color: style("accent"), width: 2, shape: "hv" },
      hovertemplate: "<b>%{y:.4f}</b> after %{x}<extra></extra>",
    }], layout({
      // Ticks at whole numbers: for few evaluations Plotly would take halves.
      xaxis: axis("evaluations", { rangemode: "tozero", tickformat: ",d", ...(evaluation.length < 10 ? { dtick: 1 } : {}) }),
      yaxis: axis("hypervolume", { rangemode: "tozero" }),
      showlegend: false,
      hovermode: "x",
    }));
  }

  // The table -------------------------------------------------------------------------------------------------------

  function sortBy(heading) {
    const headings = [...heading.parentElement.children];
    const place = headings.indexOf(heading);
    const numeric = heading.classList.contains("numeric");
    const before = heading.getAttribute("aria-sort");
    // Numbers are sorted in descending order first, names in ascending order.
    const order = before === "none" ? (numeric ? "descending" : "ascending") : before === "descending" ? "ascending" : "descending";
    for (const other of headings) if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", other === heading ? order : "none");
    const body = heading.closest("table").tBodies[0];
    const value = (row) => row.cells[place].dataset.value;
    const sign = order === "ascending" ? 1 : -1;
    const rows = [...body.rows].sort((a, b) => {
      const [one, other] = [value(a), value(b)];
      if (one === "" || other === "") return (one === "") - (other === ""); // unknown values stay last
      return sign * (numeric ? Number(one) - Number(other) : one.localeCompare(other));
    });
    body.append(...rows);
  }

  async function copy(button) {
    const text = button.dataset.copy;
    let done = true;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Some browsers keep pages opened from a file from using the clipboard.
      const area = document.createElement("textarea");
      area.value = text;
      area.setAttribute("readonly", "");
      area.className = "unseen";
      document.body.append(area);
      area.focus();
      area.select();
      done = document.execCommand("copy");
      area.remove();
      button.focus();
    }
    byId("said").textContent = `${done ? "Copied" : "This browser cannot copy"}: ${text}`;
    if (!done) return;
    button.classList.add("done");
    setTimeout(() => button.classList.remove("done"), 1500);
  }

  for (const heading of document.querySelectorAll("th[aria-sort]")) {
    heading.querySelector("button").addEventListener("click", () => sortBy(heading));
  }
  for (const button of document.querySelectorAll("button.copy")) button.addEventListener("click", () => copy(button));

  // -----------------------------------------------------------------------------------------------------------------

  byId("front-range").addEventListener("change", drawFront);
  byId("energy-scale").addEventListener("change", drawEnergy);
  byId("knobs-colour").addEventListener("change", drawKnobs);

  function drawAll() {
    drawFront();
    drawEnergy();
    drawKnobs();
    drawProgress();
  }

  drawAll();
  for (const query of [narrow, matchMedia("(prefers-color-scheme: dark)")]) query.addEventListener("change", drawAll);
})();
