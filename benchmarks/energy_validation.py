"""Validation of the energy model against published figures: `python -m benchmarks.energy_validation` updates the docs.

Every row is computed here from the shipped hardware and technology files; `tests/energy/test_published.py` holds each
within its tolerance, but for those that depend on inputs which no publication gives: they are shown and prove nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from energy import (
    Dram,
    EnergyReport,
    EnergyTable,
    Hardware,
    LayerWorkload,
    Workload,
    count_actions,
    estimate,
    load_hardware,
)
from energy.hardware import FLAT_DATAFLOWS

DOCUMENT = Path(__file__).parents[1] / "docs" / "energy-model.md"
NEURONS = Path(__file__).parent / "neurons.json"  # made by benchmarks.multiplier_energy
SIXTEEN_BITS = Path(__file__).parent / "sixteen_bits.json"  # made by benchmarks.multiplier_energy


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure of the model next to a published one.

    Attributes:
        target: The compared quantity and its source.
        published: The published figure or range.
        modelled: The model's figure.
        low: The lowest figure within the tolerance.
        high: The highest figure within the tolerance.
        tolerance: The tolerance in words.
        unit: Unit of the figures.
        note: Remark for readers.
        assumes: Inputs of the model that no publication gives; a row with some does not count.
    """

    target: str
    published: str
    modelled: float
    low: float
    high: float
    tolerance: str
    unit: str = ""
    note: str = ""
    assumes: str = ""

    @property
    def holds(self) -> bool:
        """Whether the model is within the tolerance."""
        return self.low <= self.modelled <= self.high


def convolution(
    name: str, channels: int, size: int, kernel: int, outputs: int, *, stride: int = 1, padding: int = 0,
    groups: int = 1, density: float = 1.0,
) -> LayerWorkload:  # fmt: skip
    """Make a dense convolution of a square image."""
    side = (size + 2 * padding - kernel) // stride + 1
    inner = channels // groups * kernel * kernel
    return LayerWorkload(
        name=name, positions=side * side, inner=inner, outputs=outputs, input_values=channels * size * size,
        nonzero_weights=inner * outputs, groups=groups, kernel_height=kernel, kernel_width=kernel, output_height=side,
        activation_density=density,
    )  # fmt: skip


def fully_connected(name: str, inputs: int, outputs: int, *, density: float = 1.0) -> LayerWorkload:
    """Make a dense fully connected layer."""
    return LayerWorkload(
        name=name, positions=1, inner=inputs, outputs=outputs, input_values=inputs, nonzero_weights=inputs * outputs,
        activation_density=density,
    )  # fmt: skip


# As run on SCALE-Sim, ZigZag and AccelForge: 28x28 images, 2x2 pooling.
LENET = (
    convolution("conv1", 1, 28, 5, 20),
    convolution("conv2", 20, 12, 5, 50),
    fully_connected("fc1", 800, 500),
    fully_connected("fc2", 500, 10),
)
# Convolutions of AlexNet with the share of nonzero inputs that Eyeriss's authors found (Chen et al., IEEE JSSC 52(1)).
ALEXNET = (
    convolution("conv1", 3, 227, 11, 96, stride=4),
    convolution("conv2", 96, 27, 5, 256, padding=2, groups=2, density=0.613),
    convolution("conv3", 256, 13, 3, 384, padding=1, density=0.275),
    convolution("conv4", 384, 13, 3, 384, padding=1, groups=2, density=0.207),
    convolution("conv5", 384, 13, 3, 256, padding=1, groups=2, density=0.224),
)
# 784-256-256-256-10, as Minerva classifies MNIST.
MLP = (
    fully_connected("1", 784, 256),
    fully_connected("2", 256, 256),
    fully_connected("3", 256, 256),
    fully_connected("4", 256, 10),
)


def workload(
    layers: Sequence[LayerWorkload], *, bits: int = 8, activation_bits: int | None = None, volts: float = 0.9,
    multiplier: str = "exact", robust_bits: int = 0, batch: int = 1,
) -> Workload:  # fmt: skip
    """Make a workload; activations are as wide as weights by default."""
    return Workload(
        layers=tuple(layers), weight_bits=bits, activation_bits=activation_bits or bits, multiplier=multiplier,
        weight_memory_v=volts, robust_bits=robust_bits, batch=batch,
    )  # fmt: skip


