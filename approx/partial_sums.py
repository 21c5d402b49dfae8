"""Running sums of a fixed width: how products are added up in an array whose sums are narrower than they might need.

An output is computed by one running sum. It begins at 0; the products of the inner dimension are added to it one at a
time, in the order in which a weight lies in memory: channel by channel of its group, in each the rows of the kernel, in
each row its columns. Each addition is exact and then brought to `bits` bits, two's complement, by the rule of
`overflow`. The bias is added afterwards, to the real value that the sum stands for.

    sum = 0
    for each product:  sum = narrowed(sum + product)

An array whose weights stay, of R rows, makes these additions R at a time: the sum passes down a column, leaves it for
the activation memory at its own width, and enters the column again, at its top, with the next R weights. One whose
outputs stay makes all of them in one place. So both give the same sums, whatever the size of the array, and there is
no tile size to give.
"""

from __future__ import annotations

from dataclasses import dataclass

from approx.checks import check_integer
from approx.errors import ArgumentError

OVERFLOWS = ("saturate", "wrap")
MAX_SUM_BITS = 32  # sums that could leave 32 bits are refused, so that this many never overflow


@dataclass(frozen=True, slots=True, kw_only=True)
class PartialSums:
    """Running sums of a fixed width; `approx.partial_sums` defines them.

    Attributes:
        bits: Width of the running sum, 2 to 32, its sign included.
        overflow: What an addition gives that leaves this width: `saturate`, the largest or smallest sum; or `wrap`,
            the sum modulo 2**bits.

    Raises:
        ArgumentError: If a value is out of range, unknown or of the wrong type.
    """

    bits: int
    overflow: str = "saturate"

    def __post_init__(self) -> None:
        check_integer("bits", self.bits)
        if not 2 <= self.bits <= MAX_SUM_BITS:
            raise ArgumentError(f"`bits` must be between 2 and {MAX_SUM_BITS}, got {self.bits}")
        if self.overflow not in OVERFLOWS:
            raise ArgumentError(f"`overflow` must be one of {', '.join(OVERFLOWS)}; got {self.overflow!r}")

    @property
    def low(self) -> int:
        """The smallest sum."""
        return int(-(2 ** (self.bits - 1)))

    @property
    def high(self) -> int:
        """The largest sum."""
        return int(2 ** (self.bits - 1) - 1)


@dataclass(slots=True)
class OverflowCount:
    """Sums computed, and those of them that overflowed.

    Attributes:
        sums: Sums computed.
        overflowed: Sums in which at least one addition saturated; of sums that wrap, those whose exact value does not
            fit, because what wraps on the way is not lost.
    """

    sums: int = 0
    overflowed: int = 0

    def add(self, sums: int, overflowed: int) -> None:
        """Count further sums."""
        self.sums += sums
        self.overflowed += overflowed
