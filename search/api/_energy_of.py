"""Model the energy of any network: `search.energy_of`."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from numbers import Real

import numpy as np
from torch import Tensor, nn

import approx
import energy
from approx.checks import shown
from approx.surgery import prepared
from energy.cost_table import EXACT, CostTable, how_to_know_costs, known_costs
from search.api.checks import find_hardware
from search.api.workplace import Workplace
from search.defaults import DEFAULT_HARDWARE
from search.errors import UsageError
from search.evaluation.workload import network_workload
from search.multipliers.folder import MultiplierFolder
from search.multipliers.identity import multiplier_identity, name_in_layers
from search.space.candidate import LayerChoice, is_exact

_MODELLED = "Linear, Conv1d, Conv2d, ConvTranspose2d and MultiheadAttention"
_FLOAT_BITS = 8  # at which a network that was not converted is charged, as the baseline of a search is


def energy_of(
    model: nn.Module,
    example: Tensor,
    hardware: str | os.PathLike[str] | energy.Hardware = DEFAULT_HARDWARE,
    *,
    supply_v: float | None = None,
    multiplier_dir: str | os.PathLike[str] | None = None,
) -> energy.EnergyReport:
    """Return the modelled energy of one inference of any torch network, converted by `approx.approximate` or not.

    A network that was not converted is charged as the baseline of a search is: 8 bits, the exact multiplier, nominal
    voltage. A converted one is charged as its layers are: their bits, multipliers, robust bits and supply voltage.
    Weights that are pruned, or zero before the conversion, are charged as pruned; weights and activations that the
    conversion rounds to zero are not. Partial sums and activation memory are those of the hardware. Products of
    activations with each other, as in attention, are left out.

    Args:
        model: The network; it is not changed.
        example: A batch of network inputs, shape (images, ...): the share of activations that are zero is measured on
            it, so a few dozen typical images are better than one.
        hardware: A name from `energy.hardware_names()`, the path of a YAML file, or the hardware itself.
        supply_v: Supply voltage of the weight memory, in volts. By default the share of the hardware's nominal voltage
            at which the memories of the layers have their faults (`approx.FaultyMemory.supply_share`).
        multiplier_dir: Folder of imported multipliers and their costs, by default that of `Workplace`.

    Raises:
        UsageError: If an argument is of the wrong type; the network fails on the example, has no layer whose energy is
            modelled, or multiplies weights outside of such layers; its layers have different bits or voltages, or some
            are converted and others not; or the cost of a multiplier or the voltage of a faulty memory is unknown.
        energy.EnergyError: If the hardware does not exist, is invalid or cannot run the network.
    """
    _check_arguments(model, example, hardware, supply_v)
    accelerator = hardware if isinstance(hardware, energy.Hardware) else find_hardware(hardware)
    folder = Workplace(multiplier_dir=multiplier_dir).multipliers
    costs = folder.costs()
    for name, registered in known_costs().added.items():
        costs = costs.including(name, registered)
    network = _Network.running(model, example)
    share = network.supply_share() if supply_v is None else supply_v / accelerator.weight_memory.supply_v
    weight_bits, activation_bits = network.bits()
    choices = network.choices(costs, folder)
    workload = network_workload(
        network.shapes,
        choices,
        accelerator,
        shared=list(choices.values())[len(choices) // 2],
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        supply_share=share,
        kept=network.kept,
    )
    return energy.estimate(workload, accelerator, costs=costs)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Network:
    """The layers of a network that run, in the order in which they first do.

    Attributes:
        shapes: A shape for each run of a layer.
        kept: Layer name -> weights that are not zero.
        converted: Layer name -> the layer, if it was converted; either all were or none.
    """

    shapes: Sequence[approx.LayerShape]
    kept: Mapping[str, int]
    converted: Mapping[str, approx.ApproxLayer]

    @classmethod
    def running(cls, model: nn.Module, example: Tensor) -> _Network:
        """Run a network on an example, and find its layers.

        Raises:
            UsageError: If that fails, or the network has no layers, others, or some that were not converted.
        """
        try:
            network = prepared(model)
            shapes = approx.trace(network, example)
            outside = approx.other_weights(network, example[:1])
        except approx.ArgumentError as error:
            raise UsageError(str(error).replace("example_input", "example")) from error
        if outside:
            raise UsageError(
                f"`model` multiplies {outside[0]!r} outside of {_MODELLED}, the only layers whose energy is modelled"
            )
        if not shapes:
            raise UsageError(f"`model` runs none of {_MODELLED} on `example`, the only layers whose energy is modelled")
        converted = dict(approx.approx_layers(network))
        layers = {**dict(approx.weight_layers(network)), **converted}
        names = list(dict.fromkeys(shape.name for shape in shapes))
        if converted and not converted.keys() >= set(names):
            left = next(name for name in names if name not in converted)
            raise UsageError(
                f"layer {left!r} of `model` was left in floating point, whose energy is not modelled; convert it like "
                "the others"
            )
        return cls(
            shapes=shapes,
            kept={name: _kept_weights(layers[name]) for name in names},
            converted={name: converted[name] for name in names if name in converted},
        )

    def bits(self) -> tuple[int, int]:
        """Return the widths of weights and activations.

        Raises:
            UsageError: If they differ from layer to layer.
        """
        if not self.converted:
            return _FLOAT_BITS, _FLOAT_BITS
        first, *others = self.converted
        own = _widths(self.converted[first])
        for other in others:
            if (theirs := _widths(self.converted[other])) != own:
                raise UsageError(
                    f"layer {first!r} of `model` has {own[0]}-bit weights and {own[1]}-bit activations, but layer "
                    f"{other!r} {theirs[0]} and {theirs[1]}; energy is modelled for widths that all layers share, so "
                    "convert them alike"
                )
        return own

    def supply_share(self) -> float:
        """Return the supply voltage of the weight memory over the nominal one.

        Raises:
            UsageError: If it is not known for a faulty memory, or differs from layer to layer.
        """
        shares = {name: _supply_share(name, layer.weight_memory) for name, layer in self.converted.items()}
        first, own = next(iter(shares.items()), ("", 1.0))
        for name, share in shares.items():
            if share != own:
                raise UsageError(
                    f"the weights of layer {first!r} of `model` are stored at {own:.3g} of the nominal voltage, but "
                    f"those of {name!r} at {share:.3g}; a network has one weight memory: give its voltage as `supply_v`"
                )
        return own

    def choices(self, costs: CostTable, folder: MultiplierFolder) -> dict[str, LayerChoice]:
        """Return layer name -> its multiplier, by the name that has a cost, and its robust bits.

        Raises:
            UsageError: If the cost of a multiplier is unknown.
        """
        names = dict.fromkeys(shape.name for shape in self.shapes)
        choices = dict.fromkeys(names, LayerChoice(EXACT, 0))
        for name, layer in self.converted.items():
            memory = layer.weight_memory
            robust_bits = 0 if memory is None else min(memory.robust_bits, layer.config.weight_bits)
            choices[name] = LayerChoice(_costed_name(name, layer, costs, folder), robust_bits)
        return choices


def _kept_weights(layer: nn.Module) -> int:
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return int((weight * layer.mask if isinstance(layer, approx.ApproxLayer) else weight).count_nonzero())


def _widths(layer: approx.ApproxLayer) -> tuple[int, int]:
    return layer.config.weight_bits, layer.config.activation_bits


def _supply_share(name: str, memory: approx.FaultyMemory | None) -> float:
    """Return the supply voltage of a layer's weight memory over the nominal one.

    Raises:
        UsageError: If the memory is faulty, and does not say at which voltage it is.
    """
    if memory is None:
        return 1.0
    if memory.supply_share is not None:
        return memory.supply_share
    if memory.bit_error_rate or memory.robust_bit_error_rate:
        raise UsageError(
            f"the weight memory of layer {name!r} of `model` does not say at which supply voltage it has its faults; "
            "give it as `supply_v`, or make the memory with approx.SILICON_14NM.at(...)"
        )
    return 1.0


def _costed_name(name: str, layer: approx.ApproxLayer, costs: CostTable, folder: MultiplierFolder) -> str:
    """Return the name under which the cost of a layer's multiplier is known.

    Raises:
        UsageError: If there is none.
    """
    given = layer.config.multiplier
    found = _known_name(layer, folder)
    if found in costs.names:
        return found
    is_other = given in costs.names
    how = how_to_know_costs("NAME" if is_other else given, imported=is_other or found is None)
    raise UsageError(
        f"no energy is known for multiplier {given!r} of layer {name!r} of `model`"
        f"{', which is not the known multiplier of that name' if is_other else ''}; {how}; or give its costs to "
        "energy.register_multiplier_cost"
    )


def _known_name(layer: approx.ApproxLayer, folder: MultiplierFolder) -> str | None:
    """Return the name of the built-in, registered or imported multiplier that a layer has; None if it is none of them.

    Names do not tell, as any may be given to a multiplier that is passed to `approx.approximate`: products do.
    """
    given = layer.config.multiplier
    weight_bits, activation_bits = _widths(layer)
    with suppress(approx.UnknownNameError):
        built_in = approx.find_multiplier(
            given,
            weight_bits=weight_bits,
            activation_bits=activation_bits,
            activation_signed=layer.activation_signed,
            circuit_bits=layer.config.circuit_bits,
            multipliers={},
        )
        if built_in.digest == layer.multiplier.digest:
            exact = is_exact(given, weight_bits=weight_bits, activation_bits=activation_bits)
            return EXACT if exact else given
    if given in known_costs().added:
        return given
    for kept in folder.multipliers(on_damage=lambda _: None):
        if given in (kept.name, name_in_layers(multiplier_identity(kept.name, kept.digest))):
            with suppress(approx.ArgumentError):  # it cannot hold these operands
                adapted = kept.adapted(
                    weight_bits=weight_bits,
                    activation_bits=activation_bits,
                    weight_signed=True,
                    activation_signed=layer.activation_signed,
                )
                if adapted.digest == layer.multiplier.digest:
                    return kept.name
    return None


def _check_arguments(model: object, example: object, hardware: object, supply_v: object) -> None:
    if not isinstance(model, nn.Module):
        raise UsageError(f"`model` must be a torch.nn.Module, got {shown(model)}")
    if not isinstance(example, Tensor):
        hint = ""
        if isinstance(example, list | tuple) and any(isinstance(one, Tensor) for one in example):
            hint = "; of a batch of images and labels, pass the images alone"
        elif isinstance(example, np.ndarray):
            hint = "; convert it with torch.from_numpy(...)"
        raise UsageError(f"`example` must be a tensor of network inputs, got {shown(example)}{hint}")
    if example.is_floating_point() and not example.isfinite().all():
        raise UsageError("`example` has values that are not finite")
    if not isinstance(hardware, str | os.PathLike | energy.Hardware):
        raise UsageError(
            f"`hardware` must be a name, the path of a YAML file or an energy.Hardware, got {shown(hardware)}"
        )
    if supply_v is not None and (
        not isinstance(supply_v, Real) or isinstance(supply_v, bool) or not 0 < float(supply_v) < math.inf
    ):
        raise UsageError(f"`supply_v` must be a number of volts above 0, such as 0.7, got {shown(supply_v)}")
