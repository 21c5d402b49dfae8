"""One point of the search space: a network and how hardware would run it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from search.errors import UsageError

NOMINAL_V = 0.9  # at and above, no cell of the weight memory fails (approx.SILICON_14NM.v_min; a test compares them)

# Up to these weight widths an alphabet set represents every weight, so that its multiplier is the exact one; DRUM and
# static segments are where neither magnitude is wider than what they keep. They are then counted as the exact one (a
# test compares all with it, at all widths).
_ALPHABETS_EXACT_UP_TO_BITS = {"asm-1": 2, "asm-1-3": 3, "asm-1-3-5": 3, "asm-1-3-5-7": 4}
_KEEPS_BITS = re.compile(r"(?:drum|ssm)-(\d+)")


def is_exact(multiplier: str, *, weight_bits: int, activation_bits: int) -> bool:
    """Whether a multiplier of the catalogue is known to be exact for operands of these widths."""
    if weight_bits <= _ALPHABETS_EXACT_UP_TO_BITS.get(multiplier, 0):
        return True
    kept = _KEEPS_BITS.fullmatch(multiplier)
    return kept is not None and max(weight_bits - 1, activation_bits) <= int(kept[1])  # a weight has a sign


def content_hash(content: Any) -> str:
    """SHA-256, in hex, of a JSON value in its one canonical spelling."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def multiplier_identity(name: str, digest: str) -> str:
    """What candidates call an imported multiplier, whose name may come to mean another one.

    Args:
        name: Its name.
        digest: SHA-256, in hex, of what it computes.
    """
    return f"{name}@{digest[:8]}"


def multiplier_name(identity: str) -> str:
    """The name by which people know the multiplier of a candidate."""
    return identity.partition("@")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A choice for each of the four techniques.

    Attributes:
        family: Network family, or the import path of a person's own network.
        depth: Its depth knob.
        width: Its width knob.
        sparsity: Share of each layer's weights pruned, in [0, 1).
        weight_bits: Width of stored weights, 2 to 8.
        activation_bits: Width of activations, 2 to 8.
        multiplier: Name of the multiplier; of an imported one its `multiplier_identity`.
        supply_v: Supply voltage of the weight memory, in volts.
        robust_bits: Top bits of each weight held in 8T cells.

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

    def __post_init__(self) -> None:
        ranges: dict[str, tuple[float, float]] = {
            "depth": (1, 64),
            "width": (1, 64),
            "sparsity": (0, 0.999),
            "weight_bits": (2, 8),
            "activation_bits": (2, 8),
            "supply_v": (0.3, 2.0),
            "robust_bits": (0, 8),
        }
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise UsageError(f"{name} must be between {low} and {high}, got {value}")

    def canonical(self) -> Candidate:
        """The candidate that stands for every one with the same behaviour.

        No more bits can be robust than there are, and none needs to be where no cell fails. A multiplier that is exact
        at the operands' widths is `exact`.
        """
        supply_v = min(round(self.supply_v, 4), NOMINAL_V)
        exact = is_exact(self.multiplier, weight_bits=self.weight_bits, activation_bits=self.activation_bits)
        return replace(
            self,
            multiplier="exact" if exact else self.multiplier,
            sparsity=round(self.sparsity, 4),
            supply_v=supply_v,
            robust_bits=0 if supply_v >= NOMINAL_V else min(self.robust_bits, self.weight_bits),
        )

    @property
    def key(self) -> str:
        """Content hash of the canonical form: equal exactly for candidates with the same behaviour."""
        return content_hash(self.canonical().to_dict())

    def to_dict(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Candidate:
        """From a JSON object.

        Raises:
            UsageError: If a key is missing, unknown, of the wrong type, or a value out of range.
        """
        known = {field.name: field.type for field in fields(cls)}
        if unknown := sorted(content.keys() - known.keys()):
            raise UsageError(f"unknown candidate key {unknown[0]!r}; keys are {', '.join(known)}")
        if missing := [name for name in known if name not in content]:
            raise UsageError(f"the candidate lacks the key {missing[0]!r}")
        kinds: dict[Any, tuple[type, ...]] = {
            "str": (str,),
            "int": (int,),
            "float": (int, float),
        }
        values: dict[str, Any] = {}
        for name, type_name in known.items():
            value: Any = content[name]
            allowed = kinds[type_name]
            if isinstance(value, bool) or not isinstance(value, allowed):
                raise UsageError(f"candidate key {name!r} must be of type {type_name}, got {value!r}")
            values[name] = allowed[-1](value)
        return cls(**values)
