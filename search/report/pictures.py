"""The energy of a network as a picture: a stacked bar for each layer."""

from __future__ import annotations

from pathlib import Path

import energy
from search.answers import words

# Colours that stay apart for colour-blind readers (P. Tol's "bright" and "muted" sets), one for each component.
COMPONENT_COLOURS = {
    "mac": "#4477AA",
    "registers": "#66CCEE",
    "clock": "#332288",
    "weight_sram": "#228833",
    "metadata": "#999933",
    "biases": "#882255",
    "activation_sram": "#CCBB44",
    "partial_sums": "#EE6677",
    "requantisation": "#EE8866",
    "dram": "#AA3377",
    "leakage": "#BBBBBB",
    "overhead": "#555555",
}


def draw_energy(found: energy.EnergyReport, path: Path, *, title: str) -> Path:
    """Draw the energy of each layer, stacked by component; return the path.

    Args:
        found: The energies.
        path: A .png, .svg or .pdf file.
        title: Title of the picture.

    Raises:
        UsageError: If the file has another suffix, or cannot be written.
    """
    from search.report.figures import NotebookFigure, save_figure  # imported late, because it loads matplotlib

    layers = found.layers
    largest = max(sum(components.values()) for components in layers.values())
    size, unit = words.energy_unit(largest)
    figure = NotebookFigure(min(24, max(7.2, 2.5 + 0.36 * len(layers))), 4.4)
    axes = figure.subplots()
    below = [0.0] * len(layers)
    for component in energy.COMPONENTS:
        heights = [layers[name][component] / size for name in layers]
        if any(heights):
            label = f"{component.replace('_', ' ')}, {words.energy(found.components[component])}"
            axes.bar(
                range(len(layers)), heights, bottom=below, color=COMPONENT_COLOURS[component], label=label, width=0.8
            )
        below = [low + height for low, height in zip(below, heights, strict=True)]
    axes.set_xticks(range(len(layers)), list(layers))
    if len(layers) > 6 or max(map(len, layers)) > 8:
        for tick in axes.get_xticklabels():
            tick.set(rotation=45, ha="right", rotation_mode="anchor", fontsize="small")
    axes.set_xlabel("layer")
    axes.set_ylabel(f"energy of one inference, {unit}")
    axes.set_title(title, fontsize="medium")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(title="component, total", frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return save_figure(figure, path)