def rows() -> list[Row]:
    """Make all comparisons."""
    parts: tuple[Callable[[], list[Row]], ...] = (
        _scale_sim,
        _zigzag,
        _eyeriss,
        _sparseloop,
        _alphabet_sets,
        _eie,
        _precision,
        _wide_multipliers,
        _hybrid_memory,
        _minerva,
    )
    return [row for part in parts for row in part()]


def _equal(target: str, published: Sequence[int], found: Sequence[float]) -> Row:
    """Compare counts, which must be equal: the model's figure is the number of different ones."""
    wrong = [f"{one:g}" for one, other in zip(found, published, strict=True) if one != other]
    return Row(
        target=target,
        published=" / ".join(map(str, published)),
        modelled=float(len(wrong)),
        low=0.0,
        high=0.0,
        tolerance="equal",
        unit="differ",
        note=", ".join(wrong),
    )


def _scale_sim() -> list[Row]:
    found = []
    for dataflow, filters, outputs in (
        ("weight", (500, 25000, 400000, 5000), (23040, 102400, 25000, 320)),
        ("output", (18000, 100000, 400000, 5000), (11520, 3200, 500, 10)),
    ):
        counts = count_actions(workload(LENET), load_hardware(f"{dataflow}-stationary-45nm"))
        name = f"SCALE-Sim (Samajdar, ISPASS 2020), LeNet, 16x16, {dataflow} stationary"
        written = (counts.output_writes + counts.partial_sum_writes).tolist()
        found += [
            _equal(f"{name}: input reads", (28800, 128000, 25600, 500), counts.activation_reads.tolist()),
            _equal(f"{name}: filter reads", filters, (counts.weight_read_bits / 8).tolist()),
            _equal(f"{name}: output writes", outputs, written),
        ]
    return found


def _zigzag() -> list[Row]:
    shipped = load_hardware("weight-stationary-45nm-dram")
    hardware = replace(
        shipped,
        weight_memory=replace(shipped.weight_memory, capacity_kb=64, bank_kb=64),
        activation_memory=replace(shipped.activation_memory, capacity_kb=64, bank_kb=64),
        bias_bits=0,  # which the others do not count
        scale_bits=0,
        dram=Dram(interface="generic", keeps_feature_maps=False, compressed=False),
    )
    report = estimate(workload(LENET), hardware)
    # The same MAC energy for all tools.
    flat = replace(report.table, multiply_pj=0.23, weight_change_pj=0.0, add_pj_per_bit=0.0)
    parts = estimate(workload(LENET), hardware, flat).components
    sram = parts["weight_sram"] + parts["activation_sram"] + parts["partial_sums"]
    name = "ZigZag and AccelForge, the same LeNet, 64 KB + 64 KB, 45 nm"
    return [
        _relative(f"{name}: MACs at 0.23 pJ", 0.527, parts["mac"] / 1e6, 0.01, "uJ"),
        _relative(f"{name}: DRAM", 73.24, parts["dram"] / 1e6, 0.01, "uJ"),
        Row(
            target=f"{name}: SRAM",
            published="4.72 to 9.06",
            modelled=sram / 1e6,
            low=4.72,
            high=9.06,
            tolerance="between the tools",
            unit="uJ",
            note="they choose their own mappings",
        ),
    ]


_SCRATCHPAD = "the energy of a scratchpad relative to a MAC, which is from the chip's authors (ISCA 2016)"


