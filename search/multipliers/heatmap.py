"""The errors of a multiplier as a picture."""

from __future__ import annotations

from pathlib import Path

import approx
from search.errors import UsageError


def draw_errors(multiplier: approx.Multiplier, path: Path) -> Path:
    """Draw the error of every operand pair, ordered by operand values; return the path.

    Raises:
        UsageError: If the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    errors = approx.error_table(multiplier)
    activations, weights = multiplier.activation_values, multiplier.weight_values
    ordered = errors[activations.argsort()][:, weights.argsort()].numpy()
    reach = max(1, int(abs(ordered).max()))
    figure = Figure(figsize=(6.4, 5.2), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    extent = (
        float(weights.min()) - 0.5,
        float(weights.max()) + 0.5,
        float(activations.min()) - 0.5,
        float(activations.max()) + 0.5,
    )
    image = axes.imshow(
        ordered, origin="lower", extent=extent, cmap="RdBu_r", vmin=-reach, vmax=reach, interpolation="nearest"
    )
    axes.set_xlabel("weight")
    axes.set_ylabel("activation")
    signs = "signed" if multiplier.weight_signed else "unsigned"
    widths = f"{multiplier.activation_bits} x {multiplier.weight_bits} bits, {signs}"
    axes.set_title(f"{multiplier.name}, {widths}: approximate minus exact product", fontsize="medium")
    figure.colorbar(image, ax=axes, label="error")
    try:
        figure.savefig(path, format="png")
    except OSError as error:
        raise UsageError(f"cannot draw to {path}: {error.strerror or error}; name another file with `out`") from None
    return path
