"""What an inference has to do, in plain numbers: the input of the energy model.

Every layer is the matrix product that it amounts to: `positions` output positions (1 for a fully connected layer), each
the sum of `inner` products, for `outputs` channels. A convolution of C channels with a K x K kernel has inner =
C * K * K. A grouped layer is `groups` such products beside each other, each with its share of the outputs; a depthwise
one has a group for every channel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from energy.cost_table import multiplier_cost
from energy.errors import WorkloadError

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerWorkload:
    """One layer of one inference.

    Attributes:
        name: The layer's name in its network.
        positions: Output positions per channel.
        inner: Products summed into one output.
        outputs: Output channels, of all groups together.
        input_values: Distinct activation values read by the layer.
        nonzero_weights: Weights left after pruning; `inner * outputs` when dense.
        groups: Independent products beside each other.
        kernel_height: Rows of the kernel; 1 for a fully connected layer.
        kernel_width: Columns of the kernel.
        output_height: Rows of output positions.
        activation_density: Share of the inputs that are not zero, in [0, 1].
        multiplier: Name of its multiplier; None for the workload's own.
        robust_bits: Top bits of each of its weights in 8T cells; None for the workload's own.

    Raises:
        WorkloadError: If a number is out of range, or numbers contradict each other.
    """

    name: str
    positions: int
    inner: int
    outputs: int
    input_values: int
    nonzero_weights: int
    groups: int = 1
    kernel_height: int = 1
    kernel_width: int = 1
    output_height: int = 1
    activation_density: float = 1.0
    multiplier: str | None = None
    robust_bits: int | None = None

    def __post_init__(self) -> None:
        for name in (
            "positions",
            "inner",
            "outputs",
            "input_values",
            "groups",
            "kernel_height",
            "kernel_width",
            "output_height",
        ):
            if getattr(self, name) < 1:
                raise WorkloadError(f"layer {self.name!r}: {name} must be at least 1, got {getattr(self, name)}")
        for whole, part in (
            ("outputs", "groups"),
            ("inner", "kernel_height"),
            ("positions", "output_height"),
        ):
            if getattr(self, whole) % getattr(self, part):
                raise WorkloadError(
                    f"layer {self.name!r}: {whole} must be a multiple of {part}={getattr(self, part)}, "
                    f"got {getattr(self, whole)}"
                )
        if self.inner % (self.kernel_height * self.kernel_width):
            raise WorkloadError(
                f"layer {self.name!r}: inner must be a multiple of the kernel's {self.kernel_height} x "
                f"{self.kernel_width} weights, got {self.inner}"
            )
        if not 0 <= self.nonzero_weights <= self.weights:
            raise WorkloadError(
                f"layer {self.name!r}: nonzero_weights must be between 0 and "
                f"inner * outputs = {self.weights}, got {self.nonzero_weights}"
            )
        if not 0 <= self.activation_density <= 1:
            raise WorkloadError(
                f"layer {self.name!r}: activation_density must be between 0 and 1, got {self.activation_density}"
            )

    @property
    def weights(self) -> int:
        """Weights before pruning."""
        return self.inner * self.outputs

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the dense layer."""
        return self.positions * self.inner * self.outputs


# Rows of a workload's matrix: the numbers of its layers.
_ROWS = tuple(one.name for one in fields(LayerWorkload) if one.type in ("int", "float"))
_DIVISORS = ("groups", "kernel_height", "kernel_width", "output_height")


