"""The circuit behind the scale of an output: it shifts a product, rounds it, and saturates it to a code.

What it costs for each bit of the product is `energy.unit_energies.SHIFT_PER_BIT`.
"""

from __future__ import annotations

from energy.gates.arithmetic import add
from energy.gates.circuit import Circuit


def shifter(product_bits: int, shift_bits: int, code_bits: int) -> str:
    """Write a module `shifter` in Verilog: from a signed product `x` and a distance `s` to an unsigned code `y`.

    The product is shifted right by `s` + 1 with its sign, one binary digit of the distance at a time; halves are
    rounded up, and what is outside of the codes becomes the nearest code.

    Args:
        product_bits: Width of the product.
        shift_bits: Width of the distance.
        code_bits: Width of the code.
    """
    circuit = Circuit("shifter", {"x": product_bits, "s": shift_bits})
    bits = circuit.port("x")
    for digit, select in enumerate(circuit.port("s")):
        distance = 1 << digit
        bits = [
            circuit.choose(select, bits[min(place + distance, product_bits - 1)], bit) for place, bit in enumerate(bits)
        ]
    rounded = add(circuit, [*bits[1:], bits[-1]], [], width=product_bits, carry=bits[0])
    negative, above = rounded[-1], circuit.any_set(rounded[code_bits:-1])
    circuit.drive(
        "y",
        [circuit.all_of(circuit.invert(negative), circuit.any_of(above, bit)) for bit in rounded[:code_bits]],
    )
    return circuit.verilog()
