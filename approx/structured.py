"""Structured pruning: whole channels are removed, so that the remaining network is smaller.

A channel is removed together with its normalisation, the channels that are added to it, and the weights that read it.
torch-pruning finds these groups in a trace (Fang et al., DepGraph, CVPR 2023). Dependencies that its trace cannot see,
such as channels that a shortcut pads or a reshape shuffles, are detected by comparing outputs, and left alone.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Collection, Iterator, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch
import torch_pruning  # type: ignore[import-untyped]
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch_pruning._helpers import _HybridIndex  # type: ignore[import-untyped]
from torch_pruning.dependency import Dependency, index_mapping  # type: ignore[import-untyped]

from approx.checks import check_model, check_type
from approx.copying import copied
from approx.errors import ApproxError, ArgumentError
from approx.inputs import Inputs, check_inputs, like, run, shapes_of
from approx.outputs import tensors_in
from approx.pruning import check_sparsity
from approx.surgery import fix_hooked_weights, weight_layers

_Plan = Mapping[str, list[int]]  # layer name -> the output channels to remove
_UNTOLD = (ZeroDivisionError, TypeError)  # by torch-pruning, where a width that it looks for is 0 or None
_WEIGHT_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d)


def prune_channels(
    model: nn.Module, sparsity: float, *, example_input: Inputs, keep: Collection[str] = ()
) -> nn.Module:
    """A smaller copy of `model`: every hidden layer loses the same share of its output channels or units.

    In every group of layers whose channels depend on each other, exactly round(sparsity * channels) channels are
    removed, though one always stays: those with the smallest L2 norm over all parameters removed with the channel, of
    equal norms the earlier. The smaller network computes what `model` computes with those parameters set to zero. A
    group is left whole if it reaches the network's output, contains a layer in `keep`, contains parameters other than
    those of Linear, Conv1d, Conv2d, ConvTranspose2d (dense or depthwise), BatchNorm and PReLU, contains a layer that is
    parametrized, as by weight_norm, or cannot be cut in this way, for example because a shortcut pads channels. Weights
    that torch's older hooks compute, as in pruning, are cut as they are computed.

    Args:
        model: The trained network, not converted; it is not changed.
        sparsity: Share of channels to remove, in [0, 1).
        example_input: A batch of network inputs, for tracing: a tensor or, for a network of several inputs, a tuple of
            tensors or a mapping from argument names to tensors.
        keep: Names of layers that keep all their output channels.

    Returns:
        The smaller copy, in evaluation mode.

    Raises:
        ArgumentError: If sparsity is out of range, no layer has a name in `keep`, torch-pruning cannot trace the
            network, or nothing can be removed.
    """
    check_model("model", model)
    check_inputs("example_input", example_input)
    check_type("keep", keep, (list, tuple, Set), "a list of layer names")
    check_sparsity(sparsity)
    layers = [name for name, _ in weight_layers(model)]
    if unknown := sorted(set(keep) - set(layers)):
        raise ArgumentError(f"`keep` names {unknown[0]!r}, but the layers are {', '.join(layers)}")
    smaller = copied(model).eval()
    fix_hooked_weights(smaller)
    if sparsity == 0:
        return smaller
    whole = copied(smaller)
    plan = _only_equivalent(whole, _plan(whole, sparsity, example_input, keep), example_input)
    if not plan:
        raise ArgumentError(
            f"`sparsity` {sparsity} removes no channel: each hidden layer is too narrow, kept, or tied to channels "
            "that cannot be removed; increase it or keep fewer layers"
        )
    _remove(smaller, plan, example_input)
    for trained, pruned in zip(whole.parameters(), smaller.parameters(), strict=True):
        pruned.requires_grad_(trained.requires_grad)
    return smaller


@dataclass(slots=True)
class _Cut:
    """Channels that a layer loses with those of the layer at which a group begins.

    Attributes:
        dependency: What cuts them off.
        roots: Channel of the layer -> channel of the group's first layer.
    """

    dependency: Any
    roots: dict[int, int] = field(default_factory=dict)


def _plan(model: nn.Module, sparsity: float, example_input: Inputs, keep: Collection[str]) -> _Plan:
    traced = copied(model)
    try:
        graph = _trace(traced, example_input)
    except ApproxError:  # from the network's code
        raise
    except Exception as error:  # from torch-pruning, if it cannot follow it
        raise ArgumentError(
            f"the network could not be traced with an input of shape {shapes_of(example_input)}: {error!r}"
        ) from error
    names = {layer: name for name, layer in traced.named_modules()}
    kept = {layer for name, layer in traced.named_modules() if name in keep}
    plan: dict[str, list[int]] = {}
    done: set[nn.Module] = set()
    for layer in [one for one in graph.module2node if isinstance(one, _WEIGHT_LAYERS)]:
        channels = graph.get_out_channels(layer)
        removed = min(round(sparsity * channels), channels - 1)
        group = _group(graph, layer, range(channels), kept) if layer not in done else None
        if group is None:
            continue
        done |= {one.dependency.target.module for one in group if _cuts_outputs(graph, one.dependency)}
        if removed and _is_whole(graph, group):
            order = _squared_norms(graph, group, channels).argsort(stable=True)
            plan[names[layer]] = sorted(order[:removed].tolist())
    return plan


def _only_equivalent(model: nn.Module, plan: _Plan, example_input: Inputs) -> _Plan:
    """The part of a plan after which the network computes the same as `model` with the removed parameters at zero."""
    if _is_equivalent(model, plan, example_input):
        return plan
    good: dict[str, list[int]] = {}
    for name, channels in plan.items():
        if _is_equivalent(model, {**good, name: channels}, example_input):
            good[name] = channels
    return good


def _is_equivalent(model: nn.Module, plan: _Plan, example_input: Inputs) -> bool:
    """Whether the network without the channels of a plan computes the same as with their parameters at zero."""
    noise = like(example_input, _noise_like)
    smaller, zeroed = copied(model), copied(model)
    try:
        _zero(zeroed, plan, example_input)
        _remove(smaller, plan, example_input)
    except (AssertionError, IndexError, RuntimeError, ValueError):  # channel numbers no longer match
        return False
    try:  # in double precision, in which rounding hides nothing, unless the network casts or makes tensors itself
        inputs = like(noise, lambda one: one.double() if one.is_floating_point() else one)
        expected, tolerance = _outputs(copied(zeroed).double(), inputs), 1e-9
    except ArgumentError:
        inputs, tolerance = noise, 1e-4
        expected = _outputs(zeroed, inputs)
    try:
        found = _outputs(smaller.double() if tolerance < 1e-6 else smaller, inputs)
    except ArgumentError:
        return False
    return len(found) == len(expected) and all(
        one.shape == other.shape and _is_close(one, other, tolerance)
        for one, other in zip(found, expected, strict=True)
    )


def _is_close(one: Tensor, other: Tensor, tolerance: float) -> bool:
    finite = other.isfinite()  # what is not is masked
    if not torch.equal(finite, one.isfinite()):
        return False
    one, other = one[finite], other[finite]
    return not one.numel() or bool((one - other).abs().max() <= tolerance * other.abs().max())


def _noise_like(values: Tensor) -> Tensor:
    """Noise instead of values, of which an empty image would hide a difference; whole numbers mean something."""
    if not values.is_floating_point():
        return values
    return torch.randn(values.shape, generator=torch.Generator().manual_seed(0)).to(values)


def _outputs(model: nn.Module, inputs: Inputs) -> list[Tensor]:
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        found = tensors_in(run(model, inputs))
        return [one if one.is_complex() else one.double() for one in found if one.numel()]


def _remove(model: nn.Module, plan: _Plan, example_input: Inputs) -> None:
    for _, group in _groups(model, plan, example_input):
        for one in group:
            one.dependency(list(one.roots))


@torch.no_grad()
def _zero(model: nn.Module, plan: _Plan, example_input: Inputs) -> None:
    for graph, group in _groups(model, plan, example_input):
        for one in group:
            for parameter, dim in _parameters(graph, one.dependency) or []:
                parameter.index_fill_(dim, torch.tensor(list(one.roots), device=parameter.device), 0)


def _groups(model: nn.Module, plan: _Plan, example_input: Inputs) -> Iterator[tuple[Any, list[_Cut]]]:
    """The graph and, one after another, each group of the plan in the network as changed so far."""
    graph = _trace(model, example_input)
    for name, channels in plan.items():
        group = _group(graph, model.get_submodule(name), channels, set())
        if group is None:
            raise ValueError(f"the channels of {name!r} have others with them than they had at first")
        yield graph, group
        _map_indices(graph)


def _trace(model: nn.Module, example_input: Inputs) -> Any:
    """The dependencies between a network's layers; its parameters require gradients afterwards."""
    model.eval().requires_grad_(True)  # the trace follows gradients

    def outputs(network: nn.Module, inputs: Inputs) -> list[Tensor]:
        found = [one for one in tensors_in(run(network, inputs)) if one.grad_fn is not None]
        if not found:
            raise ArgumentError(
                "the network returns no tensor that is computed from its weights by differentiable operations, by "
                "which channels are followed"
            )
        return found

    graph = torch_pruning.DependencyGraph()
    with (
        torch.enable_grad(),
        suppress(*_UNTOLD),
        warnings.catch_warnings(),
    ):  # in the last step, which `_map_indices` repeats
        warnings.filterwarnings("ignore", "Maximum recursive depth reached", UserWarning)
        graph.build_dependency(model, example_input, forward_fn=outputs, verbose=False)
    _map_indices(graph)
    return graph


