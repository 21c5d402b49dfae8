"""Fronts of points to minimise, as pure functions on arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def non_dominated_mask(points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which points no other point dominates.

    A point dominates another if it is at most as large in every coordinate and smaller in one. Equal points do not
    dominate each other. A point with a NaN is never in the front.

    Args:
        points: Shape (n, objectives), smaller is better; n may be 0.

    Returns:
        Shape (n,).
    """
    finite = np.asarray(~np.isnan(points).any(axis=1))
    mask = finite.copy()
    others = points[finite]
    for i in np.flatnonzero(finite):
        dominates = (others <= points[i]).all(axis=1) & (others < points[i]).any(axis=1)
        mask[i] = not dominates.any()
    return mask


def hypervolume(points: NDArray[np.float64], reference: tuple[float, float]) -> float:
    """Area dominated by points of two objectives, up to a reference point.

    Args:
        points: Shape (n, 2), smaller is better; points beyond the reference in a coordinate add nothing.
        reference: The corner that bounds the area.

    Returns:
        The area; 0 without points.
    """
    inside = points[(points < np.asarray(reference)).all(axis=1)]
    area, ceiling = 0.0, reference[1]
    for x, y in inside[np.lexsort((inside[:, 1], inside[:, 0]))]:
        if y < ceiling:
            area += (reference[0] - x) * (ceiling - y)
            ceiling = y
    return float(area)