def _eyeriss() -> list[Row]:
    hardware = load_hardware("row-stationary-65nm")
    work = workload(ALEXNET, bits=16, volts=1.0, batch=4)
    report = estimate(work, hardware)
    on_chip = _on_chip(report)
    counts = report.counts
    dram_mb = float((counts.dram_weight_bits + counts.dram_activation_bits).sum()) / 8e6
    low = replace(
        hardware,
        supply_v=0.82,
        weight_memory=replace(hardware.weight_memory, supply_v=0.82),
        activation_memory=replace(hardware.activation_memory, supply_v=0.82),
    )
    scaled = _on_chip(estimate(replace(work, weight_memory_v=0.82), low)) / on_chip
    name = "Eyeriss (Chen, JSSC 2017), AlexNet convolutions, batch of 4"
    return [
        Row(
            target=f"{name}: energy of a MAC, without DRAM",
            published="12.0",
            modelled=on_chip / work.macs,
            low=6.0,
            high=24.0,
            tolerance="factor 2",
            unit="pJ",
            note="control and networks on the chip are not modelled",
            assumes=_SCRATCHPAD,
        ),
        Row(
            target=f"{name}: energy of the ALUs for a MAC",
            published="below 1.2",
            modelled=report.components["mac"] / work.macs,
            low=0.0,
            high=1.2,
            tolerance="below",
            unit="pJ",
            note="published as below a tenth of the whole",
        ),
        replace(
            _relative(
                f"{name}: share of the clock network",
                39.0,
                100 * report.components["clock"] / on_chip,
                0.3,
                "%",
                "33 to 45 were measured, from the first layer to the last",
            ),
            assumes=_SCRATCHPAD,
        ),
        _relative(f"{name}: DRAM traffic", 15.4, dram_mb, 0.2, "MB"),
        _relative(f"{name}: time", 103.0, report.latency_us / 1e3, 0.2, "ms"),
        _relative("Eyeriss: energy at 0.82 V over that at 1.0 V", 0.677, scaled, 0.01),
    ]


def _sparseloop() -> list[Row]:
    layer = replace(convolution("c", 8, 8, 3, 8), activation_density=0.275)
    work = workload((layer,))
    hardware = load_hardware("weight-stationary-45nm")
    flat = replace(EnergyTable.ones(), multiply_pj=0.315, weight_change_pj=0.0, add_pj_per_bit=0.0)
    mac = estimate(work, hardware, flat).components["mac"] / work.macs
    target = "Sparseloop (Wu, MICRO 2022): a MAC of 0.315 pJ, gated at an activation density of 0.275"
    return [
        Row(target=target, published="0.0866", modelled=mac, low=0.08655, high=0.08665, tolerance="equal", unit="pJ")
    ]


def _alphabet_sets() -> list[Row]:
    """Compare neurons in gates (multiplier, adder and the register of the sum), and their system by this model."""
    found = []
    paper = "Alphabet set {1} (Sarwar)"
    saved = json.loads(NEURONS.read_text(encoding="utf-8"))["uniform"]["asm-1"]
    # Savings at each width in ACM JETC 14(2), 2018, and in DATE 2016, which has none at 4 bits.
    for bits, journal, conference in ((12, 33, 60), (8, 32, 35), (4, 25, 25)):
        found.append(
            Row(
                target=f"{paper}, {bits} bits: neuron",
                published=f"-{journal}"
                if journal == conference
                else f"-{journal} (JETC 2018), -{conference} (DATE 2016)",
                modelled=-saved[str(bits)],
                low=-conference - 6.0,
                high=-journal + 6.0,
                tolerance="6 points",
                unit="%",
                note="random operands, from gates",
            )
        )
    hardware = load_hardware("flexible-45nm")
    for bits in (8, 4):
        exact, approximate = (
            estimate(workload(LENET, bits=bits, multiplier=name), hardware).energy_pj for name in ("exact", "asm-1")
        )
        found.append(
            Row(
                target=f"{paper}, {bits} bits: system, LeNet on {hardware.name}",
                published="-1 to -9",
                modelled=100 * (approximate / exact - 1),
                low=-9.0,
                high=-1.0,
                tolerance="-1 to -9",
                unit="%",
            )
        )
    return found


