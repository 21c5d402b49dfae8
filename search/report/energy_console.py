"""The energy of a candidate as a table and sentences on a console, and as JSON values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import energy
from search.answers import words
from search.answers.energy import Scored

_SMALL = 0.03
_COLUMNS = 5
_HEADS = {
    "mac": "MAC",
    "registers": "regs",
    "clock": "clock",
    "weight_sram": "weights",
    "metadata": "meta",
    "biases": "biases",
    "activation_sram": "activ.",
    "partial_sums": "sums",
    "requantisation": "codes",
    "dram": "DRAM",
    "leakage": "leak",
    "overhead": "other",
}


def print_energy(console: Console, scored: Scored, picture: Path | None) -> None:
    """Print energy per layer and component, its range, the saving, latency and area.

    Small components share a column, so that the table fits a terminal of 80 columns; multiplications have their own.
    """
    found = scored.report
    components, total = found.components, found.energy_pj
    largest = sorted(energy.COMPONENTS, key=lambda name: -components[name])[:_COLUMNS]
    shown = [
        name for name in energy.COMPONENTS if name == "mac" or (name in largest and components[name] >= _SMALL * total)
    ]
    size, unit = words.energy_unit(total)

    def cells(parts: Mapping[str, float]) -> list[str]:
        rest = sum(value for name, value in parts.items() if name not in shown)
        whole = sum(parts.values())
        return [_figure(value / size) for value in (*(parts[name] for name in shown), rest, whole)]

    console.print(f"[bold]{escape(_title(scored))}[/bold]; {unit} for one inference", highlight=False, soft_wrap=True)
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=0)
    names = max(len("layer"), *(len(name) for name in found.layers))
    table.add_column("layer", overflow="fold", min_width=min(names, 16))
    for name in (*(_HEADS[name] for name in shown), "rest", "energy", "share"):
        table.add_column(f"  {name}", justify="right", no_wrap=True)
    for layer, parts in found.layers.items():
        table.add_row(layer, *cells(parts), f"{sum(parts.values()) / total:.1%}")
    table.add_section()
    table.add_row("all", *cells(components), "100%")
    small = sum(components[name] for name in energy.COMPONENTS if name not in shown)
    shares = [f"{value / total:.1%}" for value in (*(components[name] for name in shown), small)]
    table.add_row("share", *shares, "100%", "")
    console.print(table)
    for line in _sentences(scored, picture):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _figure(value: float) -> str:
    """Format a number with three significant digits and no exponent; a dash for zero."""
    if value == 0:
        return "-"
    if value < 0.001:
        return "<0.001"
    return f"{value:#.3g}".rstrip(".") if value < 1000 else f"{value:.0f}"


def energy_json(scored: Scored) -> dict[str, Any]:
    """Return the same as a JSON object. Energies are pJ per inference."""
    found, baseline, saving = scored.report, scored.baseline, scored.saving
    return {
        "source": scored.title,
        "candidate": None if scored.candidate is None else scored.candidate.to_dict(),
        "hardware": scored.report.hardware.identity,
        "energy_pj": found.energy_pj,
        "energy_low_pj": found.energy_band.low,
        "energy_high_pj": found.energy_band.high,
        "components_pj": {name: band._asdict() for name, band in found.component_bands.items()},
        "layers_pj": found.layers,
        "baseline_energy_pj": None if baseline is None else baseline.energy_band._asdict(),
        "saving": None if saving is None else saving._asdict(),
        "dataflows": dict(zip(found.layers, found.dataflows, strict=True)),
        "latency_us": found.latency_us,
        "cycles": found.cycles,
        "weight_memory_kb": found.weight_memory_kb,
        "activation_memory_kb": found.activation_memory_kb,
        "area_mm2": found.area_mm2._asdict(),
        "macs": scored.workload.macs,
        "weights": sum(layer.weights for layer in scored.workload.layers),
        "nonzero_weights": sum(layer.nonzero_weights for layer in scored.workload.layers),
        "workload": scored.workload.to_dict(),
        "energy_per_action_pj": found.table.averaged(found.counts).values(),
        "notes": list(scored.notes),
    }


def _title(scored: Scored) -> str:
    candidate = "" if scored.candidate is None else ": " + ", ".join(words.configuration(scored.candidate).values())
    return f"{scored.title}{candidate}, on {scored.report.hardware.identity}"


def _sentences(scored: Scored, picture: Path | None) -> list[str]:
    found, saving = scored.report, scored.saving
    batch = f" for a batch of {scored.workload.batch}" if scored.workload.batch > 1 else ""
    band, area = found.energy_band, found.area_mm2
    lines = [
        f"Energy:    {words.energy(band.value)} for one inference; {words.energy(band.low)} to "
        f"{words.energy(band.high)} by the lowest and highest published figures."
    ]
    if saving is not None and scored.baseline is not None:
        lines.append(
            f"Saving:    {words.less(saving.value)} the baseline's "
            f"{words.energy(scored.baseline.energy_pj)}; {words.saving(saving.low)} to {words.saving(saving.high)} "
            "by any mix of the lowest and the highest."
        )
    lines += [
        f"Latency:   {found.latency_us:.4g} us{batch}, {found.cycles} cycles at {found.hardware.clock_mhz:g} MHz.",
        *_dataflows(found),
        f"Memories:  {found.weight_memory_kb} KB for weights, {found.activation_memory_kb} KB for activations.",
        f"Area:      {area.value:.3g} mm2; {area.low:.3g} to {area.high:.3g}.",
        *scored.notes,
    ]
    if picture is not None:
        lines.append(f"Picture:   {picture}")
    return lines


def _dataflows(found: energy.EnergyReport) -> list[str]:
    """Say which dataflow layers take, if the hardware leaves a choice."""
    if found.hardware.dataflow != "best":
        return []
    taken = Counter(found.dataflows)
    counts = " and ".join(f"{dataflow} in {count}" for dataflow, count in taken.most_common())
    return [f"Dataflow:  {counts} of {len(found.dataflows)} layers, whichever costs the layer less."]