def _map_indices(graph: Any) -> None:
    """Say which channels correspond where tensors are joined, split and reshaped, given the widths of layers now.

    Where torch-pruning cannot tell, as at channel shuffles, they are taken to be equal; the comparison of outputs
    decides whether they are.
    """
    for module, node in graph.module2node.items():
        alone = copy.copy(graph)
        alone.module2node = {module: node}
        with suppress(*_UNTOLD), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Maximum recursive depth reached", UserWarning)
            index_mapping.update_index_mapping(alone)


def _group(graph: Any, layer: nn.Module, channels: Collection[int], kept: Collection[nn.Module]) -> list[_Cut] | None:
    """All that goes with output channels of a layer, which comes first; None if something of it cannot go.

    torch-pruning's own search for it does not end where channel numbers shift from round to round, as they seem to if
    values are padded in circles, and takes gigabytes where they are reshaped often, as in transformers.
    """
    widest = max(size for parameter in graph.model.parameters() for size in parameter.shape)
    node, function = graph.module2node[layer], graph.get_pruner_of_module(layer).prune_out_channels
    first = _Cut(Dependency(function, function, source=node, target=node))
    cuts = {(node, function): first}
    waiting = [(first.dependency, [_HybridIndex(idx=one, root_idx=one) for one in channels])]
    while waiting:
        dependency, indices = waiting.pop()
        cut = cuts.setdefault((dependency.target, dependency.handler), _Cut(dependency))
        new = [one for one in indices if one.idx not in cut.roots]
        for one in new:
            cut.roots.setdefault(one.idx, one.root_idx)
        if new and not _can_lose(graph, dependency, new, kept, widest):
            return None
        for other in dependency.target.dependencies:
            if new and other.is_triggered_by(dependency.handler):
                mapped = new
                try:
                    for mapping in other.index_mapping:
                        mapped = mapped if mapping is None else mapping(mapped)
                except IndexError:  # the widths of what is joined or split are not known
                    return None
                if mapped:
                    waiting.append((other, mapped))
    return list(cuts.values())


