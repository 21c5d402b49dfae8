"""What a person asks of a network: how each of its layers computes, and what its memories do. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from approx.errors import ArgumentError
from approx.multipliers.multiplier import MAX_BITS, MAX_TABLE_BITS, MIN_BITS

GRADIENTS = ("straight-through", "difference")
GRANULARITIES = ("channel", "tensor")
CALIBRATIONS = ("mse", "percentile")
STORAGES = ("twos-complement", "sign-magnitude")
FORMAT_VERSION = 1  # of the dictionaries that configurations are saved as


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultyMemory:
    """What a memory does to the bits of the codes kept in it. `MemoryModel.at` gives one for a supply voltage.

    Attributes:
        bit_error_rate: Share of 6T cells that fail: their bit is read inverted, every time, on the same chip.
        robust_bits: How many of the top bits of each code sit in 8T cells; all of them if a code has fewer.
        robust_bit_error_rate: Share of 8T cells that fail.
        storage: `twos-complement`, or `sign-magnitude` with the sign as the top bit. Unsigned codes are stored as they
            are.
        column_correlation: How much cells of one column of a bank have in common, in [0, 1): the correlation of the
            normally distributed lowest working voltages of two of them. 0: all cells are independent.
        transient_rate: Probability that a bit is inverted in one read, anew in each.
        stores_pruned: Whether pruned weights are stored too, as zeros that can fail, instead of left out.

    Raises:
        ArgumentError: If a value is out of range.
    """

    bit_error_rate: float
    robust_bits: int = 0
    robust_bit_error_rate: float = 0.0
    storage: str = "twos-complement"
    column_correlation: float = 0.0
    transient_rate: float = 0.0
    stores_pruned: bool = False

    def __post_init__(self) -> None:
        for rate in ("bit_error_rate", "robust_bit_error_rate", "transient_rate"):
            if not 0 <= getattr(self, rate) <= 1:
                raise ArgumentError(f"{rate} must be in [0, 1], got {getattr(self, rate)}")
        if not 0 <= self.robust_bits <= MAX_BITS:
            raise ArgumentError(f"robust_bits must be between 0 and {MAX_BITS}, got {self.robust_bits}")
        if not 0 <= self.column_correlation < 1:
            raise ArgumentError(f"column_correlation must be in [0, 1), got {self.column_correlation}")
        _check_choice("storage", self.storage, STORAGES)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerApproximation:
    """How a layer computes.

    Attributes:
        weight_bits: Width of weight codes, 2 to 12; above 8 the multiplier must be one that recodes its operands.
        activation_bits: Width of activation codes, 2 to 8.
        multiplier: A name that `approx.find_multiplier` knows.
        gradient: How training sees the multiplier, `straight-through` or `difference`; see `approx.quantized_conv2d`.
        granularity: A weight scale for each output `channel`, or one for the whole `tensor`.
        activation_signed: Whether activation codes are signed. None: unsigned if no calibration input of the layer is
            negative, as after a ReLU, and the multiplier takes unsigned codes of this width; signed otherwise.
        calibration: How scales are set: `mse`, the least mean-square error; or `percentile`, so that this share of
            values, of weights in each channel, is not clipped.
        percentile: For calibration by it, above 50 and up to 100 percent.
        learned_scales: Whether training changes the scales too, by the gradient of LSQ (Esser et al., ICLR 2020).
        weight_memory: What the memory of the weights does; None is perfect. It shows on a chip; see `approx.use_chip`.
        activation_memory: Likewise for the layer's input.

    Raises:
        ArgumentError: If a value is out of range or unknown.
    """

    weight_bits: int = 8
    activation_bits: int = 8
    multiplier: str = "exact"
    gradient: str = "straight-through"
    granularity: str = "channel"
    activation_signed: bool | None = None
    calibration: str = "mse"
    percentile: float = 99.99
    learned_scales: bool = False
    weight_memory: FaultyMemory | None = None
    activation_memory: FaultyMemory | None = None

    def __post_init__(self) -> None:
        for width, most in (("weight_bits", MAX_BITS), ("activation_bits", MAX_TABLE_BITS)):
            if not MIN_BITS <= getattr(self, width) <= most:
                raise ArgumentError(f"{width} must be between {MIN_BITS} and {most}, got {getattr(self, width)}")
        _check_choice("gradient", self.gradient, GRADIENTS)
        _check_choice("granularity", self.granularity, GRANULARITIES)
        _check_choice("calibration", self.calibration, CALIBRATIONS)
        if not 50 < self.percentile <= 100:
            raise ArgumentError(f"percentile must be above 50 and at most 100, got {self.percentile}")

    def to_dict(self) -> dict[str, Any]:
        """As a JSON object."""
        return {"version": FORMAT_VERSION, **asdict(self)}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> LayerApproximation:
        """From the JSON object that `to_dict` made.

        Raises:
            ArgumentError: If it was written by a newer release, a key is unknown, or a value out of range.
        """
        values = dict(content)
        if values.pop("version", None) != FORMAT_VERSION:
            raise ArgumentError(
                f"a layer's configuration of version {content.get('version')!r} cannot be read; this release knows "
                f"{FORMAT_VERSION}"
            )
        for memory in ("weight_memory", "activation_memory"):
            if values.get(memory) is not None:
                values[memory] = FaultyMemory(**_known_only(FaultyMemory, values[memory]))
        return cls(**_known_only(cls, values))


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkApproximation:
    """How each layer of a network computes.

    Attributes:
        default: How a layer computes that nothing else is said of.
        overrides: Pattern of layer names, such as `layer1.*` or `fc` (as in `fnmatch`), to how these compute; None
            leaves them as they are, in floating point. Of several patterns that match, the last counts.
        precise_first: Whether the first layer to run is left in floating point, unless a pattern names it.
        precise_last: Likewise for the last.
        leave_unsupported: Whether layers that cannot be approximated stay in floating point instead of being refused.
    """

    default: LayerApproximation
    overrides: Mapping[str, LayerApproximation | None] = field(default_factory=dict)
    precise_first: bool = False
    precise_last: bool = False
    leave_unsupported: bool = False


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ArgumentError(f"{name} must be one of {', '.join(choices)}; got {value!r}")


def _known_only(cls: type[Any], content: Mapping[str, Any]) -> dict[str, Any]:
    known = [one.name for one in fields(cls)]
    if unknown := sorted(content.keys() - set(known)):
        raise ArgumentError(f"unknown key {unknown[0]!r} of {cls.__name__}; keys are {', '.join(known)}")
    return dict(content)
