"""Verilog of every multiplier of the catalogue, in every form in which it is characterised.

The forms differ in the encoding of their operands:

- `layer`, as networks multiply: an unsigned activation, and a signed weight that is stored as sign (the highest bit)
  and magnitude, so that only the product has to be negated;
- `unsigned`: both operands are unsigned;
- `signed`: both are two's complement, and are converted to magnitudes first.

A product of signed operands is two's complement. Ports are `a` (activation), `w` (weight) and `p` (product).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from energy.cost_table import ARRAY, EXACT
from energy.errors import WorkloadError
from energy.gates.arithmetic import add, add_columns, columns_of, negate_if, place
from energy.gates.circuit import Bit, Bits, Circuit
from energy.gates.families import find_core

FORMS = ("layer", "unsigned", "signed")
TOP = "multiplier"
SHARED = "bank"  # the part that several multipliers share
LANE = "lane"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operands:
    """A form with the widths of both operands and of the product."""

    form: str
    weight_bits: int
    activation_bits: int
    product_bits: int

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise WorkloadError(f"form must be one of {', '.join(FORMS)}, got {self.form!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """A multiplier in Verilog.

    Attributes:
        verilog: Its modules.
        description: How it is built.
        parts: Modules that are mapped separately; see `SHARED`.
    """

    verilog: str
    description: str
    parts: tuple[str, ...] = ()


def designs(name: str, operands: Operands) -> list[Design]:
    """List the designs of a multiplier of the catalogue, of which the cheapest counts: one, or several for exact ones.

    Raises:
        WorkloadError: If the name is unknown.
    """
    alphabets = _alphabets(name)
    if alphabets is not None:
        return [_alphabet_set(alphabets, operands)]
    if name == ARRAY:
        return [_single(description, operands, build) for description, build in _ARRAYS[operands.form].items()]
    found = [_with_sign_logic(name, operands)]
    if name == EXACT:
        found += [_single(description, operands, build) for description, build in _EXACT_DESIGNS[operands.form].items()]
    return found


def _single(description: str, operands: Operands, build: Callable[[Circuit, Bits, Bits, int], Bits]) -> Design:
    circuit = Circuit(TOP, {"a": operands.activation_bits, "w": operands.weight_bits})
    circuit.drive("p", build(circuit, circuit.port("a"), circuit.port("w"), operands.product_bits))
    return Design(verilog=circuit.verilog(), description=description)


def _with_sign_logic(name: str, operands: Operands) -> Design:
    core = find_core(name)

    def build(circuit: Circuit, a: Bits, w: Bits, width: int) -> Bits:
        if operands.form == "unsigned":
            return core(circuit, a, w, width)
        if operands.form == "layer":
            return negate_if(circuit, w[-1], core(circuit, a, [*w[:-1], False], width), width=width)
        first, second = (negate_if(circuit, x[-1], x, width=len(x)) for x in (a, w))
        return negate_if(circuit, circuit.differ(a[-1], w[-1]), core(circuit, first, second, width), width=width)

    sign = "" if operands.form == "unsigned" else ", product negated"
    return _single(f"magnitudes{sign}", operands, build)


def _carry_save_array(circuit: Circuit, a: Bits, w: Bits, width: int) -> Bits:
    """The array multiplier: one row of adders per weight bit, and a final row for the carries."""
    sums: Bits = [*(circuit.all_of(bit, w[0]) for bit in a), False]
    carries: Bits = [False] * len(a)
    product: Bits = [sums[0]]
    for weight_bit in w[1:]:
        added = [
            circuit.full_add(circuit.all_of(bit, weight_bit), above, carry)
            for bit, above, carry in zip(a, sums[1:], carries, strict=True)
        ]
        sums, carries = [*(total for total, _ in added), False], [carry for _, carry in added]
        product.append(sums[0])
    return [*product, *add(circuit, sums[1:], carries, width=len(a)), *[False] * width][:width]


def _conditional_complement(circuit: Circuit, a: Bits, w: Bits, width: int) -> Bits:
    """Negate the activation inside the array: if s then (~a + 1 - 2^n) m else a m, as additional partial products."""
    sign, magnitude = w[-1], w[:-1]
    columns = columns_of(width)
    inverted = [circuit.differ(bit, sign) for bit in a]
    for j, bit in enumerate(magnitude):
        place(columns, [circuit.all_of(one, bit) for one in inverted], j)
        place(columns, [circuit.all_of(sign, bit)], j)
    high = [circuit.invert(circuit.all_of(sign, bit)) for bit in magnitude]  # - s m 2^n: inverted, plus one
    place(columns, [*high, *[True] * width], len(a))
    place(columns, [True], len(a))
    return add_columns(circuit, columns)


def _baugh_wooley(signed_activation: bool) -> Callable[[Circuit, Bits, Bits, int], Bits]:
    """Two's complement operands in one array (Baugh and Wooley, IEEE Trans. Computers C-22(12), 1973)."""

    def build(circuit: Circuit, a: Bits, w: Bits, width: int) -> Bits:
        columns = columns_of(width)
        rows, correction = _baugh_wooley_rows(circuit, a, w, signed_activation)
        for shift, row in enumerate(rows):
            place(columns, row, shift)
        place(columns, [bool(correction >> bit & 1) for bit in range(width)])
        return add_columns(circuit, columns)

    return build