def _can_lose(graph: Any, dependency: Any, channels: Collection[Any], kept: Collection[nn.Module], widest: int) -> bool:
    """Whether a layer can lose channels, which have to be among its own, and the network goes on after it."""
    parameters = _parameters(graph, dependency)
    if parameters is None:
        return False
    sizes = [parameter.shape[dim] for parameter, dim in parameters] or [widest]
    if any(not 0 <= one.idx < min(sizes) for one in channels):
        return False
    reaches_output = not dependency.target.outputs
    return not (_cuts_outputs(graph, dependency) and (reaches_output or dependency.target.module in kept))


def _cuts_outputs(graph: Any, dependency: Any) -> bool:
    found: bool = graph.is_out_channel_pruning_fn(dependency.handler)
    return found


def _is_whole(graph: Any, group: list[_Cut]) -> bool:
    """Whether a group has all output channels of its layers."""
    return not any(
        len(one.roots) < parameter.shape[dim]
        for one in group
        if isinstance(one.dependency.target.module, _WEIGHT_LAYERS) and _cuts_outputs(graph, one.dependency)
        for parameter, dim in _parameters(graph, one.dependency) or []
    )


def _squared_norms(graph: Any, group: list[_Cut], channels: int) -> Tensor:
    """Squared norms of all parameters removed with a channel: float64, shape (channels,)."""
    norms = torch.zeros(channels, dtype=torch.float64)
    for one in group:
        for parameter, dim in _parameters(graph, one.dependency) or []:
            values = parameter.detach().double().cpu().movedim(dim, 0)
            squares = values.reshape(len(values), -1).square().sum(1)
            norms.index_add_(0, torch.tensor(list(one.roots.values())), squares[list(one.roots)])
    return norms


def _parameters(graph: Any, dependency: Any) -> list[tuple[Tensor, int]] | None:
    """Parameters that a layer loses with a channel, and their dimension; None if that is unknown."""
    layer = dependency.target.module
    if isinstance(layer, nn.Module) and _is_computed(layer):
        return None
    if isinstance(layer, _WEIGHT_LAYERS):
        of_outputs = graph.is_out_channel_pruning_fn(dependency.handler)
        dim = 0 if of_outputs else 1
        if not isinstance(layer, nn.Linear) and layer.groups > 1:
            if not layer.groups == layer.in_channels == layer.out_channels:
                return None
            dim = 0
        elif isinstance(layer, nn.ConvTranspose2d):
            dim = 1 - dim
        bias = layer.bias if of_outputs else None
        return [(layer.weight, dim)] if bias is None else [(layer.weight, dim), (bias, 0)]
    if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d | nn.PReLU):
        return [(parameter, 0) for parameter in layer.parameters() if len(parameter) > 1]
    return [] if isinstance(layer, nn.Module) and not any(True for _ in layer.parameters()) else None


def _is_computed(layer: nn.Module) -> bool:
    """Whether a layer computes its weights from other parameters: by a parametrization, or by an older hook."""
    own = [getattr(layer, name, None) for name in ("weight", "bias")]
    hooked = any(isinstance(one, Tensor) and not isinstance(one, nn.Parameter) for one in own)
    return hooked or parametrize.is_parametrized(layer)
