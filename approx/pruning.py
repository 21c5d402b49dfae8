"""Pruning of individual weights: choosing them, retraining the others, and measuring sparsity.

A mask is a bool tensor of its weight's shape: True is kept. Whole channels are removed by `approx.structured`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from approx.checks import check_integer, check_model, check_names_to_tensors, check_number, check_type
from approx.errors import ArgumentError
from approx.labelled_images import LabelledImages
from approx.surgery import WeightLayer, approx_layers, prepared, weight_layers
from approx.training import Distillation, Schedule, fit

_RAMP = 0.5  # share of a retraining in which sparsity rises
_WEIGHTS_HINT = "for a model: {name: layer.weight for name, layer in approx.weight_layers(model)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sparsity:
    """Shares of weights that are zero.

    Attributes:
        layers: Layer name -> share of its weights, in [0, 1].
        total: Share of all weights, in [0, 1].
    """

    layers: Mapping[str, float]
    total: float


def magnitude_masks(weights: Mapping[str, Tensor], sparsity: float) -> dict[str, Tensor]:
    """Masks that drop the same share of every layer's weights, smallest magnitudes first.

    Args:
        weights: Layer name -> weight.
        sparsity: Share to drop, in [0, 1).

    Returns:
        Layer name -> bool mask with exactly round(sparsity * size) False entries, except that one weight is always
        kept. Of equal magnitudes the earlier in memory is dropped first.

    Raises:
        ArgumentError: If sparsity is out of range.
    """
    check_names_to_tensors("weights", weights, _WEIGHTS_HINT)
    check_sparsity(sparsity)
    masks = {}
    for name, weight in weights.items():
        dropped = min(round(sparsity * weight.numel()), weight.numel() - 1)
        masks[name] = _all_but_smallest(weight.detach().abs().flatten(), dropped).reshape(weight.shape)
    return masks


def global_magnitude_masks(weights: Mapping[str, Tensor], sparsity: float) -> dict[str, Tensor]:
    """Masks that drop a share of the weights of all layers together, smallest magnitudes first.

    Args:
        weights: Layer name -> weight.
        sparsity: Share to drop, in [0, 1).

    Returns:
        Layer name -> bool mask. Exactly round(sparsity * total size) entries are False in total, except that every
        layer keeps its largest weight. Of equal magnitudes the earlier is dropped first, by layer and then in memory.

    Raises:
        ArgumentError: If sparsity is out of range.
    """
    check_names_to_tensors("weights", weights, _WEIGHTS_HINT)
    check_sparsity(sparsity)
    if not weights:
        return {}
    magnitudes = [weight.detach().abs().flatten() for weight in weights.values()]
    for magnitude in magnitudes:
        largest = len(magnitude) - 1 - int(magnitude.flip(0).argmax())
        magnitude[largest] = torch.inf
    together = torch.cat(magnitudes)
    dropped = min(round(sparsity * len(together)), len(together) - len(weights))
    masks = torch.split(_all_but_smallest(together, dropped), [len(magnitude) for magnitude in magnitudes])
    return {name: mask.reshape(weight.shape) for (name, weight), mask in zip(weights.items(), masks, strict=True)}


def n_m_masks(layers: Mapping[str, WeightLayer], n: int, m: int) -> dict[str, Tensor]:
    """Masks that keep the n largest magnitudes of every m consecutive input channels.

    Weights of one output at one kernel position are compared: along K of a Linear weight (N, K), along C/g of a
    convolution's weight (N, C/g, ...), and within each of the g groups along C of a ConvTranspose2d weight
    (C, N/g, KH, KW).
    NVIDIA's sparse tensor cores compute 2:4: Mishra et al., arXiv 2104.08378, 2021.

    Args:
        layers: Layer name -> layer, as from `weight_layers`.
        n: How many are kept, 1 to m.
        m: Of how many.

    Returns:
        Layer name -> bool mask. Where m does not divide the input channels, the r that are left over keep
        ceil(n * r / m). Of equal magnitudes the earlier goes first.

    Raises:
        ArgumentError: If n or m is out of range.
    """
    check_type(
        "layers", layers, Mapping, "a mapping from names to layers", "for a model: dict(approx.weight_layers(model))"
    )
    check_integer("n", n)
    check_integer("m", m)
    if not 1 <= n <= m:
        raise ArgumentError(f"n:m pruning keeps `n` of `m` weights with 1 <= n <= m, got {n}:{m}")
    masks = {}
    for name, layer in layers.items():
        magnitudes = layer.weight.detach().abs()
        if isinstance(layer, nn.ConvTranspose2d):
            magnitudes = magnitudes.reshape(layer.groups, -1, *magnitudes.shape[1:])
        kept = _largest_of_each(magnitudes.movedim(1, -1), n, m).movedim(-1, 1)
        masks[name] = kept.reshape(layer.weight.shape).contiguous()
    return masks


def gradual_sparsities(final: float, steps: int) -> list[float]:
    """Sparsities that rise to `final`, fast at first: final * (1 - (1 - t / steps)^3) for t = 1 to steps.

    Zhu and Gupta, arXiv 1710.01878, 2017, equation 1, starting from zero.

    Args:
        final: The last sparsity, in [0, 1).
        steps: Number of sparsities, at least 1.

    Raises:
        ArgumentError: If an argument is out of range.
    """
    check_sparsity(final)
    check_integer("steps", steps)
    if steps < 1:
        raise ArgumentError(f"`steps` must be at least 1, got {steps}")
    return [final * (1 - (1 - step / steps) ** 3) for step in range(1, steps + 1)]


def prune_and_retrain(
    model: nn.Module,
    images: LabelledImages,
    schedule: Schedule,
    *,
    sparsity: float,
    steps: int = 1,
    method: Callable[[Mapping[str, Tensor], float], Mapping[str, Tensor]] = magnitude_masks,
    seed: int,
    validation: LabelledImages | None = None,
    distillation: Distillation | None = None,
) -> dict[str, Tensor]:
    """Prune and retrain in place, at once or gradually. Pruned weights stay pruned.

    Args:
        model: The trained network, not converted.
        images: The training set.
        schedule: Schedule of the retraining.
        sparsity: Final share of weights to drop, in [0, 1).
        steps: Number of times to prune, by `gradual_sparsities`: once before the retraining, or else the first time
            then and the others evenly spaced up to its middle, so that the rest of it goes to the final network.
        method: Function of weights and a sparsity that returns masks, such as `magnitude_masks` or
            `global_magnitude_masks`.
        seed: Seed of everything random.
        validation: The images on which a schedule with patience measures accuracy.
        distillation: A network to learn from beside the classes, such as the one before pruning.

    Returns:
        Layer name -> bool mask.

    Raises:
        ArgumentError: If sparsity or steps is out of range, the network has nothing to prune, a layer computes its
            weight from other parameters, patience and validation images are not given together, or patience is given
            for several steps.
        DivergedError: If the loss stops being a number.
    """
    check_type("schedule", schedule, Schedule, "an approx.Schedule")
    check_type("method", method, Callable, "a function of weights and a sparsity")  # type: ignore[arg-type]
    sparsities = gradual_sparsities(sparsity, steps)
    if steps > 1 and schedule.patience is not None:
        raise ArgumentError(
            "a `schedule` with patience keeps the best network so far, which may have been pruned less; prune in one "
            "of `steps`, or leave out `patience`"
        )
    weights = {name: layer.weight for name, layer in weight_layers(model)}
    computed = [
        name
        for name, layer in model.named_modules()
        if isinstance(layer, WeightLayer) and not isinstance(layer.weight, nn.Parameter)
    ]
    if computed:
        raise ArgumentError(
            f"layer {computed[0]!r} computes its weight from other parameters, as torch.nn.utils.prune and weight_norm "
            "do; make it a plain one, as with prune.remove, remove_weight_norm or parametrize.remove_parametrizations"
        )
    if not weights:
        raise ArgumentError("`model` has no layer to prune; prune before converting it with approximate()")
    masks = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in weights.items()}

    @torch.no_grad()
    def prune(share: float) -> None:
        # A kept weight may be zero too: it must not take the place of one that was dropped before.
        ranked = {
            name: weight.detach().masked_fill(masks[name] & (weight == 0), torch.finfo(weight.dtype).tiny)
            for name, weight in weights.items()
        }
        for name, mask in method(ranked, share).items():
            masks[name] &= mask
            weights[name].mul_(masks[name])

    def after_step(done: int, total: int) -> None:
        while waiting and done >= waiting[0][0] * total:
            prune(waiting.pop(0)[1])

    prune(sparsities[0])
    waiting = [(_RAMP * step / (steps - 1), share) for step, share in enumerate(sparsities) if step]
    fit(
        model,
        images,
        schedule,
        seed=seed,
        masks=masks,
        validation=validation,
        distillation=distillation,
        after_step=after_step,
    )
    for _, share in waiting:  # of a schedule without steps
        prune(share)
    return masks


@torch.no_grad()
def measured_sparsity(model: nn.Module) -> Sparsity:
    """Share of weights that are zero: stored codes in approximate layers, plain weights in others.

    More weights are zero than were pruned if quantisation rounds small ones to zero.

    Args:
        model: A network, converted by `approximate` or not.

    Raises:
        ArgumentError: If the network has no weights to count.
    """
    check_model("model", model)
    model = prepared(model)  # with weights as they are computed
    values: dict[str, Tensor] = {name: layer.weight for name, layer in weight_layers(model)}
    values |= {name: layer.stored_codes() for name, layer in approx_layers(model)}
    if not values:
        raise ArgumentError("`model` has no layer whose weights can be counted")
    zeros = {name: int((value == 0).sum()) for name, value in values.items()}
    return Sparsity(
        layers={name: zeros[name] / value.numel() for name, value in values.items()},
        total=sum(zeros.values()) / sum(value.numel() for value in values.values()),
    )


def check_sparsity(sparsity: float) -> None:
    """Reject a share of weights to drop that is not in [0, 1).

    Raises:
        ArgumentError: If it is not in [0, 1).
    """
    check_number("sparsity", sparsity)
    if not 0 <= sparsity < 1:
        raise ArgumentError(f"`sparsity` must be in [0, 1), got {sparsity}")


def _all_but_smallest(magnitudes: Tensor, dropped: int) -> Tensor:
    """A mask that drops the `dropped` smallest, of equal ones the earlier; shape (size,)."""
    mask = torch.ones_like(magnitudes, dtype=torch.bool)
    if dropped:
        threshold = magnitudes.kthvalue(dropped).values  # takes a sixth of the time of sorting
        below = magnitudes < threshold
        equal = (magnitudes == threshold).nonzero().flatten()
        mask[below] = False
        mask[equal[: dropped - int(below.sum())]] = False
    return mask


def _largest_of_each(magnitudes: Tensor, n: int, m: int) -> Tensor:
    """A mask of the n largest of every m along the last dimension, of equal ones the later; shape of magnitudes."""
    size = magnitudes.shape[-1]
    blocks = F.pad(magnitudes, (0, -size % m), value=-1.0)  # the padding is dropped first
    blocks = blocks.reshape(*magnitudes.shape[:-1], -1, m)
    kept = torch.full((blocks.shape[-2], 1), n, device=magnitudes.device)
    if left_over := size % m:
        kept[-1] = -(-n * left_over // m)
    mask: Tensor = blocks.argsort(stable=True).argsort() >= m - kept
    return mask.flatten(-2)[..., :size]
