"""Configurations: how each layer of a network computes, and the faults of its memories. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from approx.checks import check_integer, check_number, check_type
from approx.errors import ArgumentError
from approx.multipliers.multiplier import MAX_BITS, MAX_TABLE_BITS, MIN_BITS, WEIGHT_FORMATS, Multiplier
from approx.partial_sums import PartialSums

GRADIENTS = ("straight-through", "difference", "separable-difference")
GRANULARITIES = ("channel", "tensor")
CALIBRATIONS = ("mse", "percentile")
FAILED_CELLS = ("inverted", "stuck")
FORMAT_VERSION = 1  # of the dictionaries that configurations are saved as


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultyMemory:
    """The faults of a memory that stores codes. `MemoryModel.at` gives those at a supply voltage.

    Attributes:
        bit_error_rate: Share of 6T cells that fail: on the same chip, the same cells in every read.
        robust_bits: Number of top bits of each code that are in 8T cells; all of them if a code has fewer.
        robust_bit_error_rate: Share of 8T cells that fail.
        storage: How signed codes are stored: `twos-complement`, or `sign-magnitude` with the sign as the top bit. None:
            weights as the layer's multiplier takes them (`Multiplier.weight_format`), so that nothing has to convert
            them, and activations in two's complement. Unsigned codes are stored unchanged.
        failed_cells: What a failed cell gives: `inverted`, always the other bit, so that every failure is an error; or
            `stuck`, always the same bit, 0 as often as 1, so that half of the failures are errors.
        column_correlation: Correlation, in [0, 1), of the normally distributed lowest working voltages of two cells in
            one column of a bank. 0: all cells are independent.
        transient_rate: Probability that a bit is inverted in a read, independently in every read.
        stores_pruned: Whether pruned weights are stored as zeros, which can fail, instead of being left out.
        supply_share: The supply voltage at which a memory has these faults, over its nominal one; None if unknown.
            Faults do not depend on it, energy does.

    Raises:
        ArgumentError: If a value is out of range or of the wrong type.
    """

    bit_error_rate: float
    robust_bits: int = 0
    robust_bit_error_rate: float = 0.0
    storage: str | None = None
    failed_cells: str = "inverted"
    column_correlation: float = 0.0
    transient_rate: float = 0.0
    stores_pruned: bool = False
    supply_share: float | None = None

    @property
    def may_invert_signs(self) -> bool:
        """Whether the top bit of a code may fail."""
        return (self.robust_bit_error_rate if self.robust_bits else self.bit_error_rate) + self.transient_rate > 0

    def __post_init__(self) -> None:
        for rate in ("bit_error_rate", "robust_bit_error_rate", "transient_rate"):
            check_number(rate, getattr(self, rate))
            if not 0 <= getattr(self, rate) <= 1:
                raise ArgumentError(f"`{rate}` must be in [0, 1], got {getattr(self, rate)}")
        check_integer("robust_bits", self.robust_bits)
        if not 0 <= self.robust_bits <= MAX_BITS:
            raise ArgumentError(f"`robust_bits` must be between 0 and {MAX_BITS}, got {self.robust_bits}")
        check_number("column_correlation", self.column_correlation)
        if not 0 <= self.column_correlation < 1:
            raise ArgumentError(f"`column_correlation` must be in [0, 1), got {self.column_correlation}")
        if self.storage is not None:
            _check_choice("storage", self.storage, WEIGHT_FORMATS)
        _check_choice("failed_cells", self.failed_cells, FAILED_CELLS)
        if self.supply_share is not None:
            check_number("supply_share", self.supply_share)
            if not self.supply_share > 0:
                raise ArgumentError(f"`supply_share` must be positive, got {self.supply_share}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerApproximation:
    """How a layer computes.

    Attributes:
        weight_bits: Width of weight codes, 2 to 12; above 8 the multiplier must be one that recodes its operands.
        activation_bits: Width of activation codes, 2 to 8.
        multiplier: A name in the catalogue, or of a custom multiplier; see `approx.find_multiplier`.
        circuit_bits: Widths of weights and activations that the multiplier's circuit is built for; None for those of
            the layer's codes. See `approx.find_multiplier`.
        gradient: Gradient of the multiplier in training, `straight-through`, `difference` or `separable-difference`;
            see `approx.quantized_conv2d`.
        gradient_window: Codes on either side over which differences are taken, at least 1. Where a table has steps,
            neighbouring codes say little of its slope.
        granularity: One weight scale for each output `channel`, or one for the whole `tensor`.
        activation_signed: Whether activation codes are signed. None: unsigned if no calibration input of the layer is
            negative, as after a ReLU, and the multiplier takes unsigned codes of this width; signed otherwise.
        calibration: How scales are set: `mse` minimises the mean-square error; `percentile` leaves `percentile` percent
            of the values unclipped, for weights in each channel.
        percentile: Above 50 and up to 100 percent.
        learned_scales: Whether training changes the scales too, by the gradient of LSQ (Esser et al., ICLR 2020).
        weight_memory: Faults of the weight memory; None is a perfect one. They take effect on a chip; see
            `approx.use_chip`.
        activation_memory: Faults of the memory that holds the layer's input.
        partial_sums: Width of the running sums to which products are added, and what happens where they overflow; None
            if they are wide enough for every sum.

    Raises:
        ArgumentError: If a value is out of range, unknown or of the wrong type.
    """

    weight_bits: int = 8
    activation_bits: int = 8
    multiplier: str = "exact"
    circuit_bits: tuple[int, int] | None = None
    gradient: str = "straight-through"
    gradient_window: int = 1
    granularity: str = "channel"
    activation_signed: bool | None = None
    calibration: str = "mse"
    percentile: float = 99.99
    learned_scales: bool = False
    weight_memory: FaultyMemory | None = None
    activation_memory: FaultyMemory | None = None
    partial_sums: PartialSums | None = None

    def __post_init__(self) -> None:
        for width, most in (("weight_bits", MAX_BITS), ("activation_bits", MAX_TABLE_BITS)):
            check_integer(width, getattr(self, width))
            if not MIN_BITS <= getattr(self, width) <= most:
                raise ArgumentError(f"`{width}` must be between {MIN_BITS} and {most}, got {getattr(self, width)}")
        hint = "to use a Multiplier, choose a name and pass `multipliers={name: multiplier}` to approx.approximate"
        wanted = "the name of a multiplier, such as 'drum-4'"
        check_type("multiplier", self.multiplier, str, wanted, hint if isinstance(self.multiplier, Multiplier) else "")
        if self.circuit_bits is not None:
            check_type("circuit_bits", self.circuit_bits, (tuple, list), "two whole numbers, or None")
            if len(self.circuit_bits) != 2:
                raise ArgumentError(f"`circuit_bits` must be two whole numbers, got {self.circuit_bits}")
            object.__setattr__(self, "circuit_bits", tuple(self.circuit_bits))  # a list in saved configurations
        check_type("activation_signed", self.activation_signed, (bool, type(None)), "True, False or None")
        for memory in ("weight_memory", "activation_memory"):
            wanted = "an approx.FaultyMemory or None"
            check_type(memory, getattr(self, memory), (FaultyMemory, type(None)), wanted)
        wanted, example = "an approx.PartialSums or None", "such as approx.PartialSums(bits=16)"
        check_type("partial_sums", self.partial_sums, (PartialSums, type(None)), wanted, example)
        _check_choice("gradient", self.gradient, GRADIENTS)
        check_integer("gradient_window", self.gradient_window)
        if self.gradient_window < 1:
            raise ArgumentError(f"`gradient_window` must be at least 1, got {self.gradient_window}")
        _check_choice("granularity", self.granularity, GRANULARITIES)
        _check_choice("calibration", self.calibration, CALIBRATIONS)
        check_number("percentile", self.percentile)
        if not 50 < self.percentile <= 100:
            raise ArgumentError(f"`percentile` must be above 50 and at most 100, got {self.percentile}")

    def to_dict(self) -> dict[str, Any]:
        """The configuration as a JSON object."""
        return {"version": FORMAT_VERSION, **asdict(self)}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> LayerApproximation:
        """The configuration from the JSON object that `to_dict` made.

        Raises:
            ArgumentError: If a newer release wrote it, a key is unknown, or a value is out of range.
        """
        check_type("content", content, Mapping, "a dictionary made by `to_dict`")
        values = dict(content)
        if values.pop("version", None) != FORMAT_VERSION:
            raise ArgumentError(
                f"a layer's configuration of version {content.get('version')!r} cannot be read; this release reads "
                f"version {FORMAT_VERSION}"
            )
        for memory in ("weight_memory", "activation_memory"):
            if values.get(memory) is not None:
                values[memory] = FaultyMemory(**_known_only(FaultyMemory, values[memory]))
        if values.get("partial_sums") is not None:
            values["partial_sums"] = PartialSums(**_known_only(PartialSums, values["partial_sums"]))
        return cls(**_known_only(cls, values))


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkApproximation:
    """How each layer of a network computes.

    Attributes:
        default: How layers compute that match no pattern in `overrides`.
        overrides: Pattern of layer names, such as `layer1.*` or `fc` (as in `fnmatch`) -> how these layers compute;
            None leaves them in floating point. If several patterns match, the last one wins.
        precise_first: Whether the first layer to run is left in floating point, unless a pattern matches it.
        precise_last: The same for the last layer to run.
        leave_unsupported: Whether layers that cannot be approximated stay in floating point instead of being an error.

    Raises:
        ArgumentError: If a value is of the wrong type.
    """

    default: LayerApproximation
    overrides: Mapping[str, LayerApproximation | None] = field(default_factory=dict)
    precise_first: bool = False
    precise_last: bool = False
    leave_unsupported: bool = False

    def __post_init__(self) -> None:
        check_type("default", self.default, LayerApproximation, "an approx.LayerApproximation")
        check_type("overrides", self.overrides, Mapping, "a mapping from patterns of layer names to configurations")
        for pattern, config in self.overrides.items():
            kinds = (LayerApproximation, type(None))
            check_type(f"overrides[{pattern!r}]", config, kinds, "an approx.LayerApproximation or None")


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ArgumentError(f"`{name}` must be one of {', '.join(choices)}; got {value!r}")


def _known_only(cls: type[Any], content: Mapping[str, Any]) -> dict[str, Any]:
    known = [one.name for one in fields(cls)]
    if unknown := sorted(content.keys() - set(known)):
        raise ArgumentError(f"unknown key {unknown[0]!r} of {cls.__name__}; keys are {', '.join(known)}")
    return dict(content)
