"""The weight memory of a candidate: how its cells fail at a share of the nominal voltage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import approx
from search.errors import UsageError
from search.multipliers.identity import multiplier_name, name_in_layers
from search.multipliers.known import KnownMultipliers
from search.space.candidate import NOMINAL_V, Candidate
from search.space.search_space import SearchSpace

if TYPE_CHECKING:
    from energy.hardware_parts import Cell
    from search.multipliers.choice import ChosenMultiplier

_PUBLISHED = {"silicon-14nm": approx.SILICON_14NM, "hybrid-22nm": approx.HYBRID_22NM}
_MODELS = {
    **_PUBLISHED,
    **{
        f"{name}-{kind}-8t": replace(model, failure_8t=curve)
        for name, model in _PUBLISHED.items()
        for kind, curve in (("weaker", model.weaker_8t), ("stronger", model.stronger_8t))
        if curve is not None
    },
}
_STUCK = "-stuck"  # ends the names of those whose failed cells are stuck


def weight_memory(candidate: Candidate, failures: str) -> approx.FaultyMemory:
    """Return the memory of a candidate's weights, at its share of a failure model's nominal voltage.

    The robust bits are those of the middle layers; `Emulation.put_in_memory` sets those of each layer.

    Args:
        candidate: The candidate.
        failures: One of `energy.hardware.FAILURES`.
    """
    model = _MODELS[failures.removesuffix(_STUCK)]
    voltage = round(candidate.supply_v / NOMINAL_V * model.nominal_v, 6)
    failed_cells = "stuck" if failures.endswith(_STUCK) else "inverted"
    return model.at(voltage, robust_bits=candidate.robust_bits, failed_cells=failed_cells)


def lowest_supply_mv(failures: str, cell: Cell) -> int:
    """Return the lowest supply voltage of a candidate, in mV.

    No 8T cell fails there: biases and the positions of nonzero weights are in such cells, and their faults are not
    emulated. In a memory of 6T cells at most half of the cells fail, to the percent; if more do, it holds nothing.

    Args:
        failures: One of `energy.hardware.FAILURES`.
        cell: Cells of the weight memory.
    """
    model, nominal_mv = _MODELS[failures.removesuffix(_STUCK)], round(NOMINAL_V * 1000)

    def is_usable(millivolts: int) -> bool:
        voltage = millivolts / nominal_mv * model.nominal_v
        return model.failure_8t.probability(voltage) == 0 and (
            cell != "6T" or round(model.bit_error_rate(voltage), 2) <= 0.5
        )

    return next(millivolts for millivolts in range(1, nominal_mv + 1) if is_usable(millivolts))


def check_signs(space: SearchSpace, chosen: Sequence[ChosenMultiplier]) -> None:
    """Refuse multipliers whose product with zero a failed sign would negate, in a space where signs fail.

    Args:
        space: The space.
        chosen: Its multipliers.

    Raises:
        UsageError: If there is one.
    """
    if space.supply_mv[0] >= round(NOMINAL_V * 1000) or space.robust_bits[0] > 0:
        return
    tables = KnownMultipliers.of(chosen).tables
    for one in chosen:
        multiplier = approx.find_multiplier(
            name_in_layers(one.identity),
            weight_bits=one.max_weight_bits,
            activation_bits=one.max_activation_bits,
            activation_signed=False,
            multipliers=tables,
        )
        if multiplier.negates_zero:
            raise UsageError(
                f"the product of {multiplier_name(one.identity)} with a weight of zero is not zero, so that a failed "
                "sign would negate it, which is not emulated; leave it out of `multipliers`, or choose a space with "
                f"robust_bits from 1 up or with supply_v: [{NOMINAL_V}]"
            )
