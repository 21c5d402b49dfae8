"""Whether networks can be computed with the partial sums of hardware, as their accuracy there needs."""

from __future__ import annotations

from energy import Hardware
from search.errors import UsageError


def check_partial_sums(hardware: Hardware) -> None:
    """Refuse hardware whose partial sums are charged narrower than they can be emulated.

    Where weights or outputs stay, an output is one running sum, to which products are added one after the other. A
    row-stationary array adds up sums of kernel rows, several channels at a time; where such sums saturate depends on
    this order, which is not emulated. Sums that wrap depend on no order.

    Args:
        hardware: An accelerator, or several to choose among.

    Raises:
        UsageError: If it is row-stationary with saturating partial sums.
    """
    for one in hardware.alternatives or (hardware,):
        narrow = one.partial_sum_bits is not None and one.partial_sum_overflow == "saturate"
        if narrow and one.dataflow == "row-stationary":
            raise UsageError(
                f"{one.name} is row-stationary and its partial sums saturate at {one.partial_sum_bits} bits, which is "
                "not emulated, so only its energy can be estimated; to search, give `hardware` with partial_sum_bits: "
                "full, partial_sum_overflow: wrap or another dataflow"
            )
