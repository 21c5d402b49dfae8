"""The work of one inference in plain numbers: the input of the energy model.

Every layer is described as a matrix product: `positions` output positions (1 for a fully connected layer), each the sum
of `inner` products, for `outputs` channels. A convolution of C channels with a K x K kernel has inner = C * K * K. A
grouped layer consists of `groups` independent products, each with its share of the outputs; a depthwise layer has one
group per channel.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from energy.arrays import Array
from energy.errors import WorkloadError

_T = TypeVar("_T", bound=Hashable)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerWorkload:
    """One layer of one inference.

    Attributes:
        name: The layer's name in its network.
        positions: Output positions per channel.
        inner: Products summed into one output.
        outputs: Output channels of all groups.
        input_values: Distinct activation values read by the layer.
        nonzero_weights: Weights left after pruning; `inner * outputs` when dense.
        groups: Independent products.
        kernel_height: Rows of the kernel; 1 for a fully connected layer.
        kernel_width: Columns of the kernel.
        output_height: Rows of output positions.
        activation_density: Share of the inputs that are not zero, in [0, 1].
        multiplier: Name of its multiplier; None for the workload's.
        robust_bits: Top bits of each weight stored in 8T cells; None for the workload's.

    Raises:
        WorkloadError: If a number is out of range, or two numbers contradict each other.
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
        """Multiply-accumulate operations of the dense layer."""
        return self.positions * self.inner * self.outputs


