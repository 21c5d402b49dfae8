"""Figures that notebooks show, and files of them."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from search.errors import UsageError

_ENDINGS = (".png", ".svg", ".pdf")


class NotebookFigure(Figure):
    """A figure outside of pyplot, whose state it neither needs nor changes; as a cell's last line it is shown.

    Args:
        width: Inches.
        height: Inches.
    """

    def __init__(self, width: float, height: float) -> None:
        super().__init__(figsize=(width, height), dpi=150, layout="constrained")
        FigureCanvasAgg(self)

    def _repr_png_(self) -> bytes:
        written = io.BytesIO()
        self.savefig(written, format="png")
        return written.getvalue()


def save_figure(figure: Figure, path: Path) -> Path:
    """Write a figure; the same figure gives the same file. Return the path.

    Args:
        figure: The figure.
        path: A .png, .svg or .pdf file.

    Raises:
        UsageError: If the file has another suffix, or cannot be written.
    """
    check_picture(path)
    dated = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    try:
        with mpl.rc_context({"svg.hashsalt": "crosslayer", "svg.fonttype": "none"}):
            figure.savefig(path, metadata=dated.get(path.suffix.lower()))
    except OSError as error:
        raise UsageError(f"cannot draw to {path}: {error.strerror or error}; choose another file") from None
    return path


def check_picture(path: Path) -> None:
    """Check that pictures can be written in the format of a file's suffix.

    Raises:
        UsageError: If it cannot.
    """
    if path.suffix.lower() not in _ENDINGS:
        raise UsageError(f"cannot draw to {path}: its suffix must be one of {', '.join(_ENDINGS)}")