def _array_of_magnitudes(circuit: Circuit, a: Bits, w: Bits, width: int) -> Bits:
    return negate_if(circuit, w[-1], _carry_save_array(circuit, a, w[:-1], width), width=width)


def _baugh_wooley_array(signed_activation: bool) -> Callable[[Circuit, Bits, Bits, int], Bits]:
    """The partial products of Baugh and Wooley, added row after row as in the array multiplier."""

    def build(circuit: Circuit, a: Bits, w: Bits, width: int) -> Bits:
        rows, correction = _baugh_wooley_rows(circuit, a, w, signed_activation)
        sums: Bits = [bool(correction >> bit & 1) for bit in range(width)]
        carries: Bits = [False] * width
        for shift, row in enumerate(rows):
            placed = [*[False] * shift, *row, *[False] * width][:width]
            added = [circuit.full_add(*bits) for bits in zip(placed, sums, carries, strict=True)]
            sums, carries = [total for total, _ in added], [False, *(carry for _, carry in added)][:width]
        return add(circuit, sums, carries, width=width)

    return build


def _baugh_wooley_rows(circuit: Circuit, a: Bits, w: Bits, signed_activation: bool) -> tuple[list[Bits], int]:
    """The partial products of each bit of the weight, and the constant that makes up for the inverted ones."""
    rows: list[Bits] = []
    correction = 0
    for j, weight_bit in enumerate(w):
        row: Bits = []
        for i, bit in enumerate(a):
            product = circuit.all_of(bit, weight_bit)
            if (j == len(w) - 1) != (signed_activation and i == len(a) - 1):
                product = circuit.invert(product)  # -x = ~x - 1
                correction -= 1 << (i + j)
            row.append(product)
        rows.append(row)
    return rows, correction


# The memory may store two's complement weights if the multiplier is exact.
TWOS_COMPLEMENT = "two's complement weight, Baugh-Wooley"
_EXACT_DESIGNS: Mapping[str, Mapping[str, Callable[[Circuit, Bits, Bits, int], Bits]]] = {
    "unsigned": {"carry-save array": _carry_save_array},
    "layer": {"activation complemented": _conditional_complement, TWOS_COMPLEMENT: _baugh_wooley(False)},
    "signed": {"Baugh-Wooley": _baugh_wooley(True)},
}
_ARRAYS: Mapping[str, Mapping[str, Callable[[Circuit, Bits, Bits, int], Bits]]] = {
    "unsigned": {"carry-save array": _carry_save_array},
    "layer": {
        "array of magnitudes, product negated": _array_of_magnitudes,
        TWOS_COMPLEMENT: _baugh_wooley_array(False),
    },
    "signed": {"Baugh-Wooley array": _baugh_wooley_array(True)},
}


def _alphabets(name: str) -> tuple[int, ...] | None:
    found = re.fullmatch(r"asm((?:-\d+)+)", name)
    if not found:
        return None
    alphabets = tuple(int(word) for word in found[1].split("-")[1:])
    if alphabets not in {(1,), (1, 3), (1, 3, 5), (1, 3, 5, 7)}:
        raise WorkloadError(f"alphabet sets are asm-1, asm-1-3, asm-1-3-5 and asm-1-3-5-7, got {name!r}")
    return alphabets