def eie_pj(supply_v: float = 0.9) -> tuple[float, float]:
    """Return the published and the modelled energy of one of EIE's MACs of two nonzero operands, in pJ.

    It is one of its 64 elements on the fully connected layers of AlexNet, of which it has every 64th output. Its
    weights are 4-bit codes of 16-bit values, each with 4 bits of distance, and neither zero weights nor zero
    activations take a cycle. Its pointers to columns, a fifth of its power, are not modelled.

    Args:
        supply_v: Supply voltage, which is not published: 0.9 V is usual for its process, TSMC's 45 nm GP.
    """
    shipped = load_hardware("output-stationary-45nm")
    element = replace(
        shipped,
        array_rows=1,
        array_columns=1,
        clock_mhz=800.0,
        supply_v=supply_v,
        zeros="skipped",
        weight_memory=replace(shipped.weight_memory, bank_kb=128, capacity_kb=128, cell="6T"),
        activation_memory=replace(shipped.activation_memory, bank_kb=2, supply_v=supply_v),
    )
    shapes = ((9216, 64, 0.09, 0.351), (4096, 64, 0.09, 0.353), (4096, 16, 0.25, 0.375))
    layers = [
        replace(
            fully_connected(str(place), inputs, outputs, density=activation_density),
            nonzero_weights=round(inputs * outputs * weight_density),
        )
        for place, (inputs, outputs, weight_density, activation_density) in enumerate(shapes)
    ]
    work = workload(layers, bits=4, activation_bits=16, volts=supply_v)
    report = estimate(work, element)
    wide = estimate(
        workload(layers, bits=16, activation_bits=16), replace(element, weight_memory=shipped.weight_memory)
    )
    table = replace(report.table, multiply_pj=wide.table.multiply_pj, weight_change_pj=wide.table.weight_change_pj)
    found = estimate(work, element, table)
    macs = float(found.counts.macs.sum())
    published = 0.6 / 18_800 * 1e12 / (64 * macs)  # 600 mW at 18,800 inferences a second
    return published, found.energy_pj / macs


def _eie() -> list[Row]:
    published, modelled = eie_pj()
    return [
        _relative(
            "EIE (Han, ISCA 2016), 45 nm, pruned AlexNet: energy of a MAC of two nonzero operands",
            round(published, 1),
            modelled,
            0.4,
            "pJ",
            "weights 9, 9 and 25 % and activations 35, 35 and 38 % nonzero, of which it skips the rest; at 0.9 V, and "
            "within at any supply from 0.85 to 1.1 V, as none is published",
        )
    ]


def _precision() -> list[Row]:
    """Fixed-point MACs of 16-bit activations and narrower weights, of which UNPU's abstract gives what it saves.

    Its bit-serial elements take 23.1, 27.2, 41 and 53.6 % less than such MACs at 16, 8, 4 and 1 bits, and 50.6 over
    3.08 times less at 1 than at 16 bits; so a MAC of 1 bit takes 0.101 of one of 16. For 8 and 4 bits their energy is
    assumed to follow the number of bits, as it nearly does from 16 to 1.
    """
    hardware = load_hardware("output-stationary-45nm")
    layer = convolution("c", 64, 16, 3, 64, padding=1)
    energies = {
        bits: estimate(workload((layer,), bits=bits, activation_bits=16), hardware).components["mac"]
        for bits in (16, 8, 4, 1)
    }
    technology = hardware.technology

    def by_law(bits: int) -> float:
        """Energy of a MAC whose multiplication follows the quadratic law, with the same addition of 10 more bits."""
        multiply_pj = technology.multiply_pj.value * technology.multiply_by_law(bits, 16)
        return multiply_pj + technology.add_pj_per_bit.value * (bits + 16 + 10)

    serial = {16: 1 - 0.231, 8: (1 - 0.272) * 16 / 8, 4: (1 - 0.41) * 16 / 4, 1: (1 - 0.536) * 50.6 / 3.08}
    return [
        replace(
            _relative(
                f"UNPU (Lee, JSSC 2019): MAC of a {bits}-bit weight over one of 16 bits, activations of 16",
                round(serial[16] / serial[bits], 3),
                energies[bits] / energies[16],
                0.35,
                "",
                "derived from what its bit-serial elements save against fixed point; by the quadratic law of the width "
                f"{by_law(bits) / by_law(16):.3f}",
            ),
            assumes="" if bits == 1 else "the energy of a bit-serial element follows the number of bits",
        )
        for bits in (8, 4, 1)
    ]


