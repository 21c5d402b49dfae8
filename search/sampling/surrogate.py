"""A surrogate that predicts accuracies, with their uncertainty, from measured ones."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

# Time grows with the cube of the number of points; fitting the kernel takes most of it.
_POINTS_OF_KERNEL = 100
_POINTS = 1000
_ITERATIONS = 40  # of fitting the kernel; more take seconds and predict no better
_SMALLEST_ERROR = 0.01  # added to errors before taking the logarithm, so that the smallest do not dominate


class Surrogate:
    """A Gaussian process with a Matern kernel of smoothness 3/2, a length scale per feature, and noise.

    It is fitted to the logarithm of the error, for which 95 and 97 % are about as far apart as 60 and 75 %.

    Args:
        features: Shape (n, features).
        accuracies: Shape (n,), in [0, 1].
    """

    def __init__(self, features: NDArray[np.float64], accuracies: NDArray[np.float64]) -> None:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

        errors = np.log(1 - accuracies + _SMALLEST_ERROR)
        lengths = Matern(np.full(features.shape[1], 2.0), length_scale_bounds=(0.05, 50.0), nu=1.5)
        kernel = ConstantKernel(1.0, (1e-2, 1e2)) * lengths + WhiteKernel(1e-2, (1e-4, 1.0))
        with _threads().limit(limits=1), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a length at its bound: the feature does not matter
            few = _telling(accuracies, _POINTS_OF_KERNEL)
            fitted = GaussianProcessRegressor(kernel, optimizer=_fitted, normalize_y=True).fit(
                features[few], errors[few]
            )
            kept = _telling(accuracies, _POINTS)
            self._process = GaussianProcessRegressor(fitted.kernel_, optimizer=None, normalize_y=True)
            self._process.fit(features[kept], errors[kept])

    def predict(self, features: NDArray[np.float64], *, confidence: float) -> NDArray[np.float64]:
        """Return the expected accuracies.

        Args:
            features: Shape (m, features).
            confidence: Standard deviations to subtract from the expected logarithm of the error.

        Returns:
            Shape (m,), at most 1.
        """
        with _threads().limit(limits=1):
            mean, deviation = self._process.predict(features, return_std=True)
        return np.asarray(1 + _SMALLEST_ERROR - np.exp(mean - confidence * deviation)).clip(0, 1)


@cache
def _threads() -> ThreadpoolController:
    """Return the threads of linear algebra. One suffices for few points; several would contend for busy cores."""
    from threadpoolctl import ThreadpoolController  # inspects loaded libraries, so scikit-learn must be imported before

    return ThreadpoolController()


def _telling(accuracies: NDArray[np.float64], count: int) -> NDArray[np.int_]:
    """Return the indices of at most `count` points: the most accurate half, and the newest of the others."""
    everyone = np.arange(len(accuracies))
    if len(accuracies) <= count:
        return everyone
    best = np.argsort(-accuracies, kind="stable")[: count // 2]
    others = np.setdiff1d(everyone, best)
    return np.union1d(best, others[-(count - count // 2) :])


def _fitted(
    objective: Callable[[NDArray[np.float64]], tuple[float, NDArray[np.float64]]],
    start: NDArray[np.float64],
    bounds: NDArray[np.float64],
) -> tuple[NDArray[np.float64], float]:
    """Return the kernel's parameters of largest likelihood, within a bounded number of steps."""
    from scipy.optimize import minimize  # takes a third of a second to import, and `search best` does not need it

    found = minimize(objective, start, method="L-BFGS-B", jac=True, bounds=bounds, options={"maxiter": _ITERATIONS})
    return found.x, found.fun
