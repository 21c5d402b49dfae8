"""What is known of a genome before it is trained: what it would cost, and numbers to predict its accuracy from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from optuna.distributions import CategoricalDistribution

import approx
import energy
from search.candidate import Candidate
from search.evaluation import Evaluation
from search.scheduling import Network, network_of
from search.space import SearchSpace
from search.task import Task
from search.training import untrained, weight_memory
from search.workload import workload_of

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

_CANNOT_RUN = 1e30  # the costs of what the hardware cannot run
_LEAST_FAILURES = 1e-6  # of bits; fewer are as good as none


class HardwareProblem:
    """A search space over networks and hardware; satisfies `search.breeding.Problem`.

    Costs are those of the energy model, exact but for one thing that training decides: how many activations are zero.
    For these the densities are taken that evaluations of the same network had, or else those of the others.

    Args:
        space: The space.
        task: What is classified.
        hardware: What energy is modelled for.
        costs: What is minimised, as `Evaluation` calls it: energy_pj first.
    """

    def __init__(
        self, space: SearchSpace, task: Task, hardware: energy.Hardware, *, costs: Sequence[str] = ("energy_pj",)
    ) -> None:
        self._space = space
        self._task = task
        self._hardware = hardware
        self._costs = tuple(costs)
        self._distributions = space.distributions()
        self._shapes: dict[Network, list[approx.LayerShape]] = {}
        self._densities: dict[Network, dict[str, float]] = {}
        self._usual_density = 0.5
        self._candidates: dict[tuple[Any, ...], Candidate] = {}  # of the genomes of this generation
        self._workloads: dict[Candidate, energy.Workload] = {}  # with these densities

    def learn(self, evaluations: Iterable[Evaluation]) -> None:
        """Take the densities of activations from these evaluations, and from no others."""
        found: dict[Network, dict[str, list[float]]] = {}
        for evaluation in evaluations:
            layers = found.setdefault(network_of(evaluation.candidate), {})
            for layer in (evaluation.workload or {"layers": []})["layers"]:
                layers.setdefault(layer["name"], []).append(layer["activation_density"])
        self._densities = {
            network: {name: float(np.mean(values)) for name, values in layers.items()}
            for network, layers in found.items()
        }
        every = [density for layers in self._densities.values() for density in layers.values()]
        if every:
            self._usual_density = float(np.mean(every))
        self._candidates.clear()
        self._workloads.clear()

    def distributions(self) -> Mapping[str, BaseDistribution]:
        """Gene -> its distribution."""
        return self._distributions

    def identity(self, genes: Mapping[str, Any]) -> str:
        """The key of its candidate."""
        return self._candidate(genes).key

    def costs(self, genomes: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
        """What each genome would cost: shape (n, costs)."""
        workloads = [self._workload(self._candidate(genes)) for genes in genomes]
        try:
            return self._estimated(workloads)
        except energy.EnergyError:
            return np.vstack([self._estimated_alone(workload) for workload in workloads])

    def features(self, genomes: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
        """Knobs as numbers of the size of 1, categories as one number for each value, and what the knobs amount to.

        Shape (n, features).
        """
        energies = self.costs(genomes)[:, 0]
        return np.array([self._features(genes, energy_pj) for genes, energy_pj in zip(genomes, energies, strict=True)])

    def _features(self, genes: Mapping[str, Any], energy_pj: float) -> list[float]:
        candidate = self._candidate(genes)
        workload = self._workload(candidate)
        failing = weight_memory(candidate, self._hardware.weight_failures).bit_error_rate
        unprotected = failing * 2.0**-candidate.robust_bits
        features = [
            math.log10(energy_pj) / 2,
            math.log10(workload.macs) / 2,
            math.log10(sum(layer.nonzero_weights for layer in workload.layers) + 1) / 2,
            math.log(candidate.depth) / 2,
            math.log(candidate.width) / 2,
            candidate.sparsity,
            -math.log(1 - candidate.sparsity) / 3,
            candidate.weight_bits / 8,
            candidate.activation_bits / 8,
            2.0 ** (2 - candidate.weight_bits),
            2.0 ** (2 - candidate.activation_bits),
            math.log10(max(failing, _LEAST_FAILURES)) / 4,
            math.log10(max(unprotected, _LEAST_FAILURES)) / 4,
        ]
        for name, distribution in self._distributions.items():
            if isinstance(distribution, CategoricalDistribution) and not distribution.single():
                value = candidate.multiplier if name == "multiplier" else genes[name]
                features += [float(value == choice) / 2 for choice in distribution.choices]
        return features

    def _candidate(self, genes: Mapping[str, Any]) -> Candidate:
        genome = tuple(genes[name] for name in self._distributions)
        if genome not in self._candidates:
            self._candidates[genome] = self._space.decode(genes)
        return self._candidates[genome]

    def _workload(self, candidate: Candidate) -> energy.Workload:
        if candidate not in self._workloads:
            self._workloads[candidate] = self._expected(candidate)
        return self._workloads[candidate]

    def _expected(self, candidate: Candidate) -> energy.Workload:
        shapes = self._traced(candidate)
        kept = {}
        for shape in shapes:
            weights = shape.inner * shape.outputs
            kept[shape.name] = weights - min(round(candidate.sparsity * weights), weights - 1)  # as magnitude_masks
        return workload_of(candidate, shapes, self._hardware, kept=kept)

    def _traced(self, candidate: Candidate) -> list[approx.LayerShape]:
        """The layers of its network, with the densities that are expected."""
        network = network_of(candidate)
        if network not in self._shapes:
            example = torch.ones(1, *self._task.image_shape)
            self._shapes[network] = approx.trace(untrained(self._task, candidate, seed=0), example)
        densities = self._densities.get(network, {})
        return [
            replace(shape, input_density=densities.get(shape.name, self._usual_density))
            for shape in self._shapes[network]
        ]

    def _estimated(self, workloads: Sequence[energy.Workload]) -> NDArray[np.float64]:
        report = energy.estimate_batch(workloads, self._hardware)
        figures = {"energy_pj": report.energy_pj, "area_mm2": report.area_mm2[1], "latency_us": report.latency_us}
        return np.column_stack([figures[cost] for cost in self._costs])

    def _estimated_alone(self, workload: energy.Workload) -> NDArray[np.float64]:
        try:
            return self._estimated([workload])
        except energy.EnergyError:
            return np.full((1, len(self._costs)), _CANNOT_RUN)
