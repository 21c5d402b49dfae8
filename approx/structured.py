"""Structured pruning: whole channels are removed, so that the remaining network is smaller.

A channel is removed together with its normalisation, the channels that are added to it, and the weights that read it.
torch-pruning finds these groups in a trace (Fang et al., DepGraph, CVPR 2023). Dependencies that its trace cannot see,
such as channels that a shortcut pads or a reshape shuffles, are detected by comparing outputs, and left alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Set
from typing import Any

import torch
import torch_pruning  # type: ignore[import-untyped]
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils._pytree import tree_leaves

from approx.checks import check_model, check_type
from approx.copying import copied
from approx.errors import ArgumentError
from approx.inputs import Inputs, check_inputs, like, run, shapes_of
from approx.pruning import check_sparsity
from approx.surgery import fix_hooked_weights, weight_layers

_Plan = Mapping[str, list[int]]  # layer name -> the output channels to remove
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


def _plan(model: nn.Module, sparsity: float, example_input: Inputs, keep: Collection[str]) -> _Plan:
    traced = copied(model)
    try:
        graph = _trace(traced, example_input)
    except Exception as error:  # from the network's code, or from torch-pruning if it cannot follow it
        raise ArgumentError(
            f"the network could not be traced with an input of shape {shapes_of(example_input)}: {error!r}"
        ) from error
    names = {layer: name for name, layer in traced.named_modules()}
    kept = {layer for name, layer in traced.named_modules() if name in keep}
    plan = {}
    for group in graph.get_all_groups():
        channels = len(group[0].idxs)
        removed = min(round(sparsity * channels), channels - 1)
        if removed and _can_shrink(graph, group, kept):
            order = _squared_norms(graph, group).argsort(stable=True)
            plan[names[group[0].dep.target.module]] = sorted(order[:removed].tolist())
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
    _zero(zeroed, plan, example_input)
    try:
        _remove(smaller, plan, example_input)
    except (AssertionError, IndexError, RuntimeError, ValueError):  # channel numbers no longer match
        return False
    try:  # in double precision, in which rounding hides nothing, unless the network casts or makes tensors itself
        inputs = like(noise, lambda one: one.double() if one.is_floating_point() else one)
        expected, tolerance = _outputs(copied(zeroed).double(), inputs), 1e-9
    except RuntimeError:
        inputs, tolerance = noise, 1e-4
        expected = _outputs(zeroed, inputs)
    try:
        found = _outputs(smaller.double() if tolerance < 1e-6 else smaller, inputs)
    except (AssertionError, IndexError, RuntimeError, ValueError):
        return False
    return len(found) == len(expected) and all(
        one.shape == other.shape and bool((one - other).abs().max() <= tolerance * other.abs().max())
        for one, other in zip(found, expected, strict=True)
    )


def _noise_like(values: Tensor) -> Tensor:
    """Noise instead of values, of which an empty image would hide a difference; whole numbers mean something."""
    if not values.is_floating_point():
        return values
    return torch.randn(values.shape, generator=torch.Generator().manual_seed(0)).to(values)


def _outputs(model: nn.Module, inputs: Inputs) -> list[Tensor]:
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return [leaf.double() for leaf in tree_leaves(run(model, inputs)) if isinstance(leaf, Tensor)]


def _remove(model: nn.Module, plan: _Plan, example_input: Inputs) -> None:
    for _, group in _groups(model, plan, example_input):
        group.prune(record_history=False)


@torch.no_grad()
def _zero(model: nn.Module, plan: _Plan, example_input: Inputs) -> None:
    for graph, group in _groups(model, plan, example_input):
        for dependency, channels in group:
            for parameter, dim in _parameters(graph, dependency) or []:
                parameter.index_fill_(dim, torch.tensor(channels, device=parameter.device), 0)


def _groups(model: nn.Module, plan: _Plan, example_input: Inputs) -> Iterator[tuple[Any, Any]]:
    """The graph and, one after another, each group of the plan in the network as changed so far."""
    graph = _trace(model, example_input)
    for name, channels in plan.items():
        layer = model.get_submodule(name)
        yield graph, graph.get_pruning_group(layer, graph.get_pruner_of_module(layer).prune_out_channels, channels)


def _trace(model: nn.Module, example_input: Inputs) -> Any:
    model.eval().requires_grad_(True)  # the trace follows gradients
    with torch.enable_grad():
        return torch_pruning.DependencyGraph().build_dependency(
            model,
            example_input,
            forward_fn=run,
            verbose=False,
        )


def _can_shrink(graph: Any, group: Any, kept: Collection[nn.Module]) -> bool:
    for dependency, channels in group:
        parameters = _parameters(graph, dependency)
        if parameters is None or any(max(channels) >= parameter.shape[dim] for parameter, dim in parameters):
            return False
        if graph.is_out_channel_pruning_fn(dependency.handler):
            layer, reaches_output = dependency.target.module, not dependency.target.outputs
            partly = isinstance(layer, _WEIGHT_LAYERS) and any(len(channels) < p.shape[dim] for p, dim in parameters)
            if reaches_output or partly or layer in kept:
                return False
    return True


def _squared_norms(graph: Any, group: Any) -> Tensor:
    """Squared norms of all parameters removed with a channel: float64, shape (channels,)."""
    norms = torch.zeros(len(group[0].idxs), dtype=torch.float64)
    for item in group:
        for parameter, dim in _parameters(graph, item.dep) or []:
            values = parameter.detach().double().cpu().movedim(dim, 0)
            squares = values.reshape(len(values), -1).square().sum(1)
            norms.index_add_(0, torch.tensor(item.root_idxs), squares[item.idxs])
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
