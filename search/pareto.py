"""Pareto fronts of points to minimise, as pure functions on arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def non_dominated_mask(points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return a mask of the points that no other point dominates.

    A point dominates another if it is at most as large in every coordinate and smaller in one. Equal points do not
    dominate each other. A point with a NaN is never in the front.

    Args:
        points: Shape (n, objectives), smaller is better; n may be 0.

    Returns:
        Shape (n,).
    """
    left = np.flatnonzero(~np.isnan(points).any(axis=1))
    # Each point in turn drops those it dominates. The best come first, so that few are left soon: the work is the
    # size of the front times the number of points, not the square of the latter.
    left = left[np.lexsort(points[left].T[::-1])]
    place = 0
    while place < len(left):
        point, others = points[left[place]], points[left]
        dominated = (others >= point).all(axis=1) & (others > point).any(axis=1)
        place += 1 - int(dominated[:place].sum())
        left = left[~dominated]
    mask = np.zeros(len(points), dtype=np.bool_)
    mask[left] = True
    return mask


def hypervolume(points: NDArray[np.float64], reference: tuple[float, ...]) -> float:
    """Return the area or volume that points dominate up to a reference point.

    Args:
        points: Shape (n, objectives), smaller is better, with two or three objectives; points beyond the reference in
            any coordinate add nothing.
        reference: The corner that bounds the area or volume, a number for each objective.

    Returns:
        The area or volume; 0 without points.
    """
    inside = points[(points < np.asarray(reference)).all(axis=1)]
    if len(reference) == 2:
        return _area(inside, reference)
    # Between one value of the last objective and the next, the dominated area of the others stays the same.
    levels = np.unique(inside[:, -1])
    thicknesses = np.diff(np.append(levels, reference[-1]))
    volume = 0.0
    for level, thickness in zip(levels.tolist(), thicknesses.tolist(), strict=True):
        volume += thickness * _area(inside[inside[:, -1] <= level, :-1], reference[:-1])
    return volume


def hypervolume_gains(
    front: NDArray[np.float64], points: NDArray[np.float64], reference: tuple[float, ...]
) -> NDArray[np.float64]:
    """Return how much each point alone would add to the hypervolume of a front.

    Args:
        front: Shape (n, objectives), smaller is better.
        points: Shape (m, objectives).
        reference: As for `hypervolume`.

    Returns:
        Shape (m,).
    """
    before = hypervolume(front, reference)
    return np.array([hypervolume(np.vstack([front, point]), reference) - before for point in points])


def _area(points: NDArray[np.float64], reference: tuple[float, ...]) -> float:
    area, ceiling = 0.0, reference[1]
    for x, y in points[np.lexsort((points[:, 1], points[:, 0]))].tolist():
        if y < ceiling:
            area += (reference[0] - x) * (ceiling - y)
            ceiling = y
    return area
