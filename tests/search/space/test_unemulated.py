from dataclasses import replace

import pytest

from energy import Hardware, hardware_names, load_hardware
from search.errors import UsageError
from search.multipliers.choice import choose
from search.space.task import find_task
from search.space.unemulated import check_metadata, check_partial_sums

EYERISS = load_hardware("row-stationary-65nm")
HARDWARE = load_hardware("weight-stationary-45nm")


def test_saturating_sums_of_kernel_rows_are_refused() -> None:
    with pytest.raises(
        UsageError,
        match=r"row-stationary-65nm is row-stationary and its partial sums saturate at 16 bits, which is not emulated, "
        r"so only its energy can be estimated; to search, give `hardware` with partial_sum_bits: full, "
        r"partial_sum_overflow: wrap or another dataflow",
    ):
        check_partial_sums(EYERISS)
    either = Hardware.any_of([EYERISS, replace(EYERISS, name="a", dataflow="weight-stationary", scratchpads=None)])
    with pytest.raises(UsageError, match="row-stationary-65nm is row-stationary"):  # whichever comes first
        check_partial_sums(either)


def test_all_other_hardware_is_emulated() -> None:
    for name in hardware_names():
        if name != EYERISS.name:
            check_partial_sums(load_hardware(name))
    check_partial_sums(replace(EYERISS, partial_sum_bits=None))
    check_partial_sums(replace(EYERISS, partial_sum_overflow="wrap"))
    for dataflow in ("weight-stationary", "output-stationary", "best"):
        check_partial_sums(replace(load_hardware("flexible-45nm"), dataflow=dataflow, partial_sum_bits=16))


def test_positions_of_weights_are_not_kept_in_cells_that_fail() -> None:
    memory = replace(HARDWARE.weight_memory, cell="6T")
    hardware = replace(HARDWARE, weight_memory=memory)
    assert hardware.compressed_weights
    space = find_task("digits").space.restricted(choose(["exact"]), "6T")
    with pytest.raises(UsageError, match="keeps the positions of nonzero weights in 6T cells"):
        check_metadata(space, hardware)
    check_metadata(replace(space, supply_mv=range(900, 901)), hardware)
    check_metadata(space, replace(hardware, compressed_weights=False))
    check_metadata(space, HARDWARE)
    check_metadata(space, replace(hardware, weight_memory=replace(memory, cell="8T")))