@dataclass(frozen=True, kw_only=True)
class Workload:
    """One inference: its layers, and the knobs that all of them share.

    Attributes:
        layers: In order of execution; at least one, of different names.
        weight_bits: Width of a weight.
        activation_bits: Width of an activation.
        multiplier: Name of the multiplier; see `energy.multiplier_cost`. Layers may have others.
        weight_memory_v: Supply voltage of the weight memory, in volts.
        robust_bits: How many of each weight's top bits sit in 8T cells of a hybrid memory; the rest sit in 6T cells.
            Layers may have other numbers.
        batch: Inferences made together, which share each weight that is fetched.

    Raises:
        WorkloadError: If there is no layer, a knob lies out of range, or no energy is known for the multiplier.
    """

    layers: tuple[LayerWorkload, ...]
    weight_bits: int
    activation_bits: int
    multiplier: str
    weight_memory_v: float
    robust_bits: int
    batch: int = 1
    matrix: Array = field(init=False, repr=False, compare=False)
    knobs: Array = field(init=False, repr=False, compare=False)
    by_layer: Array | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.layers:
            raise WorkloadError("a workload needs at least one layer, got none")
        names = [layer.name for layer in self.layers]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise WorkloadError(f"layers need different names, got {twice!r} twice")
        for name in ("weight_bits", "activation_bits", "batch"):
            if getattr(self, name) < 1:
                raise WorkloadError(f"{name} must be at least 1, got {getattr(self, name)}")
        self._check_robust_bits("", self.robust_bits)
        for layer in self.layers:
            if layer.robust_bits is not None:
                self._check_robust_bits(f"layer {layer.name!r}: ", layer.robust_bits)
        if not self.weight_memory_v > 0:
            raise WorkloadError(f"weight_memory_v must be positive, got {self.weight_memory_v}")
        # As arrays, so that the model needs no loop over layers, nor over workloads (`WorkloadBatch`).
        rows = [[getattr(layer, name) for layer in self.layers] for name in _ROWS]
        used = [
            (layer.multiplier or self.multiplier, self.robust_bits if layer.robust_bits is None else layer.robust_bits)
            for layer in self.layers
        ]
        costs = {
            name: multiplier_cost(name, weight_bits=self.weight_bits, activation_bits=self.activation_bits)
            for name in dict.fromkeys(name for name, _ in used)
        }
        different = {
            (name, robust_bits): (
                robust_bits,
                costs[name].low,
                costs[name].relative_energy,
                costs[name].relative_energy_stationary,
                costs[name].high,
            )
            for name, robust_bits in dict.fromkeys(used)
        }
        robust_bits, *relative_energies = different[used[0]]
        knobs = (
            self.weight_bits,
            self.activation_bits,
            self.weight_memory_v,
            robust_bits,
            self.batch,
            *relative_energies,
            sum(cost.relative_area for cost in costs.values()),  # each element has every multiplier that layers use
        )
        by_layer = np.array([different[one] for one in used], dtype=np.float64).T if len(different) > 1 else None
        object.__setattr__(self, "matrix", np.array(rows, dtype=np.float64))
        object.__setattr__(self, "knobs", np.array(knobs, dtype=np.float64))
        object.__setattr__(self, "by_layer", by_layer)

    def _check_robust_bits(self, where: str, robust_bits: int) -> None:
        if not 0 <= robust_bits <= self.weight_bits:
            raise WorkloadError(
                f"{where}robust_bits must be between 0 and weight_bits={self.weight_bits}, got {robust_bits}"
            )

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the dense network."""
        return sum(layer.macs for layer in self.layers)

    def to_dict(self) -> dict[str, Any]:
        """As a JSON object."""
        shared = {one.name: getattr(self, one.name) for one in fields(self) if one.init}
        layers = ({key: value for key, value in asdict(layer).items() if value is not None} for layer in self.layers)
        return shared | {"layers": list(layers)}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Workload:
        """From a JSON object, such as `to_dict` makes.

        Raises:
            WorkloadError: If a key is missing, unknown, or of the wrong type, or a number is out of range.
        """
        layers = content.get("layers")
        if not isinstance(layers, list):
            raise WorkloadError(f"a workload needs a list of layers under the key 'layers', got {layers!r}")
        read = tuple(LayerWorkload(**_checked(LayerWorkload, layer, "a layer")) for layer in layers)
        return cls(**_checked(cls, {**content, "layers": read}, "the workload"))


@dataclass(frozen=True, kw_only=True)
class WorkloadBatch:
    """Many workloads as arrays, to be estimated together.

    Attributes:
        layers: Shape (rows, workloads, layers): the numbers of `LayerWorkload`; those of the absent layers of shorter
            networks are 0.
        knobs: Shape (knobs, workloads, 1).
        by_layer: Shape (5, workloads, layers): of layers with knobs of their own, those in whose place they are; None
            if there are none.
    """

    layers: Array
    knobs: Array
    by_layer: Array | None = None

    @property
    def robust_bits(self) -> Array:
        """Top bits of each weight in 8T cells: shape (workloads, 1), or (workloads, layers) where layers differ."""
        bits: Array = self.knobs[3] if self.by_layer is None else self.by_layer[0]
        return bits

    @property
    def relative_energies(self) -> Array:
        """Of the multipliers: the lowest, of fresh weights, of weights that stay, the highest; likewise behind that."""
        energies: Array = self.knobs[5:9] if self.by_layer is None else self.by_layer[1:]
        return energies

    @classmethod
    def single(cls, workload: Workload) -> WorkloadBatch:
        """Of one workload."""
        by_layer = None if workload.by_layer is None else workload.by_layer[:, None]
        return cls(layers=workload.matrix[:, None], knobs=workload.knobs[:, None, None], by_layer=by_layer)

    @classmethod
    def of(cls, workloads: Sequence[Workload]) -> WorkloadBatch:
        """From workloads, of any numbers of layers.

        Raises:
            WorkloadError: If there is none.
        """
        if not workloads:
            raise WorkloadError("a batch needs at least one workload, got none")
        depths = {workload.matrix.shape[1] for workload in workloads}
        if len(depths) == 1:
            layers = np.stack([workload.matrix for workload in workloads], axis=1)
        else:
            layers = np.zeros((len(_ROWS), len(workloads), max(depths)))
            layers[[_ROWS.index(name) for name in _DIVISORS]] = 1
            for index, workload in enumerate(workloads):
                layers[:, index, : workload.matrix.shape[1]] = workload.matrix
        knobs = np.stack([workload.knobs for workload in workloads], axis=1)[:, :, None]
        if all(workload.by_layer is None for workload in workloads):
            return cls(layers=layers, knobs=knobs)
        by_layer = np.repeat(knobs[[3, 5, 6, 7, 8]], layers.shape[2], axis=2)
        for index, workload in enumerate(workloads):
            if workload.by_layer is not None:
                by_layer[:, index, : workload.by_layer.shape[1]] = workload.by_layer
        return cls(layers=layers, knobs=knobs, by_layer=by_layer)


def _checked(kind: type, content: object, what: str) -> dict[str, Any]:
    """The arguments of a dataclass out of a JSON object."""
    known = {one.name: one for one in fields(kind) if one.init}
    if not isinstance(content, Mapping):
        raise WorkloadError(f"{what} must be an object of keys and values, got {content!r}")
    if unknown := sorted(content.keys() - known.keys()):
        raise WorkloadError(f"{what} has an unknown key {unknown[0]!r}; keys are {', '.join(known)}")
    allowed: dict[Any, tuple[type, ...]] = {
        "str": (str,),
        "int": (int,),
        "float": (int, float),
        "str | None": (str, type(None)),
        "int | None": (int, type(None)),
    }
    for name, value in content.items():
        types = allowed.get(known[name].type)
        if types and (isinstance(value, bool) or not isinstance(value, types)):
            raise WorkloadError(f"{what}: {name} must be of type {known[name].type}, got {value!r}")
    if missing := [name for name, one in known.items() if name not in content and one.default is MISSING]:
        raise WorkloadError(f"{what} lacks the key {missing[0]!r}")
    return dict(content)
