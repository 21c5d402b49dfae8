"""What hardware may have that is not emulated, so that accuracy on it is unknown and a search is refused."""

from __future__ import annotations

from energy import Hardware
from search.errors import UsageError
from search.space.candidate import NOMINAL_V
from search.space.search_space import SearchSpace


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


def check_metadata(space: SearchSpace, hardware: Hardware) -> None:
    """Refuse a space in which the positions of nonzero weights would be in cells that fail.

    Raises:
        UsageError: If the hardware compresses weights in a memory of 6T cells, and the space lowers its voltage.
    """
    if not hardware.compressed_weights or hardware.weight_memory.metadata_is_8t:
        return
    if space.supply_mv[0] < round(NOMINAL_V * 1000):
        raise UsageError(
            f"{hardware.name} keeps the positions of nonzero weights in 6T cells (weight_format: compressed, "
            "weight_memory.cell: 6T), where they would fail at low voltages, which is not emulated; choose hardware "
            f"with weight_format: dense or with cell: hybrid or 8T, or a space with supply_v: [{NOMINAL_V}]"
        )