def _wide_multipliers() -> list[Row]:
    """DRUM at 16 bits: its exact multiplier's structure is not published, so two of ours bound what it saves."""
    measured = json.loads(SIXTEEN_BITS.read_text(encoding="utf-8"))
    rows = []
    for name, published in (("drum-5", 80), ("drum-8", 54)):
        against_tree, against_array = (100 * (1 - measured[name] / measured[exact]) for exact in ("tree", "array"))
        rows.append(
            Row(
                target=f"{name.upper()} (Hashemi, ICCAD 2015), 16 bits unsigned: power saved, by the structure of the "
                f"exact multiplier ({against_tree:.0f} against a Dadda tree, {against_array:.0f} against an array)",
                published=str(published),
                modelled=(against_tree + against_array) / 2,
                low=published - (against_array - against_tree) / 2,
                high=published + (against_array - against_tree) / 2,
                tolerance="between the two",
                unit="%",
                note="54 to 80 % are published for the members whose errors are those of 8 and 5 bits",
                assumes="the exact multiplier is between a Dadda tree and an array",
            )
        )
    return rows


def _hybrid_memory() -> list[Row]:
    """The abstract gives the saving only: neither the hybrid's voltage nor what it is compared with."""
    hardware = load_hardware("hybrid-22nm")

    def weight_pj(volts: float, robust_bits: int) -> float:
        return estimate(workload(MLP, volts=volts, robust_bits=robust_bits), hardware).components["weight_sram"]

    saved = 100 * (weight_pj(0.65, 3) / weight_pj(0.75, 0) - 1)
    # Area of the memory alone: what eight copies of the network add on an array of one element.
    small = replace(hardware, array_rows=1, array_columns=1)
    many = [replace(layer, name=f"{copy}.{layer.name}") for copy in range(8) for layer in MLP]
    added = [
        estimate(workload(many, volts=0.75, robust_bits=bits), small).area_mm2.value
        - estimate(workload(MLP, volts=0.75, robust_bits=bits), small).area_mm2.value
        for bits in (0, 3)
    ]
    area = 100 * (added[1] / added[0] - 1)
    name = "Hybrid 8T-6T memory (Srinivasan, DATE 2016), 22 nm"
    return [
        Row(
            target=f"{name}: access power",
            published="-30.91",
            modelled=saved,
            low=-36.91,
            high=-24.91,
            tolerance="6 points",
            unit="%",
            note="V^2 implies that the baseline's voltage is at least 1.203 times the hybrid's: 0.782 V for 0.65 V, or "
            "0.623 V for 0.75 V",
            assumes="0.65 V with 3 of 8 bits in 8T cells, against 6T cells at 0.75 V",
        ),
        Row(
            target=f"{name}: area",
            published="+10.41",
            modelled=area,
            low=4.41,
            high=16.41,
            tolerance="6 points",
            unit="%",
            note="cells from an earlier study of the same group",
            assumes="3 of 8 bits in 8T cells",
        ),
    ]


def _minerva() -> list[Row]:
    shipped = load_hardware("output-stationary-45nm")

    def lanes(port_bits: int, *, fetch_gated: bool) -> Hardware:
        """Hardware of 16 lanes, each of which reads one weight per cycle."""
        return replace(
            shipped,
            flavour="high-performance",
            array_rows=1,
            array_columns=16,
            clock_mhz=250.0,
            zeros="fetch-gated" if fetch_gated else "none",
            weight_memory=replace(shipped.weight_memory, port_bits=port_bits),
        )

    pruned = [replace(layer, activation_density=0.25) for layer in MLP]
    steps = [
        estimate(workload(MLP, bits=16), lanes(16, fetch_gated=False)),
        estimate(workload(MLP, bits=8, activation_bits=6), lanes(8, fetch_gated=False)),
        estimate(workload(pruned, bits=8, activation_bits=6), lanes(8, fetch_gated=True)),
        estimate(workload(pruned, bits=8, activation_bits=6, volts=0.55), lanes(8, fetch_gated=True)),
    ]
    powers = [step.energy_pj / step.latency_us for step in steps]
    assumed = (
        "16 bits to 8-bit weights and 6-bit activations",
        "three quarters of activations pruned, their weights not read",
        "weight memory from 0.9 to 0.55 V",
    )
    return [
        replace(
            _relative(
                f"Minerva (Reagen, ISCA 2016), MNIST: power saved by {what}", published, before / after, 0.3, "x"
            ),
            assumes=assumes,
        )
        for what, published, before, after, assumes in zip(
            ("data types", "pruning", "voltage"), (1.5, 2.0, 2.7), powers, powers[1:], assumed, strict=False
        )
    ]


