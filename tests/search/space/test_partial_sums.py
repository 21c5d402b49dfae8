from dataclasses import replace

import pytest

from energy import Hardware, hardware_names, load_hardware
from search.errors import UsageError
from search.space.partial_sums import check_partial_sums

EYERISS = load_hardware("row-stationary-65nm")


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
