"""The weight memory of a candidate: its voltage is relative to the nominal one of whatever memory it is."""

from dataclasses import replace

import pytest

import approx
from search.space.task import find_task
from search.space.weight_memory import weight_memory

CANDIDATE = replace(find_task("digits").space.baseline(), supply_v=0.72, robust_bits=3)  # four fifths of nominal


@pytest.mark.parametrize(
    ("failures", "model", "volts"),
    [("silicon-14nm", approx.SILICON_14NM, 0.72), ("hybrid-22nm", approx.HYBRID_22NM, 0.76)],
)
def test_a_voltage_is_a_share_of_the_nominal_one(failures: str, model: approx.MemoryModel, volts: float) -> None:
    found = weight_memory(CANDIDATE, failures)
    assert found.bit_error_rate == model.bit_error_rate(volts) > 0
    assert found.robust_bit_error_rate == model.failure_8t.probability(volts)
    assert found.robust_bits == 3
    assert weight_memory(replace(CANDIDATE, supply_v=0.9), failures).bit_error_rate == 0
