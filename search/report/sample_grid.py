"""Samples of a data set as a picture: a row of images for each class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from search.errors import UsageError
from search.images.dataset import Dataset
from search.images.image_set import ImageSet

_ROWS, _COLUMNS = 20, 10  # at most
_CELL_INCHES = 0.62
_CELL_PIXELS = 96  # larger images are drawn with fewer pixels
_GAP = 0.08  # between images, as a share of one


def draw_samples(dataset: Dataset, images: ImageSet, path: Path) -> Path:
    """Draw some images of each class, or of some classes if there are many; return the path.

    Args:
        dataset: The data set.
        images: Its images.
        path: A .png file.

    Raises:
        UsageError: If the file has another suffix, or cannot be written.
    """
    if path.suffix.lower() != ".png":
        raise UsageError(f"cannot draw to {path}: `picture` must end in .png")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    classes = _spread(np.arange(dataset.classes), _ROWS)
    _, height, width = dataset.image_shape
    smaller = min(1.0, _CELL_PIXELS / max(height, width))
    tall, wide = max(1, round(height * smaller)), max(1, round(width * smaller))
    gap = max(1, round(_GAP * max(tall, wide)))
    canvas = np.full((len(classes) * (tall + gap) - gap, _COLUMNS * (wide + gap) - gap, 3), 255, np.uint8)
    for row, label in enumerate(classes):
        chosen = _spread(np.flatnonzero(images.labels == label), _COLUMNS)
        for column, image in enumerate(images.subset(chosen).images() if len(chosen) else ()):
            top, left = row * (tall + gap), column * (wide + gap)
            drawn = Image.fromarray(_colours(image, dataset.pixel_max)).resize((wide, tall), Image.Resampling.BOX)
            canvas[top : top + tall, left : left + wide] = np.asarray(drawn)
    names = [_short(dataset.class_names[label]) for label in classes]
    aspect = (tall + gap) / (wide + gap)
    inches = _COLUMNS * _CELL_INCHES, len(classes) * _CELL_INCHES * aspect
    labels = 0.09 * max(map(len, names)) + 0.3
    figure = Figure(figsize=(inches[0] + labels, inches[1] + 0.6), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.imshow(canvas, interpolation="nearest" if smaller == 1 else "antialiased")
    axes.set_xticks([])
    axes.set_yticks([row * (tall + gap) + (tall - 1) / 2 for row in range(len(classes))], names, fontsize="small")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    shown = f", {len(classes)} of {dataset.classes} classes" if len(classes) < dataset.classes else ""
    axes.set_title(f"{dataset.identity}: training images{shown}", fontsize="medium", loc="left")
    try:
        figure.savefig(path, format="png", bbox_inches="tight", pad_inches=0.1)
    except OSError as error:
        raise UsageError(
            f"cannot draw to {path}: {error.strerror or error}; name another file with `picture`"
        ) from None
    return path


def _spread(values: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Return the values, or evenly spaced ones of many."""
    if len(values) <= most:
        return values
    return values[np.linspace(0, len(values) - 1, most).round().astype(np.int64)]


def _colours(image: NDArray[np.uint8], pixel_max: int) -> NDArray[np.uint8]:
    """Return an image of shape (C, H, W) as red, green and blue: shape (H, W, 3); of other channels the mean."""
    scaled = np.rint(image.astype(np.float64) * (255 / pixel_max)).clip(0, 255)
    if len(image) != 3:
        scaled = scaled.mean(axis=0, keepdims=True).repeat(3, axis=0)
    return scaled.transpose(1, 2, 0).astype(np.uint8)


def _short(name: str) -> str:
    return name if len(name) <= 24 else f"{name[:23]}…"
