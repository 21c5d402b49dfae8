"""Areas by hand, from published figures of 45 nm and the gates of the exact multiplier."""

from dataclasses import replace

import pytest

from energy import estimate, load_hardware
from energy.cost_table import exact_rows
from tests.support.networks import fully_connected, workload

HARDWARE = load_hardware("weight-stationary-45nm")
ROWS = exact_rows()


def test_a_column_has_one_unit_that_turns_sums_into_codes() -> None:
    """Two arrays of as many elements differ by those units of their columns."""
    work = workload(fully_connected("fc", 64, 10), weight_bits=5, activation_bits=5)  # sums of 5 + 5 + 6 bits
    areas = [
        estimate(work, replace(HARDWARE, array_rows=rows, array_columns=columns)).area_mm2.value
        for rows, columns in ((8, 4), (4, 8))
    ]
    # A multiplication by 16 bits; a shift of 32 bits at 0.026 of an exact 8-bit multiplier each; an adder.
    relative = ROWS["layer", 16, 16].area_um2 / ROWS["layer", 8, 8].area_um2 + 0.026 * 32
    assert areas[1] - areas[0] == pytest.approx(4 * (relative * 64 * 6.2 + 16 * 5.61) / 1e6)


def test_an_element_has_a_multiplier_an_adder_and_three_registers() -> None:
    work = workload(fully_connected("fc", 64, 10))  # sums of 8 + 8 + 6 bits
    areas = [estimate(work, replace(HARDWARE, array_rows=rows)).area_mm2.value for rows in (HARDWARE.array_rows, 1)]
    element = 64 * 6.2 + 22 * 5.61 + (8 + 8 + 22) * 5.98
    assert areas[0] - areas[1] == pytest.approx(15 * 16 * element / 1e6)


def test_memory_takes_the_area_of_its_cells() -> None:
    """A bank of 8 KB for weights, in a hybrid memory, and one for activations, in 6T cells of 0.494 um2 a bit."""
    weights, biases = 64 * 10 * 8, 10 * 53
    areas = [
        estimate(workload(fully_connected("fc", 64, 10), robust_bits=bits), HARDWARE).area_mm2.value for bits in (0, 4)
    ]
    robust = weights / 2 / (weights + biases)
    assert areas[1] - areas[0] == pytest.approx(0.31 * robust * 8 * 8192 * 0.494 / 1e6)
    nothing = replace(HARDWARE, array_rows=1, array_columns=1)
    one, two = (
        estimate(workload(fully_connected("fc", 64, outputs)), nothing).area_mm2.value for outputs in (100, 150)
    )
    # 6,400 and 9,600 B of weights take one bank and two; 1.31 times the area for biases only.
    shares = [100 * 53 / (51_200 + 100 * 53), 150 * 53 / (76_800 + 150 * 53)]
    wanted = 0.494 * 65_536 * (2 * (1 + 0.31 * shares[1]) - (1 + 0.31 * shares[0]))
    assert two - one == pytest.approx(wanted / 1e6)