def _alphabet_set(alphabets: tuple[int, ...], operands: Operands) -> Design:
    """An alphabet set multiplier: a bank of the activation's multiples, and a lane that selects, shifts and adds them.

    Weights that training does not make, but failed memory cells do, are decoded like the others; see `_quartet`.
    """
    signed = operands.form == "signed"
    magnitude_bits = operands.weight_bits - (operands.form == "layer")
    widest = min(4, magnitude_bits)
    banked = [alphabet for alphabet in alphabets if 1 < alphabet < 2**widest]
    multiple_bits = {alphabet: operands.activation_bits + alphabet.bit_length() for alphabet in banked}
    ports = {"a": operands.activation_bits, **{f"a{alphabet}": multiple_bits[alphabet] for alphabet in banked}}
    lane = Circuit(LANE, {**ports, "w": operands.weight_bits})
    width = operands.product_bits

    def extended(bits: Bits) -> Bits:
        return [*bits, *[bits[-1] if signed else False] * width][:width]

    weight = lane.port("w")
    sign: Bit = False if operands.form == "unsigned" else weight[-1]
    magnitude = negate_if(lane, sign, weight, width=len(weight)) if signed else weight[:magnitude_bits]
    multiples = {1: extended(lane.port("a")), **{one: extended(lane.port(f"a{one}")) for one in banked}}
    columns = columns_of(width)
    for low in range(0, magnitude_bits, 4):
        place(columns, _quartet(lane, multiples, magnitude[low : low + 4], width), low)
    lane.drive("p", negate_if(lane, sign, add_columns(lane, columns), width=width))

    top = [f"module {TOP} ("]
    top += [f"    input [{operands.activation_bits - 1}:0] a,", f"    input [{operands.weight_bits - 1}:0] w,"]
    top += [f"    output [{width - 1}:0] p", ");"]
    top += [f"    wire [{multiple_bits[one] - 1}:0] a{one};" for one in banked]
    connected = "".join(f", .a{one}(a{one})" for one in banked)
    modules = [lane.verilog()]
    parts = [LANE]
    if banked:
        bank = Circuit(SHARED, {"a": operands.activation_bits})
        for one in banked:
            bank.drive(f"a{one}", _multiple(bank, bank.port("a"), one, width=multiple_bits[one], signed=signed))
        modules.append(bank.verilog())
        parts.append(SHARED)
        top.append(f"    {SHARED} {SHARED} (.a(a){connected});")
    top += [f"    {LANE} {LANE} (.a(a), .w(w), .p(p){connected});", "endmodule", ""]
    return Design(verilog="\n".join([*modules, "\n".join(top)]), description="select, shift, add", parts=tuple(parts))


def _quartet(circuit: Circuit, multiples: Mapping[int, Bits], quartet: Bits, width: int) -> Bits:
    """Select an alphabet's multiple and shift it to the quartet's lowest set bit; 0 for 0.

    The two bits above the lowest set one choose the alphabet, by the first of 7, 5, 3 and 1 that is there and whose
    bits are set; what it lacks is ignored. With alphabet 1 alone, the multiples that several set bits select are ORed:
    to find the lowest of them first would cost 40 % more energy at 8 bits.
    """
    lowest: Bits = []
    below: Bit = False
    for bit in quartet:
        lowest.append(bit if len(multiples) == 1 else circuit.all_of(bit, circuit.invert(below)))
        below = circuit.any_of(below, bit)

    def odd_part(digit: int) -> Bit:
        set_: Bit = False
        for place_, one in enumerate(lowest[: len(quartet) - digit]):
            set_ = circuit.any_of(set_, circuit.all_of(one, quartet[place_ + digit]))
        return set_

    selected = list(multiples[1])
    if len(multiples) > 1:
        second = odd_part(1)
        third: Bit = odd_part(2) if 5 in multiples else False
        selected = [circuit.choose(second, *pair) for pair in zip(multiples[3], selected, strict=True)]
        if 5 in multiples:
            high = multiples[5]
            if 7 in multiples:
                high = [circuit.choose(second, *pair) for pair in zip(multiples[7], high, strict=True)]
            selected = [circuit.choose(third, *pair) for pair in zip(high, selected, strict=True)]
    # Selecting one of the shifted multiples costs 10 to 35 % less energy than shifting by 1 and by 2 in turn, because
    # the shift is known early.
    product: Bits = [False] * width
    for shift, one in enumerate(lowest):
        for index in range(width - shift):
            chosen = circuit.all_of(one, selected[index])
            product[index + shift] = circuit.any_of(product[index + shift], chosen)
    return product


def _multiple(circuit: Circuit, a: Bits, alphabet: int, *, width: int, signed: bool) -> Bits:
    extended = [*a, *[a[-1] if signed else False] * width][:width]
    if alphabet == 7:  # 8 a - a
        shifted: Bits = [*[False] * 3, *extended][:width]
        return add(circuit, shifted, [circuit.invert(bit) for bit in extended], width=width, carry=True)
    shift = alphabet.bit_length() - 1
    return add(circuit, extended, [*[False] * shift, *extended][:width], width=width)