def _on_chip(report: EnergyReport) -> float:
    return report.energy_pj - report.components["dram"]


def _relative(target: str, published: float, found: float, tolerance: float, unit: str = "", note: str = "") -> Row:
    return Row(
        target=target,
        published=f"{published:g}",
        modelled=found,
        low=published * (1 - tolerance),
        high=published * (1 + tolerance),
        tolerance=f"{tolerance:.0%}",
        unit=unit,
        note=note,
    )


def table(found: Sequence[Row]) -> str:
    """Format the rows as a Markdown table."""
    lines = ["| target | published | model | tolerance | holds | assumes |", "|---|---|---|---|---|---|"]
    for row in found:
        figure = f"{row.modelled:.3g}"
        target = row.target + (f" ({row.note})" if row.note else "")
        holds = "yes" if row.holds else "**no**"
        if row.assumes:
            holds = f"not counted; {'within' if row.holds else 'outside'}"
        published = f"{row.published} {row.unit if row.unit != 'differ' else ''}".strip()
        lines.append(
            f"| {target} | {published} | {figure} {row.unit}".rstrip()
            + f" | {row.tolerance} | {holds} | {row.assumes} |"
        )
    return "\n".join(lines)


def resnet20() -> list[LayerWorkload]:
    """Make ResNet-20 on CIFAR-10 (He et al., CVPR 2016), with half of the activations zero."""
    layers = [convolution("stem", 3, 32, 3, 16, padding=1)]
    channels, side = 16, 32
    for width, size in ((16, 32), (32, 16), (64, 8)):
        for block in range(3):
            stride = side // size
            name = f"{width}.{block}"
            layers.append(convolution(f"{name}.1", channels, side, 3, width, stride=stride, padding=1, density=0.5))
            if stride > 1:
                layers.append(convolution(f"{name}.shortcut", channels, side, 1, width, stride=stride, density=0.5))
            channels, side = width, size
            layers.append(convolution(f"{name}.2", width, side, 3, width, padding=1, density=0.5))
    return [*layers, fully_connected("fc", 64, 10)]


def dataflow_table() -> str:
    """Format the energy of networks on the default hardware under each dataflow as a Markdown table."""
    lines = [
        "| network | batch | weights stay | outputs stay | best | layers whose weights stay |",
        "|---|---|---|---|---|---|",
    ]
    networks = {"MLP 784-256-256-256-10": MLP, "LeNet, 20 and 50 channels, 500": LENET, "ResNet-20": resnet20()}
    for name, layers in networks.items():
        for batch in (1, 16):
            found = [
                estimate(workload(layers, batch=batch), replace(load_hardware("flexible-45nm"), dataflow=dataflow))
                for dataflow in (*FLAT_DATAFLOWS, "best")
            ]
            energies = " | ".join(f"{report.energy_pj / 1e6:.3g}" for report in found)
            stay = found[-1].dataflows.count("weight-stationary")
            lines.append(f"| {name} | {batch} | {energies} | {stay} of {len(layers)} |")
    return "\n".join(lines)


def _write(marker: str, text: str) -> None:
    pattern = re.compile(rf"(<!-- {marker}: .*? -->\n).*?(<!-- end -->)", re.DOTALL)
    document = DOCUMENT.read_text(encoding="utf-8")
    DOCUMENT.write_text(pattern.sub(lambda match: f"{match[1]}\n{text}\n\n{match[2]}", document), encoding="utf-8")


def main() -> None:
    """Write the tables between the markers of the document."""
    _write("validation", table(rows()))
    _write("dataflows", dataflow_table())


if __name__ == "__main__":
    main()
