"""Candidates as networks that compute and store their weights as the hardware would."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from glob import escape
from typing import Any

from torch import Tensor, nn

import approx
from search.multipliers.identity import name_in_layers
from search.space.candidate import Candidate
from search.space.weight_memory import weight_memory


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedNetwork:
    """A network between two stages.

    Attributes:
        model: The network.
        masks: Layer name -> bool mask; empty when dense.
        key: Content hash of everything it depends on, under which it is cached; None if it is not.
    """

    model: nn.Module
    masks: Mapping[str, Tensor]
    key: str | None

    @property
    def kept_weights(self) -> dict[str, int]:
        """Weights left in each pruned layer: layer name -> count."""
        return {name: int(mask.sum()) for name, mask in self.masks.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Emulation:
    """What networks emulate of the hardware.

    Attributes:
        failures: Failure model of the weight memory, one of `energy.hardware.FAILURES`.
        circuit_bits: Widths of weights and activations that multipliers are built for; None for each candidate's own.
        partial_sums: Partial sums of the array; None if they are wide enough for every sum.
        multipliers: Imported multipliers by the names that networks use; see `KnownMultipliers.tables`.
    """

    failures: str
    circuit_bits: tuple[int, int] | None
    partial_sums: approx.PartialSums | None
    multipliers: Mapping[str, approx.Multiplier]

    def settings(self, candidate: Candidate, layers: Sequence[str]) -> dict[str, Any]:
        """Return all of a candidate that changes what its network computes with a perfect memory, as a JSON object.

        Args:
            candidate: Candidate in canonical form.
            layers: Layers of its network, in the order in which they first run.
        """
        config, others = self._configs(candidate, layers)
        computed = asdict(config)
        if self.partial_sums is None:  # as if there were no such choice, so that what was kept before it is found
            del computed["partial_sums"]
        return {**computed, **({"others": others} if others else {})}

    def approximated(
        self, candidate: Candidate, network: TrainedNetwork, layers: Sequence[str], *, calibration_data: Tensor
    ) -> nn.Module:
        """Convert a candidate's network to integer codes, with a perfect memory.

        Args:
            candidate: Candidate in canonical form.
            network: Its network, trained and pruned.
            layers: The network's layers, in the order in which they first run.
            calibration_data: Network inputs by which scales are chosen.
        """
        config, others = self._configs(candidate, layers)
        return approx.approximate(
            network.model,
            approx.NetworkApproximation(
                default=config,
                overrides={escape(layer): replace(config, multiplier=name) for layer, name in others.items()},
            ),
            calibration_data=calibration_data,
            masks=network.masks,
            multipliers=self.multipliers,
        )

    def _configs(self, candidate: Candidate, layers: Sequence[str]) -> tuple[approx.LayerApproximation, dict[str, str]]:
        """Return how layers compute, and the multipliers of those that have another: layer -> name."""
        choices = candidate.layer_choices(list(layers))
        multipliers = {layer: name_in_layers(choice.multiplier) for layer, choice in choices.items()}
        # All layers in the middle have the same multiplier; if there are none, the default does not matter.
        config = self._config(candidate, list(multipliers.values())[len(multipliers) // 2])
        return config, {layer: name for layer, name in multipliers.items() if name != config.multiplier}

    def config(self, candidate: Candidate) -> approx.LayerApproximation:
        """Return how the layers in the middle of a candidate's network compute."""
        return self._config(candidate, name_in_layers(candidate.multiplier))

    def _config(self, candidate: Candidate, multiplier: str) -> approx.LayerApproximation:
        return approx.LayerApproximation(
            weight_bits=candidate.weight_bits,
            activation_bits=candidate.activation_bits,
            multiplier=multiplier,
            circuit_bits=self.circuit_bits,
            partial_sums=self.partial_sums,
        )

    def cells_fail(self, candidate: Candidate) -> bool:
        """Whether a cell of a candidate's memory can fail at its voltage; if none can, all chips are alike."""
        memory = weight_memory(candidate, self.failures)
        all_robust = all(choice.robust_bits == candidate.weight_bits for choice in candidate.groups)
        # 8T cells never fail more often than 6T cells.
        return (memory.robust_bit_error_rate if all_robust else memory.bit_error_rate) > 0

    def put_in_memory(
        self, model: nn.Module, candidate: Candidate, layers: Sequence[str], dense_layers: Collection[str]
    ) -> None:
        """Store a candidate's weights in its memory, in place; see `approx.set_memory`.

        Args:
            model: Its approximated network.
            candidate: Candidate in canonical form.
            layers: The network's layers, in the order in which they first run.
            dense_layers: Layers whose pruned weights are stored too, as the energy model calls them.
        """
        names = {name.partition("#")[0] for name in dense_layers}  # a layer that runs twice is stored once
        choices = candidate.layer_choices(list(layers))
        robust = {layer: choice.robust_bits for layer, choice in choices.items()}
        approx.set_memory(
            model, weights=weight_memory(candidate, self.failures), robust_bits=robust, dense_layers=names
        )
