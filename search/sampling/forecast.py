"""The costs of a genome and the features that predict its accuracy, both known before training."""

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
from search.evaluation.training import untrained_layers
from search.evaluation.work import Done, Executor, Inspect
from search.evaluation.workload import kept_weights, workload_of
from search.space.candidate import Candidate, Network
from search.space.search_space import SearchSpace
from search.space.task import Task
from search.space.weight_memory import weight_memory

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

_logger = logging.getLogger(__name__)

_MOST_PJ = 1e12  # upper bound of energy as a feature
_LEAST_FAILURES = 1e-6  # bit error rate below which failures do not matter


class HardwareGenomeModel:
    """A `search.sampling.offspring.GenomeModel` of networks on hardware.

    Costs come from the energy model. They are exact except for the share of activations that are zero, which depends on
    training, and for how pruning shares its cuts among layers. The first is taken from evaluations of the same network,
    or else from all others. The second too: at a sparsity s a layer keeps about (1 - s)^e of its weights, with an e of
    its own, or 1 where the network was not pruned yet.

    Args:
        space: The space.
        task: The task.
        hardware: Hardware for which energy is modelled.
        costs: Fields of `Evaluation` to minimise, energy_pj first.
    """

    def __init__(
        self, space: SearchSpace, task: Task, hardware: energy.Hardware, *, costs: Sequence[str] = ("energy_pj",)
    ) -> None:
        self._space = space
        self._task = task
        self._hardware = hardware
        self._costs = tuple(costs)
        self._distributions = space.distributions()
        self._layers: dict[Network, Sequence[approx.LayerShape] | None] = {}  # None if it cannot be built
        self._densities: dict[Network, dict[str, float]] = {}
        self._usual_density = 0.5
        self._exponents: dict[Network, dict[str, float]] = {}
        self._candidates: dict[tuple[Any, ...], Candidate] = {}  # by genome, of this generation
        self._workloads: dict[Candidate, energy.Workload] = {}  # with the current densities

    def build_networks(self, executor: Executor) -> None:
        """Have an executor build all networks of the space, so that this process builds none.

        Custom networks may hang, or end the process that builds them. Networks that cannot be built cost infinity.

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
                _logger.warning("%s, which is skipped: %s", built, outcome.error)

    def is_safe(self, candidate: Candidate) -> bool:
        """Whether its network does no harm to who builds it: it is built in, or `build_networks` has built it."""
        return self._task.network is None or self._layers.get(candidate.network) is not None

    def learn(self, evaluations: Iterable[Evaluation]) -> None:
        """Take the densities of activations, and of weights after pruning, from these evaluations alone."""
        found: dict[Network, dict[str, list[float]]] = {}
        exponents: dict[Network, dict[str, list[float]]] = {}
        for evaluation in evaluations:
            candidate = evaluation.candidate
            layers = found.setdefault(candidate.network, {})
            pruned = exponents.setdefault(candidate.network, {})
            for layer in evaluation.workload["layers"]:
                layers.setdefault(layer["name"], []).append(layer["activation_density"])
                if candidate.sparsity:
                    kept = layer["nonzero_weights"] / (layer["inner"] * layer["outputs"])
                    pruned.setdefault(layer["name"], []).append(math.log(kept) / math.log(1 - candidate.sparsity))
        self._densities, self._exponents = (
            {
                network: {name: float(np.mean(values)) for name, values in layers.items()}
                for network, layers in of.items()
            }
            for of in (found, exponents)
        )
        every = [density for layers in self._densities.values() for density in layers.values()]
        if every:
            self._usual_density = float(np.mean(every))
        self._candidates.clear()
        self._workloads.clear()

    def distributions(self) -> Mapping[str, BaseDistribution]:
        """Return the distribution of each gene."""
        return self._distributions

    def identity(self, genes: Mapping[str, Any]) -> str:
        """Return the key of the genome's candidate."""
        return self._candidate(genes).key

    def costs(self, genomes: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
        """Return the costs of each genome: shape (n, costs); infinite if its network cannot be built or run."""
        candidates = [self._candidate(genes) for genes in genomes]
        costs = self._figures_if_built(candidates, self._costs)
        costs[[self._layers[candidate.network] is None for candidate in candidates]] = np.inf
        return costs

    def areas(self, candidates: Sequence[Candidate]) -> NDArray[np.float64]:
        """Return the area of each candidate in mm2: shape (n,); infinite if its network cannot be built or run."""
        areas = self._figures_if_built(candidates, ["area_mm2"])[:, 0]
        areas[[self._layers[candidate.network] is None for candidate in candidates]] = np.inf
        return areas

    def features(self, genomes: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
        """Return each genome's knobs scaled to about 1, categories one-hot, and its modelled cost and size.

        If a network cannot be built, cost and size are those with the baseline's network. Shape (n, features).
        """
        candidates = [self._candidate(genes) for genes in genomes]
        energies = self._figures_if_built(candidates, ["energy_pj"])[:, 0].clip(max=_MOST_PJ)
        return np.array([self._features(genes, energy_pj) for genes, energy_pj in zip(genomes, energies, strict=True)])

    def _features(self, genes: Mapping[str, Any], energy_pj: float) -> list[float]:
        candidate = self._candidate(genes)
        workload = self._workload(candidate)
        memory = weight_memory(candidate, self._hardware.weight_failures)
        all_robust = candidate.robust_bits >= candidate.weight_bits
        failing = memory.robust_bit_error_rate if all_robust else memory.bit_error_rate
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
        kept = kept_weights(shapes, candidate.sparsity, exponents=self._exponents.get(candidate.network, {}))
        return workload_of(candidate, shapes, self._hardware, kept=kept)

    def _layers_of(self, candidate: Candidate) -> list[approx.LayerShape]:
        """Return the layers of its network, or the baseline's if it cannot be built, with their expected densities."""
        network = candidate.network
        if network not in self._layers:
            self._layers[network] = untrained_layers(self._task, candidate)
        layers = self._layers[network]
        if layers is None:
            return self._layers_of(self._space.baseline())
        densities = self._densities.get(network, {})
        return [replace(layer, input_density=densities.get(layer.name, self._usual_density)) for layer in layers]

    def _figures_if_built(self, candidates: Sequence[Candidate], names: Sequence[str]) -> NDArray[np.float64]:
        """Return figures of each candidate, with the baseline's network where its own cannot be built."""
        workloads = [self._workload(candidate) for candidate in candidates]
        try:
            return self._estimated(workloads, names)
        except energy.EnergyError:
            return np.vstack([self._estimated_alone(workload, names) for workload in workloads])

    def _estimated(self, workloads: Sequence[energy.Workload], names: Sequence[str]) -> NDArray[np.float64]:
        report = energy.estimate_batch(workloads, self._hardware, costs=self._space.multiplier_costs)
        figures = {"energy_pj": report.energy_pj, "area_mm2": report.area_mm2[1], "latency_us": report.latency_us}
        return np.column_stack([figures[name] for name in names])

    def _estimated_alone(self, workload: energy.Workload, names: Sequence[str]) -> NDArray[np.float64]:
        try:
            return self._estimated([workload], names)
        except energy.EnergyError:
            return np.full((1, len(names)), np.inf)
