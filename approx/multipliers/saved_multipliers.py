"""Multipliers as arrays in a file: a saved model needs neither the catalogue nor the release that built them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from approx.errors import SavedModelError
from approx.multipliers.multiplier import MAX_TABLE_BITS, Multiplier

MultiplierKey = tuple[str, str, bool]


def multiplier_key(multiplier: Multiplier) -> MultiplierKey:
    """A key that is equal for multipliers of which one copy suffices.

    Of two multipliers with one table, only one may constrain its weights.
    """
    return multiplier.name, multiplier.digest, multiplier.constrains_weights


def multiplier_names(multipliers: Iterable[Multiplier]) -> dict[MultiplierKey, str]:
    """Key -> a unique name that also says what the operands are."""
    names: dict[MultiplierKey, str] = {}
    for one in multipliers:
        name = f"{one.name}_w{one.weight_bits}a{one.activation_bits}{'s' if one.activation_signed else 'u'}"
        if name in names.values():
            name = f"{name}_{one.digest[:8]}{'c' if one.constrains_weights else ''}"
        names.setdefault(multiplier_key(one), name)
    return names


def described(multiplier: Multiplier) -> dict[str, Any]:
    """A multiplier without its arrays, as a JSON object."""
    return {
        "name": multiplier.name,
        "weight_bits": multiplier.weight_bits,
        "activation_bits": multiplier.activation_bits,
        "weight_signed": multiplier.weight_signed,
        "activation_signed": multiplier.activation_signed,
        "constrains_weights": multiplier.constrains_weights,
        "takes_any_weight": multiplier.takes_any_weight,
        "weight_format": multiplier.weight_format,
        "provenance": multiplier.provenance,
        "sha256": multiplier.digest,
    }


def arrays_of(name: str, multiplier: Multiplier) -> dict[str, NDArray[np.int32]]:
    """The table of a multiplier, up to 8 bits, and its recodings, if any, under names that begin with `name`."""
    arrays = {}
    if max(multiplier.weight_bits, multiplier.activation_bits) <= MAX_TABLE_BITS:
        arrays["table"] = multiplier.table()
    if multiplier.weight_recoding is not None:
        arrays["weight_recoding"] = multiplier.weight_recoding
    if multiplier.activation_recoding is not None:
        arrays["activation_recoding"] = multiplier.activation_recoding
    return {f"{name}.{kind}": array.numpy() for kind, array in arrays.items()}


def multiplier_of(name: str, about: Mapping[str, Any], arrays: Mapping[str, NDArray[np.int32]]) -> Multiplier:
    """The multiplier from its `described` and `arrays_of`.

    Raises:
        SavedModelError: If the arrays are those of another multiplier.
    """

    def array(kind: str) -> Tensor | None:
        found = arrays.get(f"{name}.{kind}")
        return None if found is None else torch.from_numpy(found)

    recoding = array("weight_recoding")
    multiplier = Multiplier(
        name=about["name"],
        weight_bits=about["weight_bits"],
        activation_bits=about["activation_bits"],
        weight_signed=about["weight_signed"],
        activation_signed=about["activation_signed"],
        lut=array("table") if recoding is None else None,
        weight_recoding=recoding,
        activation_recoding=array("activation_recoding"),
        constrains_weights=about["constrains_weights"],
        takes_any_weight=about["takes_any_weight"],
        weight_format=about["weight_format"],
        provenance=about["provenance"],
    )
    if multiplier.digest != about["sha256"]:
        raise SavedModelError(f"the arrays of multiplier {name!r} are not those that were saved")
    return multiplier
