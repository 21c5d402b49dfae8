"""What is known of a genome before it is trained: what it would cost, and numbers to predict its accuracy from."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import CategoricalDistribution

import approx
import energy
from search.errors import SearchError
from search.evaluation.evaluation import Evaluation
from search.evaluation.job import Done, Executor, Inspect
from search.evaluation.training import untrained_layers
from search.evaluation.workload import kept_weights, workload_of
from search.space.candidate import Candidate, Network
from search.space.search_space import SearchSpace
from search.space.task import Task
from search.space.weight_memory import weight_memory

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

_logger = logging.getLogger(__name__)

_MOST_PJ = 1e12  # of energy as a feature: more is no different
_LEAST_FAILURES = 1e-6  # of bits; fewer are as good as none


class HardwareProblem:
    """A search space over networks and hardware; satisfies `search.sampling.offspring.Problem`.

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
        self._layers: dict[Network, Sequence[approx.LayerShape] | None] = {}  # None: it cannot be built
        self._densities: dict[Network, dict[str, float]] = {}
        self._usual_density = 0.5
        self._candidates: dict[tuple[Any, ...], Candidate] = {}  # of the genomes of this generation
        self._workloads: dict[Candidate, energy.Workload] = {}  # with these densities

    def build_networks(self, executor: Executor) -> None:
        """Have an executor build all networks of the space, so that this process builds none.

        A person's own may hang, or end the process that builds them. What cannot be built costs infinitely much.

        Raises:
            SearchError: If the baseline's network cannot be built.
        """
        new = {candidate.network: candidate for candidate in self._space.networks()}
        networks = {f"{number}": network for number, network in enumerate(new)}
        jobs = [Inspect(key=key, candidate=new[network]) for key, network in networks.items()]
        for outcome in executor.run(jobs):
            network = networks[outcome.key]
            if isinstance(outcome, Done):
                self._layers[network] = outcome.result
            else:
                self._layers[network] = None
                if network == self._space.baseline().network:
                    raise SearchError(f"the network of the baseline cannot be built: {outcome.error}")
                built = "{} cannot build its network of depth {} and width {}".format(*network)
                _logger.warning("%s, which is passed over: %s", built, outcome.error)

    def learn(self, evaluations: Iterable[Evaluation]) -> None:
        """Take the densities of activations from these evaluations, and from no others."""
        found: dict[Network, dict[str, list[float]]] = {}
        for evaluation in evaluations:
            layers = found.setdefault(evaluation.candidate.network, {})
            for layer in evaluation.workload["layers"]:
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
        """What each genome would cost: shape (n, costs); infinite where it cannot be built, or not run."""
        candidates = [self._candidate(genes) for genes in genomes]
        costs = self._costs_if_built(candidates)
        costs[[self._layers[candidate.network] is None for candidate in candidates]] = np.inf
        return costs

    def features(self, genomes: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
        """Knobs as numbers of the size of 1, categories as one number for each value, and what the knobs amount to.

        Where a network cannot be built, they amount to what they would with the baseline's. Shape (n, features).
        """
        energies = self._costs_if_built([self._candidate(genes) for genes in genomes])[:, 0].clip(max=_MOST_PJ)
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
        shapes = self._layers_of(candidate)
        kept = kept_weights(shapes, candidate.sparsity)
        return workload_of(candidate, shapes, self._hardware, kept=kept)

    def _layers_of(self, candidate: Candidate) -> list[approx.LayerShape]:
        """The layers of its network, with the densities that are expected; the baseline's, if it cannot be built."""
        network = candidate.network
        if network not in self._layers:
            self._layers[network] = untrained_layers(self._task, candidate)
        layers = self._layers[network]
        if layers is None:
            return self._layers_of(self._space.baseline())
        densities = self._densities.get(network, {})
        return [replace(layer, input_density=densities.get(layer.name, self._usual_density)) for layer in layers]

    def _costs_if_built(self, candidates: Sequence[Candidate]) -> NDArray[np.float64]:
        workloads = [self._workload(candidate) for candidate in candidates]
        try:
            return self._estimated(workloads)
        except energy.EnergyError:
            return np.vstack([self._estimated_alone(workload) for workload in workloads])

    def _estimated(self, workloads: Sequence[energy.Workload]) -> NDArray[np.float64]:
        report = energy.estimate_batch(workloads, self._hardware, costs=self._space.multiplier_costs)
        figures = {"energy_pj": report.energy_pj, "area_mm2": report.area_mm2[1], "latency_us": report.latency_us}
        return np.column_stack([figures[cost] for cost in self._costs])

    def _estimated_alone(self, workload: energy.Workload) -> NDArray[np.float64]:
        try:
            return self._estimated([workload])
        except energy.EnergyError:
            return np.full((1, len(self._costs)), np.inf)
