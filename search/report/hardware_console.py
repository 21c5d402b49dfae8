"""Hardware as a table on a console, and as JSON values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console

from energy import Hardware, Memory
from search.defaults import DEFAULT_HARDWARE
from search.report.console import plain_table

_WIDTH = 160  # of a table that is not for a terminal, so that every line of it is one of hardware


def print_hardware(console: Console, listed: Sequence[Hardware]) -> None:
    """Print hardware, a line each."""
    if not console.is_terminal:
        console.width = _WIDTH
    table = plain_table("Hardware")
    for column in ("name", "nm", "dataflow", "array", "MHz", "widths", "memories", "zeros"):
        table.add_column(column, justify="right" if column in ("nm", "array", "MHz") else "left", overflow="fold")
    for hardware in listed:
        table.add_row(
            hardware.name,
            str(hardware.technology.node_nm),
            hardware.dataflow,
            f"{hardware.array_rows}x{hardware.array_columns}",
            f"{hardware.clock_mhz:g}",
            _widths(hardware),
            _memories(hardware),
            hardware.zeros,
        )
    console.print(table)
    console.print(
        f"Default: {DEFAULT_HARDWARE}. Widths: of weights and activations that the array is built for, or fitted to\n"
        "each candidate. Memories: of weights + of activations, in KB or fitted to the network.\n"
        "More: search hardware show NAME. A copy to edit: search hardware new mine.yaml --from NAME",
        highlight=False,
        soft_wrap=True,
    )


def hardware_json(hardware: Hardware) -> dict[str, Any]:
    """Return the main figures of hardware. A capacity is null if it is fitted to the network."""
    return {
        "name": hardware.name,
        "identity": hardware.identity,
        "node_nm": hardware.technology.node_nm,
        "nominal_v": hardware.technology.nominal_v,
        "flavour": hardware.flavour,
        "dataflow": hardware.dataflow,
        "array_rows": hardware.array_rows,
        "array_columns": hardware.array_columns,
        "clock_mhz": hardware.clock_mhz,
        "supply_v": hardware.supply_v,
        "zeros": hardware.zeros,
        "widths": None if hardware.widths is None else asdict(hardware.widths),
        "batch": hardware.batch,
        "overhead": {
            "pj_per_cycle": hardware.overhead.pj_per_cycle._asdict(),
            "pj_per_inference": hardware.overhead.pj_per_inference._asdict(),
        },
        "weight_memory": asdict(hardware.weight_memory),
        "activation_memory": asdict(hardware.activation_memory),
        "dram": None if hardware.dram is None else hardware.dram.interface,
    }


def _widths(hardware: Hardware) -> str:
    widths = hardware.widths
    return "fitted" if widths is None else f"{widths.weights}, {widths.activations}"


def _memories(hardware: Hardware) -> str:
    sizes = [_size(hardware.weight_memory), _size(hardware.activation_memory)]
    chip = sizes[0] if sizes[0] == sizes[1] == "fitted" else f"{' + '.join(sizes)} KB"
    return chip if hardware.dram is None else f"{chip}, {hardware.dram.interface} DRAM"


def _size(memory: Memory) -> str:
    return "fitted" if memory.capacity_kb is None else str(memory.capacity_kb)
