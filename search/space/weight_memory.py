"""The weight memory of a candidate: how its cells fail at a share of the nominal voltage."""

from __future__ import annotations

import approx
from search.space.candidate import NOMINAL_V, Candidate

_FAILURES = {"silicon-14nm": approx.SILICON_14NM, "hybrid-22nm": approx.HYBRID_22NM}


def weight_memory(candidate: Candidate, failures: str) -> approx.FaultyMemory:
    """Return the memory of a candidate's weights, at its share of a failure model's nominal voltage.

    The robust bits are those of the middle layers; `Training.put_in_memory` sets those of each layer.

    Args:
        candidate: The candidate.
        failures: One of `energy.hardware.FAILURES`.
    """
    model = _FAILURES[failures]
    voltage = round(candidate.supply_v / NOMINAL_V * model.nominal_v, 6)
    return model.at(voltage, robust_bits=candidate.robust_bits)


def lowest_supply_mv(failures: str) -> int:
    """Return the lowest supply voltage of a candidate, in mV, at which at most half of the cells fail, to the percent.

    Below it a failure model is meaningless: inverting every bit would be more accurate than reading it.

    Args:
        failures: One of `energy.hardware.FAILURES`.
    """
    model, nominal_mv = _FAILURES[failures], round(NOMINAL_V * 1000)
    rates = {mv: model.bit_error_rate(mv / nominal_mv * model.nominal_v) for mv in range(1, nominal_mv + 1)}
    return next(mv for mv, rate in rates.items() if round(rate, 2) <= 0.5)
