"""A synthetic search space, free to evaluate, to compare samplers on.

It has fifteen knobs of mixed kinds and the traits of the real problem: accuracy saturates with capacity and falls off
beyond a knee of pruning; errors of precision, multipliers and memories compound and end in cliffs; every measurement is
noisy. Energy is exact. No number here is that of a device.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

from search.content_hash import content_hash
from search.sampling.offspring import Genes

NOISE = 0.004  # standard deviation of a measured accuracy
FLOOR = 0.2  # accuracy below the baseline's at which the hypervolume begins

_BLOCKS = {"plain": (1.0, 1.0), "residual": (1.1, 1.25), "separable": (0.3, 0.55)}  # cost, capacity per MAC^(...)
_KERNELS = {"3": 1.0, "5": 1.6, "7": 2.2}
# Energy and error of multipliers; some are dominated, as in any catalogue.
_MULTIPLIERS = {
    f"m{number}": figures
    for number, figures in enumerate(
        [
            (1.00, 0.0), (0.93, 0.0006), (0.85, 0.0012), (0.90, 0.0040), (0.74, 0.0030), (0.66, 0.0055), (0.70, 0.0120),
            (0.52, 0.0110), (0.45, 0.0200), (0.55, 0.0380), (0.33, 0.0420), (0.22, 0.0900), (0.15, 0.2200),
        ]
    )
}  # fmt: skip
_GROUPS = ("first", "middle", "last")
_SENSITIVITY = {"first": 1.6, "middle": 1.0, "last": 1.3}
_PRUNING_KNEE = {"first": 0.45, "middle": 0.80, "last": 0.65}


class SyntheticProblem:
    """The synthetic space, which satisfies `search.sampling.offspring.GenomeModel`."""

    def distributions(self) -> Mapping[str, BaseDistribution]:
        """Return gene -> distribution."""
        percent, millivolts = IntDistribution(0, 95, step=5), IntDistribution(700, 900, step=10)
        return {
            "depth": IntDistribution(1, 8),
            "width": IntDistribution(1, 16),
            "block": CategoricalDistribution(tuple(_BLOCKS)),
            "kernel": CategoricalDistribution(tuple(_KERNELS)),
            **{f"prune_{group}": percent for group in _GROUPS},
            "prune_mode": CategoricalDistribution(("weights", "channels")),
            **{f"multiplier_{group}": CategoricalDistribution(tuple(_MULTIPLIERS)) for group in _GROUPS},
            "weight_bits": IntDistribution(2, 8),
            "activation_bits": IntDistribution(2, 8),
            "weight_mv": millivolts,
            "activation_mv": millivolts,
        }

    def baseline(self) -> dict[str, Any]:
        """Return the largest, exact genome."""
        return {
            "depth": 8,
            "width": 16,
            "block": "residual",
            "kernel": "7",
            **{f"prune_{group}": 0 for group in _GROUPS},
            "prune_mode": "weights",
            **{f"multiplier_{group}": "m0" for group in _GROUPS},
            "weight_bits": 8,
            "activation_bits": 8,
            "weight_mv": 900,
            "activation_mv": 900,
        }

    def starts(self) -> list[dict[str, Any]]:
        """Return the baseline, each technique alone, mildly and strongly, and a diagonal, as real searches begin."""
        techniques: tuple[tuple[str, ...], ...] = (
            ("depth", "width"),
            ("prune_first", "prune_middle", "prune_last"),
            ("weight_bits", "activation_bits", "multiplier_first", "multiplier_middle", "multiplier_last"),
            ("weight_mv", "activation_mv"),
        )
        alone = [
            {**self.baseline(), **{gene: self._along(gene, share) for gene in genes}}
            for genes in techniques
            for share in (0.4, 0.7)
        ]
        diagonal = []
        for place, share in enumerate((0.4, 0.5, 0.6, 0.7, 0.75, 0.8)):
            genes = {gene: self._along(gene, share) for genes in techniques for gene in genes}
            genes["block"] = tuple(_BLOCKS)[(place + 1) % 3]
            genes["kernel"] = tuple(_KERNELS)[(2 - place) % 3]
            genes["prune_mode"] = ("weights", "channels")[place % 2]
            diagonal.append(genes)
        return [self.baseline(), *diagonal, *alone]

    def _along(self, gene: str, share: float) -> Any:
        """Return the value of a gene a share of the way from the baseline's to the cheapest."""
        if gene.startswith("multiplier"):
            unbeaten = [
                name
                for name, (energy, error) in _MULTIPLIERS.items()
                if not any(e < energy and r < error for e, r in _MULTIPLIERS.values())
            ]
            return unbeaten[round(share * (len(unbeaten) - 1))]
        low, high, step = {
            "depth": (8, 1, 1),
            "width": (16, 1, 1),
            "weight_bits": (8, 2, 1),
            "activation_bits": (8, 2, 1),
            "weight_mv": (900, 700, 10),
            "activation_mv": (900, 700, 10),
        }.get(gene, (0, 95, 5))
        return low + step * round(share * (high - low) / step)

    def identity(self, genes: Genes) -> str:
        """Return a hash of the genome."""
        return content_hash(dict(genes))

    def features(self, genomes: Sequence[Genes]) -> NDArray[np.float64]:
        """Return knobs scaled to about 1, categories as one number for each value, and the costs of the genome.

        The shape is (n, features).
        """
        return np.array([self._features(genes) for genes in genomes])

    def _features(self, genes: Genes) -> list[float]:
        columns = _columns([genes])
        numbers = [
            float(np.log10(_energy(columns)[0])) / 2,
            float(np.log10(np.sum([*_macs(columns).values()]))) / 2,
            np.log(genes["depth"]) / 2,
            np.log(genes["width"]) / 2,
            2.0 ** (2 - genes["weight_bits"]),
            2.0 ** (2 - genes["activation_bits"]),
            genes["depth"] / 8,
            genes["width"] / 16,
            *(genes[f"prune_{group}"] / 95 for group in _GROUPS),
            (genes["weight_bits"] - 2) / 6,
            (genes["activation_bits"] - 2) / 6,
            (genes["weight_mv"] - 700) / 200,
            (genes["activation_mv"] - 700) / 200,
            float(genes["prune_mode"] == "channels") / 2,
        ]
        numbers += [float(genes["block"] == name) / 2 for name in _BLOCKS]
        numbers += [float(genes["kernel"] == name) / 2 for name in _KERNELS]
        for group in _GROUPS:
            energy, error = _MULTIPLIERS[genes[f"multiplier_{group}"]]
            numbers += [energy, np.sqrt(error) * 2]
        return numbers

    def costs(self, genomes: Sequence[Genes]) -> NDArray[np.float64]:
        """Return energies, shape (n, 1)."""
        return _energy(_columns(genomes))[:, None]

    def accuracy(self, genomes: Sequence[Genes]) -> NDArray[np.float64]:
        """Return accuracies without noise, shape (n,)."""
        return _accuracy(_columns(genomes))

    def measured_accuracy(self, genes: Genes, seed: int) -> float:
        """Return the accuracy with the noise of this genome under this seed."""
        noise = np.random.default_rng(int(content_hash({"genes": dict(genes), "seed": seed})[:12], 16)).normal(0, NOISE)
        return float(np.clip(self.accuracy([genes])[0] + noise, 0, 1))


