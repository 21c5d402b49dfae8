"""Runs ZigZag on one layer, and reads its result.

ZigZag: L. Mei et al., Enlarging joint architecture-mapping design space exploration for DNN accelerators, IEEE
Transactions on Computers 70(8), 2021. It is optional, and only this file and `zigzag_inputs.py` know it: `pip install
'crosslayer[crosscheck]'`.
"""

from __future__ import annotations

import importlib
import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

from search.crosscheck.zigzag_inputs import ZigzagLayer, zigzag_accelerator, zigzag_mapping, zigzag_workload
from search.errors import SearchError, UsageError

INSTALL = "pip install 'crosslayer[crosscheck]'"

_LOOP_FACTORS = 6  # loops are split into this many factors, and every order is tried; ZigZag's default


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The energy of one inference in pJ, in the components that both models have.

    Attributes:
        mac: Multiply-accumulates.
        weight_sram: The weight memory.
        activation_sram: The activation memory, partial sums included.
        dram: DRAM.
    """

    mac: float = 0.0
    weight_sram: float = 0.0
    activation_sram: float = 0.0
    dram: float = 0.0

    @property
    def total_pj(self) -> float:
        """The sum of all parts."""
        return self.mac + self.weight_sram + self.activation_sram + self.dram

    @property
    def memories_pj(self) -> float:
        """All but the multiply-accumulates."""
        return self.total_pj - self.mac

    def plus(self, other: Parts) -> Parts:
        """Add part by part."""
        return Parts(**{one.name: getattr(self, one.name) + getattr(other, one.name) for one in fields(self)})

    def times(self, factor: float) -> Parts:
        """Multiply every part by a factor."""
        return Parts(**{one.name: getattr(self, one.name) * factor for one in fields(self)})


def load_zigzag() -> None:
    """Check that ZigZag can be imported.

    Raises:
        UsageError: If it is not installed.
    """
    try:
        _stages()
    except ImportError as error:
        raise UsageError(f"the cross-check needs ZigZag ({error}); install it with: {INSTALL}") from None


def run_zigzag(layer: ZigzagLayer) -> Parts:
    """Return the energy of ZigZag's cheapest mapping of a layer for a whole batch, with the number of MACs as `mac`.

    The energies are ZigZag's counts of moved data elements times widths and energies per bit. ZigZag's own sum first
    rounds parallel elements and the words of a port to whole numbers, which is 10 % either way for 8x8 images.

    Raises:
        UsageError: If ZigZag is not installed.
        SearchError: If ZigZag finds no mapping.
    """
    load_zigzag()
    with tempfile.TemporaryDirectory(prefix="crosslayer-zigzag-") as name, _quiet():
        accelerator, mapping = Path(name) / "accelerator.yaml", Path(name) / "mapping.yaml"
        for path, content in ((accelerator, zigzag_accelerator(layer)), (mapping, zigzag_mapping(layer))):
            path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        try:
            main = _zigzag("stages.main").MainStage(
                _stages(),
                workload=zigzag_workload(layer),
                accelerator=str(accelerator),
                mapping=str(mapping),
                loma_lpf_limit=_LOOP_FACTORS,
                loma_show_progress_bar=False,
                temporal_mapping_type=_zigzag("mapping.temporal_mapping").TemporalMappingType.UNEVEN,
            )
            ((evaluation, _),) = main.run()
        except Exception as error:  # ZigZag raises errors of any kind
            reason = " ".join(str(error).split()) or type(error).__name__
            raise SearchError(f"ZigZag cannot map {_words(layer)}: {reason}") from error
    return _parts_of(evaluation, layer)


def _stages() -> list[Any]:
    """Return ZigZag's pipeline for the least energy: `zigzag.api`'s without the stages that write reports and pictures.

    Those fail on layers that fit the array as a whole, and change the caller's logging.
    """
    cheapest = _zigzag("stages.results.reduce_stages").MinimalEnergyStage
    return [
        _zigzag("stages.parser.workload_parser").WorkloadParserStage,
        _zigzag("stages.parser.accelerator_parser").AcceleratorParserStage,
        _zigzag("stages.workload_iterator").WorkloadStage,
        cheapest,
        _zigzag("stages.mapping.spatial_mapping_generation").SpatialMappingGeneratorStage,
        cheapest,
        _zigzag("stages.mapping.temporal_mapping_generator_stage").TemporalMappingGeneratorStage,
        _zigzag("stages.evaluation.cost_model_evaluation").CostModelStage,
    ]


def _zigzag(module: str) -> ModuleType:
    return importlib.import_module(f"zigzag.{module}")


def _parts_of(evaluation: Any, layer: ZigzagLayer) -> Parts:
    """Return the energy of ZigZag's evaluation of a layer, by memory."""
    attributes = _zigzag("mapping.data_movement").DataMoveAttr
    prices = {
        "weight_memory": ("weight_sram", layer.weight_read_pj, layer.weight_write_pj),
        "activation_memory": ("activation_sram", layer.activation_read_pj, layer.activation_write_pj),
        "dram": ("dram", layer.dram_pj, layer.dram_pj),
    }
    spent = dict.fromkeys(("weight_sram", "activation_sram", "dram"), 0.0)
    for operand, levels in evaluation.mapping.unit_mem_data_movement.items():
        memory_operand = evaluation.layer.memory_operand_links.layer_to_mem_op(operand)
        memories = evaluation.accelerator.memory_hierarchy.get_memory_levels(memory_operand)
        for memory, moves in zip(memories, levels, strict=True):
            if memory.name not in prices:
                continue
            part, read_pj, write_pj = prices[memory.name]
            elements = moves.get_attribute(attributes.DATA_ELEM_MOVE_COUNT)
            widths = moves.get_attribute(attributes.DATA_PRECISION)
            for direction, count in elements.data.items():
                price = read_pj if direction.value.startswith("rd") else write_pj
                spent[part] += count * widths.get(direction) * price
    return Parts(mac=float(evaluation.mac_energy), **spent)


def _words(layer: ZigzagLayer) -> str:
    kernel = f"{layer.kernel_height}x{layer.kernel_width}x{layer.channels}x{layer.outputs}"
    return f"a layer of {kernel} weights on {layer.input_height}x{layer.input_width} inputs"


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep ZigZag's log lines and warnings from the terminal."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
