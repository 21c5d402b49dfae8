"""A prediction of accuracies from those that were measured, with how sure it is."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

# Time grows with the third power of points, and is longest for the kernel.
_POINTS_OF_KERNEL = 100
_POINTS = 1000
_ITERATIONS = 40  # of fitting the kernel: more cost seconds and predict no better
_SMALLEST_ERROR = 0.01  # added to errors before their logarithm, so that the last hundredths do not count most


class Surrogate:
    """A Gaussian process with a Matern kernel of smoothness 3/2, a length for every feature, and noise.

    It is fitted to the logarithm of the error: what separates 95 from 97 % matters, and as much as 60 from 75 %.

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
        """Expected accuracies.

        Args:
            features: Shape (m, features).
            confidence: Standard deviations by which the logarithm of the error is taken to be smaller than expected.

        Returns:
            Shape (m,), at most 1.
        """
        with _threads().limit(limits=1):
            mean, deviation = self._process.predict(features, return_std=True)
        return np.asarray(1 + _SMALLEST_ERROR - np.exp(mean - confidence * deviation)).clip(0, 1)


@cache
def _threads() -> ThreadpoolController:
    """Those of linear algebra. One is enough for so few points; several wait for each other where cores are busy."""
    from threadpoolctl import ThreadpoolController  # looks at what is loaded, which scikit-learn has to be

    return ThreadpoolController()


def _telling(accuracies: NDArray[np.float64], count: int) -> NDArray[np.int_]:
    """Which points to take if not all: half of them the most accurate, the others the newest."""
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
    """The kernel's parameters of largest likelihood, as near as a bounded number of steps comes."""
    from scipy.optimize import minimize  # takes a third of a second to load, and `search best` has no need of it

    found = minimize(objective, start, method="L-BFGS-B", jac=True, bounds=bounds, options={"maxiter": _ITERATIONS})
    return found.x, found.fun
