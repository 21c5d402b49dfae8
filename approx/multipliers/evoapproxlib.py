"""Figures that EvoApproxLib publishes in the headers of its files.

V. Mrazek, R. Hrbacek, Z. Vasicek, L. Sekanina, EvoApprox8b, DATE 2017; github.com/ehw-fit/evoapproxlib. Each C and
Verilog file begins with lines such as `// MAE = 1.2` and `// PDK45_PWR = 0.422 mW`: errors over all operands, and power
and area after synthesis for a 45 nm library.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from approx.multipliers.metrics import error_metrics
from approx.multipliers.multiplier import Figure, Multiplier
from approx.multipliers.reading import bits_in_name, sign_in_name

_FIGURE = re.compile(r"^//\s*(?P<name>MAE|WCE|PDK45_PWR|PDK45_AREA)\s*=\s*(?P<value>[\d.]+(?:e\d+)?)", re.MULTILINE)
# They are rounded to two significant digits, and cut off if long.
_ROUNDING = 0.06


@dataclass(frozen=True, slots=True)
class _Exact:
    """An exact circuit of the library, with its power in mW and its area in um2."""

    name: str
    power: float
    area: float


# By widths and sign: the circuits without errors in the library's own lists.
_EXACT = {
    ((8, 8), False): _Exact("mul8u_1JFF", 0.391, 709.6),
    ((8, 8), True): _Exact("mul8s_1KV8", 0.425, 729.8),
    ((7, 7), False): _Exact("mul7u_003", 0.277, 536.4),
    ((8, 2), False): _Exact("mul8x2u_0C8", 0.033, 109.8),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """The figures of a circuit.

    Attributes:
        energy: Power over that of the library's exact circuit of the same widths and sign; None if there is none.
        area: Area over that of the same circuit.
        mae: Mean absolute error.
        wce: Largest absolute error.
    """

    energy: Figure | None
    area: Figure | None
    mae: float | None
    wce: float | None

    def differs_from(self, multiplier: Multiplier) -> str:
        """How the published errors differ from a multiplier's; empty if they do not."""
        metrics = error_metrics(multiplier)
        for name, said, found in (("mean", self.mae, metrics.mae), ("largest", self.wce, float(metrics.wce))):
            if said is not None and abs(said - found) > max(_ROUNDING * said, 0.06):
                return f"its file says that the {name} absolute error is {said:g}, and here it is {found:.4g}"
        return ""


def published_in(text: str, circuit: str) -> Published | None:
    """The figures in a file; None if it has none.

    Args:
        text: The file.
        circuit: Name of the circuit in it, such as mul8u_1JFF.
    """
    found = {match["name"]: float(match["value"]) for match in _FIGURE.finditer(text)}
    if not found:
        return None
    bits, signed = bits_in_name(circuit), sign_in_name(circuit)
    exact = None if bits is None or signed is None else _EXACT.get((bits, signed))
    ratios: list[Figure | None] = []
    for name, whole in (("PDK45_PWR", exact and exact.power), ("PDK45_AREA", exact and exact.area)):
        if found.get(name) and exact is not None and whole:  # a circuit without gates has no ratio to scale by
            what = "power" if name == "PDK45_PWR" else "area"
            source = f"published for 45 nm by EvoApproxLib, over the {what} of its exact {exact.name}"
            ratios.append(Figure(found[name] / whole, source))
        else:
            ratios.append(None)
    return Published(energy=ratios[0], area=ratios[1], mae=found.get("MAE"), wce=found.get("WCE"))