def _columns(genomes: Sequence[Genes]) -> dict[str, NDArray[np.float64]]:
    """Return gene, or figure that depends on one -> array over genomes."""
    columns = {
        name: np.array([genes[name] for genes in genomes], dtype=np.float64)
        for name in ("depth", "width", "weight_bits", "activation_bits", "weight_mv", "activation_mv")
    }
    for group in _GROUPS:
        columns[f"prune_{group}"] = np.array([genes[f"prune_{group}"] for genes in genomes]) / 100
        figures = np.array([_MULTIPLIERS[genes[f"multiplier_{group}"]] for genes in genomes])
        columns[f"energy_{group}"], columns[f"error_{group}"] = figures[:, 0], figures[:, 1]
    blocks = np.array([_BLOCKS[genes["block"]] for genes in genomes])
    columns["block_cost"], columns["block_capacity"] = blocks[:, 0], blocks[:, 1]
    columns["kernel"] = np.array([_KERNELS[genes["kernel"]] for genes in genomes])
    columns["channels"] = np.array([genes["prune_mode"] == "channels" for genes in genomes], dtype=np.float64)
    return columns


def _macs(c: dict[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    return {
        "first": 30 * c["width"] * c["kernel"] ** 2,
        "middle": c["depth"] * c["width"] ** 2 * 12 * c["kernel"] ** 2 * c["block_cost"],
        "last": 120 * c["width"],
    }


def _energy(c: dict[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    total = np.zeros_like(c["width"])
    bits = c["weight_bits"] * c["activation_bits"] / 64
    for group, macs in _macs(c).items():
        # Pruned channels save everything, pruned weights the product but not all of the memory.
        kept = 1 - c[f"prune_{group}"]
        stored = np.where(c["channels"] > 0, kept, np.minimum(1.0, 1.15 * kept + 0.1))
        total += macs * kept * bits * c[f"energy_{group}"]
        total += 1.5 * macs / 10 * stored * c["weight_bits"] / 8 * (c["weight_mv"] / 900) ** 2 * 4
        total += 0.8 * macs / 12 * c["activation_bits"] / 8 * (c["activation_mv"] / 900) ** 2 * 4
    return np.asarray(total + 40.0)


def _accuracy(c: dict[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    macs = _macs(c)
    capacity = np.zeros_like(c["width"])
    loss = np.zeros_like(c["width"])
    for group in _GROUPS:
        pruned = c[f"prune_{group}"]
        effective = 1 - pruned * np.where(c["channels"] > 0, 0.95, 0.55)
        capacity += macs[group] * effective
        knee = _PRUNING_KNEE[group] - 0.25 * c["channels"]
        loss += 0.35 * (np.maximum(0, pruned - knee) / (1 - knee)) ** 2
    capacity *= c["block_capacity"] / c["block_cost"] / np.sqrt(c["kernel"])
    reached = 0.985 - 0.6 * (1 + capacity / 60) ** -0.75 - 0.001 * np.maximum(0, c["depth"] - 5)
    # Errors add up first; their effect saturates into a cliff.
    depth = 1 + 0.12 * c["depth"]
    error = 0.55 * 4.0 ** -(c["weight_bits"] - 1.2) + 0.35 * 4.0 ** -(c["activation_bits"] - 1.4)
    for group in _GROUPS:
        error = error + 0.45 * c[f"error_{group}"] * _SENSITIVITY[group] * depth / 3
    for memory, weight in (("weight_mv", 1.0), ("activation_mv", 0.6)):
        rate = 10 ** (-(c[memory] - 690) / 40 - 1.2)
        error = error + weight * rate * depth * (1 + (c["weight_bits"] - 2) / 12)
    redundancy = 1 + 0.25 * np.log10(1 + capacity / 100)
    felt = error / redundancy
    loss = loss + 0.25 * felt + 0.9 / (1 + np.exp(-(np.log10(felt + 1e-9) + 0.55) * 7)) * 0.9
    return np.clip(reached - loss, 0.1, 1.0)