@dataclass(frozen=True, kw_only=True)
class Workload:
    """One inference: its layers and the knobs that they share.

    Attributes:
        layers: At least one, in order of execution; names are unique.
        weight_bits: Width of a weight.
        activation_bits: Width of an activation.
        multiplier: Name of the multiplier, looked up in a `CostTable` when the workload is estimated. A layer can
            override it.
        weight_memory_v: Supply voltage of the weight memory, in volts.
        robust_bits: How many of each weight's top bits are stored in 8T cells of a hybrid memory; the rest are in 6T
            cells. A layer can override it.
        batch: Inferences run together, which share each weight that is fetched.
        matrix: Numbers of the layers, for the whole batch; shape (numbers, 1, layers).
        layer_multipliers: Multiplier of each layer; one entry if all layers have the same multiplier and robust bits.
        layer_robust_bits: Robust bits of each layer; one entry in the same case.

    Raises:
        WorkloadError: If there is no layer, a name is duplicated, or a knob is out of range.
    """

    layers: tuple[LayerWorkload, ...]
    weight_bits: int
    activation_bits: int
    multiplier: str
    weight_memory_v: float
    robust_bits: int
    batch: int = 1
    matrix: Array = field(init=False, repr=False, compare=False)
    layer_multipliers: tuple[str, ...] = field(init=False, repr=False, compare=False)
    layer_robust_bits: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.layers:
            raise WorkloadError("a workload needs at least one layer, got none")
        names = [layer.name for layer in self.layers]
        if len(set(names)) < len(names):
            duplicate = next(name for name in names if names.count(name) > 1)
            raise WorkloadError(f"layers need unique names, got {duplicate!r} more than once")
        for name in ("weight_bits", "activation_bits", "batch"):
            if getattr(self, name) < 1:
                raise WorkloadError(f"{name} must be at least 1, got {getattr(self, name)}")
        self._check_robust_bits("", self.robust_bits)
        for layer in self.layers:
            if layer.robust_bits is not None:
                self._check_robust_bits(f"layer {layer.name!r}: ", layer.robust_bits)
        if not self.weight_memory_v > 0:
            raise WorkloadError(f"weight_memory_v must be positive, got {self.weight_memory_v}")
        multipliers = tuple(layer.multiplier or self.multiplier for layer in self.layers)
        robust_bits = tuple(
            self.robust_bits if layer.robust_bits is None else layer.robust_bits for layer in self.layers
        )
        if len(set(zip(multipliers, robust_bits, strict=True))) == 1:
            multipliers, robust_bits = multipliers[:1], robust_bits[:1]
        matrix = np.array([[getattr(layer, name) for layer in self.layers] for name in _NUMBERS], dtype=np.float64)
        if self.batch > 1:
            matrix[_PER_IMAGE] *= self.batch
        object.__setattr__(self, "matrix", matrix[:, None])
        object.__setattr__(self, "layer_multipliers", multipliers)
        object.__setattr__(self, "layer_robust_bits", robust_bits)

    def _check_robust_bits(self, where: str, robust_bits: int) -> None:
        if not 0 <= robust_bits <= self.weight_bits:
            raise WorkloadError(
                f"{where}robust_bits must be between 0 and weight_bits={self.weight_bits}, got {robust_bits}"
            )

    @property
    def macs(self) -> int:
        """Multiply-accumulate operations of the dense network."""
        return sum(layer.macs for layer in self.layers)

    @cached_property
    def alone(self) -> WorkloadBatch:
        """The workload as a batch of one."""
        return WorkloadBatch.of([self])

    def to_dict(self) -> dict[str, Any]:
        """Convert to a JSON object."""
        shared = {one.name: getattr(self, one.name) for one in fields(self) if one.init}
        layers = ({key: value for key, value in asdict(layer).items() if value is not None} for layer in self.layers)
        return shared | {"layers": list(layers)}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Workload:
        """Create a workload from a JSON object as `to_dict` returns it.

        Raises:
            WorkloadError: If a key is missing or unknown, or a value is of the wrong type or out of range.
        """
        layers = content.get("layers")
        if not isinstance(layers, list):
            raise WorkloadError(f"a workload needs a list of layers under the key 'layers', got {layers!r}")
        read = tuple(LayerWorkload(**_checked(LayerWorkload, layer, "a layer")) for layer in layers)
        return cls(**_checked(cls, {**content, "layers": read}, "the workload"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """The layers of a batch of workloads as arrays of shape (workloads, layers); see `LayerWorkload`.

    Shorter networks are padded with layers whose sizes are 0.

    Attributes:
        positions: Output positions of the whole batch of images.
        inner: Products summed into one output.
        outputs: Output channels.
        input_values: Activations read, of the whole batch of images.
        nonzero_weights: Weights left after pruning.
        groups: Independent products.
        kernel_height: Rows of the kernel.
        kernel_width: Columns of the kernel.
        output_height: Rows of output positions of one image.
        activation_density: Share of nonzero inputs.
        batch: Images, which share each weight that is fetched; shape (workloads, 1).
    """

    positions: Array
    inner: Array
    outputs: Array
    input_values: Array
    nonzero_weights: Array
    groups: Array
    kernel_height: Array
    kernel_width: Array
    output_height: Array
    activation_density: Array
    batch: Array


# Rows of a workload's matrix, those that grow with its batch, and those that may not be 0 where a network is padded.
_NUMBERS = tuple(one.name for one in fields(LayerWorkload) if one.type in ("int", "float"))
_PER_IMAGE = [_NUMBERS.index(name) for name in ("positions", "input_values")]
_DIVISORS = [_NUMBERS.index(name) for name in ("groups", "kernel_height", "kernel_width", "output_height")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Knobs:
    """The knobs of a batch of workloads as arrays of shape (workloads, 1); see `Workload`.

    Attributes:
        weight_bits: Width of a weight.
        activation_bits: Width of an activation.
        weight_memory_v: Supply voltage of the weight memory.
        robust_bits: Top bits of each weight in 8T cells; shape (workloads, layers) if the batch is layered.
    """

    weight_bits: Array
    activation_bits: Array
    weight_memory_v: Array
    robust_bits: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadBatch:
    """Many workloads as arrays, to be estimated together.

    Attributes:
        layers: The numbers of their layers.
        knobs: The numbers that all layers of a workload share.
        multipliers: Distinct multipliers, each with the width of its weights and activations.
        multiplier_rows: Indices into `multipliers`, in the distinct ways that workloads use them; shape (rows, 1), or
            (rows, layers) with one for each layer if the batch is layered.
        row_of: Index into `multiplier_rows` of each workload, of shape (workloads,).
    """

    layers: Layers
    knobs: Knobs
    multipliers: tuple[tuple[str, int, int], ...]
    multiplier_rows: NDArray[np.intp]
    row_of: NDArray[np.intp]

    @property
    def layered(self) -> bool:
        """Whether the layers of some workload differ in multiplier or robust bits."""
        return bool(self.multiplier_rows.shape[1] > 1)

    def subset(self, rows: NDArray[np.bool_]) -> WorkloadBatch:
        """Return some of the workloads, given by a mask of shape (workloads,)."""
        return replace(
            self,
            layers=Layers(**{one.name: getattr(self.layers, one.name)[rows] for one in fields(Layers)}),
            knobs=Knobs(**{one.name: getattr(self.knobs, one.name)[rows] for one in fields(Knobs)}),
            row_of=self.row_of[rows],
        )

    @classmethod
    def of(cls, workloads: Sequence[Workload]) -> WorkloadBatch:
        """Make a batch of workloads, whose numbers of layers may differ.

        Raises:
            WorkloadError: If there is no workload.
        """
        if not workloads:
            raise WorkloadError("a batch needs at least one workload, got none")
        depths = [workload.matrix.shape[2] for workload in workloads]
        if len(set(depths)) == 1:
            matrices = np.concatenate([workload.matrix for workload in workloads], axis=1)
        else:
            matrices = np.zeros((len(_NUMBERS), len(workloads), max(depths)))
            matrices[_DIVISORS] = 1
            for index, (workload, depth) in enumerate(zip(workloads, depths, strict=True)):
                matrices[:, index, :depth] = workload.matrix[:, 0]
        width = matrices.shape[2] if any(len(workload.layer_multipliers) > 1 for workload in workloads) else 1
        shared = [(one.weight_bits, one.activation_bits, one.weight_memory_v, one.batch) for one in workloads]
        weight_bits, activation_bits, weight_memory_v, batch = np.array(shared, dtype=np.float64).T[:, :, None]
        multipliers: dict[tuple[str, int, int], int] = {}
        combinations, combination_of = _distinct(
            [(one.layer_multipliers, one.weight_bits, one.activation_bits) for one in workloads]
        )
        rows = [
            tuple(multipliers.setdefault((name, w, a), len(multipliers)) for name in names)
            for names, w, a in combinations
        ]
        robust_bits, robust_bits_of = _distinct([workload.layer_robust_bits for workload in workloads])
        return cls(
            layers=Layers(**dict(zip(_NUMBERS, matrices, strict=True)), batch=batch),
            knobs=Knobs(
                weight_bits=weight_bits,
                activation_bits=activation_bits,
                weight_memory_v=weight_memory_v,
                robust_bits=_padded(robust_bits, width)[robust_bits_of].astype(np.float64),
            ),
            multipliers=tuple(multipliers),
            multiplier_rows=_padded(rows, width),
            row_of=combination_of,
        )


def _distinct(values: Sequence[_T]) -> tuple[list[_T], NDArray[np.intp]]:
    """Return the distinct values, and for each value its place among them: a batch has few, repeated often."""
    places: dict[_T, int] = {}
    place_of = [places.setdefault(value, len(places)) for value in values]
    return list(places), np.array(place_of, dtype=np.intp)


def _padded(rows: Sequence[tuple[int, ...]], width: int) -> NDArray[np.intp]:
    """Stack rows of one value for all layers, or one for each; the first value takes the place of missing ones."""
    return np.array([row + row[:1] * (width - len(row)) for row in rows], dtype=np.intp)


def _checked(kind: type, content: object, what: str) -> dict[str, Any]:
    """Check a JSON object against the fields of a dataclass, and return it as its arguments."""
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
