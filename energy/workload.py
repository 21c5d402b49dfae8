"""What an inference has to do, in plain numbers: the input of the energy model.

Every layer is the matrix product that it amounts to: `positions` output positions (1 for a fully connected layer), each
the sum of `inner` products, for `outputs` channels. A convolution of C channels with a K x K kernel has inner = C * K
* K.
"""

from __future__ import annotations

from dataclasses import dataclass

from energy.errors import WorkloadError


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerWorkload:
    """One layer of one inference.

    Attributes:
        name: The layer's name in its network.
        positions: Output positions per channel.
        inner: Products summed into one output.
        outputs: Output channels.
        input_values: Distinct activation values read by the layer, for DRAM and capacity.
        stored_weights: Weights kept in memory; `inner * outputs` when dense.
        compressed: Whether pruned weights are left out of the memory, found through a bitmask of one bit per weight.

    Raises:
        WorkloadError: If a count is not positive, or more weights are stored than the layer has.
    """

    name: str
    positions: int
    inner: int
    outputs: int
    input_values: int
    stored_weights: int
    compressed: bool

    def __post_init__(self) -> None:
        for field in ("positions", "inner", "outputs", "input_values"):
            if getattr(self, field) < 1:
                raise WorkloadError(f"layer {self.name!r}: {field} must be at least 1, got {getattr(self, field)}")
        if not 0 <= self.stored_weights <= self.weights:
            raise WorkloadError(
                f"layer {self.name!r}: stored_weights must be between 0 and "
                f"inner * outputs = {self.weights}, got {self.stored_weights}"
            )
        if not self.compressed and self.stored_weights != self.weights:
            raise WorkloadError(
                f"layer {self.name!r}: an uncompressed layer stores all {self.weights} weights, "
                f"got stored_weights={self.stored_weights}"
            )

    @property
    def weights(self) -> int:
        """Weights before pruning."""
        return self.inner * self.outputs

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the dense layer."""
        return self.positions * self.inner * self.outputs


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One inference: its layers, and the knobs that all of them share.

    Attributes:
        layers: In order of execution; at least one.
        weight_bits: Width of a stored weight.
        activation_bits: Width of a stored activation.
        multiplier: Name of the multiplier, a key of `energy/multipliers.yaml`.
        weight_memory_v: Supply voltage of the weight memory, in volts.
        robust_bits: How many of each weight's top bits sit in 8T cells; the rest sit in 6T cells.

    Raises:
        WorkloadError: If there is no layer, or a knob lies out of range.
    """

    layers: tuple[LayerWorkload, ...]
    weight_bits: int
    activation_bits: int
    multiplier: str
    weight_memory_v: float
    robust_bits: int

    def __post_init__(self) -> None:
        if not self.layers:
            raise WorkloadError("a workload needs at least one layer, got none")
        for field in ("weight_bits", "activation_bits"):
            if getattr(self, field) < 1:
                raise WorkloadError(f"{field} must be at least 1, got {getattr(self, field)}")
        if not 0 <= self.robust_bits <= self.weight_bits:
            raise WorkloadError(
                f"robust_bits must be between 0 and weight_bits={self.weight_bits}, got {self.robust_bits}"
            )
        if not self.weight_memory_v > 0:
            raise WorkloadError(f"weight_memory_v must be positive, got {self.weight_memory_v}")

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the dense network."""
        return sum(layer.macs for layer in self.layers)
