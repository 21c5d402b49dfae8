"""Candidates: a network and how hardware would run it, one point of the search space."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields, replace
from typing import Any

from search.content_hash import content_hash
from search.errors import UsageError

Network = tuple[str, int, int]  # family, depth, width

NOMINAL_V = 0.9  # from here up, no cell of the weight memory fails (approx.SILICON_14NM.v_min; a test compares them)

# Networks without a layer between the first and the last, by family and depth (a test checks all families).
_WITHOUT_MIDDLE = {("mlp", 1), ("lenet", 1)}

# Up to these weight widths an alphabet set represents every weight, so its multiplier is exact; DRUM and static segment
# multipliers are exact if neither magnitude is wider than the bits they keep. They are then treated as `exact` (a test
# compares all of them at all widths).
_ALPHABETS_EXACT_UP_TO_BITS = {"asm-1": 2, "asm-1-3": 3, "asm-1-3-5": 3, "asm-1-3-5-7": 4}
_KEEPS_BITS = re.compile(r"(?:drum|ssm)-(\d+)")


def is_exact(multiplier: str, *, weight_bits: int, activation_bits: int) -> bool:
    """Whether a built-in multiplier is known to be exact for operands of these widths."""
    if weight_bits <= _ALPHABETS_EXACT_UP_TO_BITS.get(multiplier, 0):
        return True
    kept = _KEEPS_BITS.fullmatch(multiplier)
    return kept is not None and max(weight_bits - 1, activation_bits) <= int(kept[1])  # a weight has a sign


@dataclass(frozen=True, slots=True)
class LayerChoice:
    """The choices that may differ from layer to layer; see `Candidate`."""

    multiplier: str
    robust_bits: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A choice for each of the four techniques.

    The first and the last layer may have a different multiplier and different robust bits. Layers are in the order in
    which they first run; a single layer counts as the last.

    Attributes:
        family: Network family, or the import path of a custom network; with `/8` if that comes trained, whose width is
            the number of eighths of its channels that are kept.
        depth: Depth of the network, 1 to 64, as its family defines it.
        width: Width of the network, 1 to 64, as its family defines it.
        sparsity: Share of each layer's weights pruned, in [0, 1).
        weight_bits: Width of stored weights, 2 to 8.
        activation_bits: Width of activations, 2 to 8.
        multiplier: Name of the multiplier; for an imported one, its `multiplier_identity`.
        supply_v: Supply voltage of the weight memory, in volts.
        robust_bits: Number of top bits of each weight that are held in 8T cells.
        multiplier_first: Multiplier of the first layer; None for `multiplier`.
        multiplier_last: Multiplier of the last layer; None for `multiplier`.
        robust_bits_first: Robust bits of the first layer; None for `robust_bits`.
        robust_bits_last: Robust bits of the last layer; None for `robust_bits`.

    Raises:
        UsageError: If a number is out of range.
    """

    family: str
    depth: int
    width: int
    sparsity: float
    weight_bits: int
    activation_bits: int
    multiplier: str
    supply_v: float
    robust_bits: int
    multiplier_first: str | None = None
    multiplier_last: str | None = None
    robust_bits_first: int | None = None
    robust_bits_last: int | None = None

    def __post_init__(self) -> None:
        ranges: dict[str, tuple[float, float]] = {
            "depth": (1, 64),
            "width": (1, 64),
            "sparsity": (0, 0.999),
            "weight_bits": (2, 8),
            "activation_bits": (2, 8),
            "supply_v": (0.3, 2.0),
            "robust_bits": (0, 8),
            "robust_bits_first": (0, 8),
            "robust_bits_last": (0, 8),
        }
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise UsageError(f"{name} must be between {low} and {high}, got {value}")

    def canonical(self) -> Candidate:
        """Return the one form of all candidates with the same behaviour.

        At most `weight_bits` bits are robust, and none if no cell fails. A multiplier that is exact at the operands'
        widths is `exact`. Fields of the first and the last layer that equal the shared ones are None. If no layer lies
        between the two, the shared fields are the first layer's; this is known for built-in families, but not for
        custom networks.
        """
        supply_v = min(round(self.supply_v, 4), NOMINAL_V)
        first, main, last = (self._canonical(choice, supply_v) for choice in self.groups)
        if (self.family, self.depth) in _WITHOUT_MIDDLE:
            main = first
        return replace(
            self,
            multiplier=main.multiplier,
            sparsity=round(self.sparsity, 4),
            supply_v=supply_v,
            robust_bits=main.robust_bits,
            multiplier_first=None if first.multiplier == main.multiplier else first.multiplier,
            multiplier_last=None if last.multiplier == main.multiplier else last.multiplier,
            robust_bits_first=None if first.robust_bits == main.robust_bits else first.robust_bits,
            robust_bits_last=None if last.robust_bits == main.robust_bits else last.robust_bits,
        )

    def _canonical(self, choice: LayerChoice, supply_v: float) -> LayerChoice:
        exact = is_exact(choice.multiplier, weight_bits=self.weight_bits, activation_bits=self.activation_bits)
        return LayerChoice(
            multiplier="exact" if exact else choice.multiplier,
            robust_bits=0 if supply_v >= NOMINAL_V else min(choice.robust_bits, self.weight_bits),
        )

    @property
    def groups(self) -> tuple[LayerChoice, LayerChoice, LayerChoice]:
        """The choices of the first layer, of those in the middle, and of the last."""
        return (
            self._group(self.multiplier_first, self.robust_bits_first),
            LayerChoice(self.multiplier, self.robust_bits),
            self._group(self.multiplier_last, self.robust_bits_last),
        )

    def _group(self, multiplier: str | None, robust_bits: int | None) -> LayerChoice:
        return LayerChoice(
            self.multiplier if multiplier is None else multiplier,
            self.robust_bits if robust_bits is None else robust_bits,
        )

    @property
    def network(self) -> Network:
        """The network that is trained first, and once for all candidates that share it."""
        return self.family, self.depth, self.width

    @property
    def multipliers(self) -> tuple[str, ...]:
        """The different multipliers of its layers."""
        return tuple(dict.fromkeys(choice.multiplier for choice in self.groups))

    def layer_choices(self, layers: Sequence[str]) -> dict[str, LayerChoice]:
        """Return the choices of each layer: layer name -> choices.

        Args:
            layers: Distinct layer names, in the order in which the layers first run; at least one.
        """
        first, main, last = self.groups
        return {**dict.fromkeys(layers, main), layers[0]: first, layers[-1]: last}

    @property
    def key(self) -> str:
        """Content hash of the canonical form: equal for exactly the candidates with the same behaviour."""
        return content_hash(self.canonical().to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Return the candidate as a JSON object, without fields that are None."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Candidate:
        """Return the candidate of a JSON object.

        Raises:
            UsageError: If a key is missing, unknown, of the wrong type, or a value out of range.
        """
        known = {field.name: field.type for field in fields(cls)}
        if unknown := sorted(content.keys() - known.keys()):
            raise UsageError(f"unknown candidate key {unknown[0]!r}; keys are {', '.join(known)}")
        needed = [field.name for field in fields(cls) if field.default is MISSING]
        if missing := [name for name in needed if name not in content]:
            raise UsageError(f"the candidate lacks the key {missing[0]!r}")
        kinds: dict[Any, tuple[type, ...]] = {
            "str": (str,),
            "int": (int,),
            "float": (int, float),
        }
        values: dict[str, Any] = {}
        for name, type_name in known.items():
            type_name = str(type_name).removesuffix(" | None")
            value: Any = content.get(name)
            if value is None and name not in needed:
                continue
            allowed = kinds[type_name]
            if isinstance(value, bool) or not isinstance(value, allowed):
                raise UsageError(f"candidate key {name!r} must be of type {type_name}, got {value!r}")
            values[name] = allowed[-1](value)
        return cls(**values)
