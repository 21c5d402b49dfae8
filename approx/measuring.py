"""Measuring what a network predicts, and on which chips."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from numbers import Integral

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from approx.checks import check_integer, check_model, check_number, check_type, shown
from approx.chips import set_memory, use_chip
from approx.config import FaultyMemory
from approx.errors import ArgumentError
from approx.labelled_images import LabelledImages, check_images
from approx.outputs import scores_of
from approx.overflow_counts import warned_of_overflows
from approx.surgery import approx_layers

_MOST_IMAGES = 1000  # per forward pass
_MOST_VALUES = 2**22  # per forward pass: of large images a thousand take gigabytes


def accuracy(
    model: nn.Module, images: LabelledImages | Iterable[Sequence[Tensor]], *, batch_size: int | None = None
) -> float:
    """Share of images whose largest output is their class, in [0, 1].

    The model is in evaluation mode afterwards. Warns of sums that overflow the partial sums of a converted model; see
    `overflows`.

    Args:
        model: Any classifier.
        images: The images; or a DataLoader, or any other iterable of batches: pairs of network inputs, shape (n, ...),
            and their classes, whole numbers of shape (n,).
        batch_size: Images per forward pass: by default 1000, or fewer if they are large. An iterable has its own.

    Raises:
        ArgumentError: If there is no image, a batch is something else, the model fails with inputs of another type than
            its weights, or its output is not a row of numbers for each image.
    """
    check_model("model", model)
    if not isinstance(images, LabelledImages):
        _check_iterable(images)
    _check_batch_size(batch_size)
    with warned_of_overflows(model):
        if isinstance(images, LabelledImages):
            return share_correct(model, images, batch_size=batch_size)
        return _share_correct_of_batches(model, images)


def predictions(model: nn.Module, images: LabelledImages, *, batch_size: int | None = None) -> Tensor:
    """The class of each image that a model predicts, which has the largest output: int64, shape (N,).

    The model is in evaluation mode afterwards. Warns of overflowing sums as `accuracy` does.

    Args:
        model: Any classifier.
        images: The images, whose labels are not used.
        batch_size: As for `accuracy`.

    Raises:
        ArgumentError: If the model's output is not a row of numbers for each image.
    """
    check_model("model", model)
    check_images("images", images)
    _check_batch_size(batch_size)
    with warned_of_overflows(model):
        return _predictions(model, images, batch_size)


def chip_accuracies(
    model: nn.Module, images: LabelledImages, chip_seeds: Sequence[int], *, batch_size: int | None = None
) -> tuple[float, ...]:
    """Accuracy on each chip; the model is off its chip afterwards.

    Warns of overflowing sums as `accuracy` does, once for all chips.

    Args:
        model: From `approximate`, with its memories set.
        images: The images to classify.
        chip_seeds: The numbers of the chips.
        batch_size: As for `accuracy`.

    Raises:
        ArgumentError: As for `accuracy`.
    """
    _check_measured_on_chips(model, images, chip_seeds, batch_size)
    with warned_of_overflows(model):
        return _chip_accuracies(model, images, chip_seeds, batch_size)


def chip_predictions(
    model: nn.Module, images: LabelledImages, chip_seeds: Sequence[int], *, batch_size: int | None = None
) -> Tensor:
    """The class of each image on each chip: int64, shape (chips, N); the model is off its chip afterwards.

    Warns of overflowing sums as `accuracy` does, once for all chips.

    Args:
        model: As for `chip_accuracies`.
        images: The images, whose labels are not used.
        chip_seeds: As for `chip_accuracies`.
        batch_size: As for `accuracy`.

    Raises:
        ArgumentError: As for `predictions`.
    """
    _check_measured_on_chips(model, images, chip_seeds, batch_size)
    with warned_of_overflows(model):
        return _chip_predictions(model, images, chip_seeds, batch_size)


def allocate_robust_bits(
    model: nn.Module,
    images: LabelledImages,
    memory: FaultyMemory,
    *,
    chip_seeds: Sequence[int],
    max_drop: float,
) -> dict[str, int]:
    """Number of top bits that each layer needs in 8T cells, by its sensitivity.

    A layer gets the fewest bits with which faults in its weights alone cost at most `max_drop` of accuracy, averaged
    over chips. Layers to which the network is less sensitive get fewer, as in the synaptic-sensitivity driven memory of
    Srinivasan et al., DATE 2016. The model's memories are perfect afterwards; pass the result to `set_memory`.

    Args:
        model: From `approximate`.
        images: The images on which accuracy is measured.
        memory: Faults of the weight memory; its `robust_bits` are the fewest that any layer gets.
        chip_seeds: The numbers of the chips.
        max_drop: Accuracy that faults in one layer may cost, in [0, 1].

    Returns:
        Layer name -> number of bits.
    """
    check_type("memory", memory, FaultyMemory, "an approx.FaultyMemory")
    _check_chips(chip_seeds)
    if not chip_seeds:
        raise ArgumentError("`chip_seeds` must name at least one chip, got none")
    check_number("max_drop", max_drop)
    check_model("model", model)
    check_images("images", images)
    set_memory(model)
    with warned_of_overflows(model):
        perfect = share_correct(model, images)
    allocated = {}
    for name, layer in approx_layers(model):
        for robust_bits in range(min(memory.robust_bits, layer.config.weight_bits), layer.config.weight_bits + 1):
            layer.weight_memory = replace(memory, robust_bits=robust_bits)
            found = _chip_accuracies(model, images, chip_seeds, None)
            if perfect - sum(found) / len(found) <= max_drop:
                break
        allocated[name] = robust_bits
        set_memory(model)
    return allocated


def share_correct(model: nn.Module, images: LabelledImages, *, batch_size: int | None = None) -> float:
    """`accuracy` without its checks of arguments and its warning."""
    if not len(images):
        raise ArgumentError("`images` has no image, so there is no accuracy")
    return _share_equal(_predictions(model, images, batch_size), images.labels)


@torch.no_grad()
def _predictions(model: nn.Module, images: LabelledImages, batch_size: int | None) -> Tensor:
    model.eval()
    found = torch.empty(len(images), dtype=torch.int64, device=images.labels.device)
    if batch_size is None:
        values = images.pixels.shape[1:].numel()
        batch_size = min(_MOST_IMAGES, max(1, _MOST_VALUES // max(1, values)))
    for start in range(0, len(images), batch_size):
        batch = slice(start, start + batch_size)
        found[batch] = _classes(model, images.inputs(batch))
    return found


def _chip_predictions(
    model: nn.Module, images: LabelledImages, chip_seeds: Sequence[int], batch_size: int | None
) -> Tensor:
    found = torch.empty(len(chip_seeds), len(images), dtype=torch.int64, device=images.labels.device)
    for row, chip_seed in zip(found, chip_seeds, strict=True):
        use_chip(model, chip_seed)
        row.copy_(_predictions(model, images, batch_size))
    use_chip(model, None)
    return found


def _chip_accuracies(
    model: nn.Module, images: LabelledImages, chip_seeds: Sequence[int], batch_size: int | None
) -> tuple[float, ...]:
    if not len(images):
        raise ArgumentError("`images` has no image, so there is no accuracy")
    found = _chip_predictions(model, images, chip_seeds, batch_size)
    return tuple(_share_equal(row, images.labels) for row in found)


@torch.no_grad()
def _share_correct_of_batches(model: nn.Module, batches: Iterable[Sequence[Tensor]]) -> float:
    model.eval()
    correct = total = 0
    for number, batch in enumerate(batches):
        inputs, labels = _checked_batch(number, batch)
        try:
            found = _classes(model, inputs)
        except (RuntimeError, ArgumentError) as error:
            dtype = next((one.dtype for one in (*model.parameters(), *model.buffers())), inputs.dtype)
            if inputs.dtype == dtype:
                raise
            how = "inputs.float() / 255" if inputs.dtype == torch.uint8 else f"inputs.to({dtype})"
            raise ArgumentError(
                f"the inputs in batch {number} of `images` are {inputs.dtype}, and the model's weights {dtype}; "
                f"convert the inputs as they were for its training, such as by {how}"
            ) from error
        correct += int((found == labels).sum())
        total += len(labels)
    if not total:
        raise ArgumentError("`images` has no image, so there is no accuracy; an iterator can be used only once")
    return correct / total


def _share_equal(found: Tensor, labels: Tensor) -> float:
    return int((found == labels).sum()) / len(labels)


def _classes(model: nn.Module, inputs: Tensor) -> Tensor:
    outputs = scores_of(model(inputs))
    if not isinstance(outputs, Tensor) or outputs.dim() != 2 or len(outputs) != len(inputs):
        given = f"shape {tuple(outputs.shape)}" if isinstance(outputs, Tensor) else shown(outputs)
        raise ArgumentError(
            f"`model` must give a row of numbers for each image, shape ({len(inputs)}, classes), but for inputs of "
            f"shape {tuple(inputs.shape)} it gave {given}"
        )
    return outputs.argmax(dim=1)


def _checked_batch(number: int, batch: object) -> tuple[Tensor, Tensor]:
    wanted = f"batch {number} of `images` must be a pair of tensors, network inputs and their classes"
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        size = f" of {len(batch)}" if isinstance(batch, tuple | list) else ""
        raise ArgumentError(f"{wanted}, got {shown(batch)}{size}; for a single batch pass [(inputs, labels)]")
    inputs, labels = batch
    for one in (inputs, labels):
        if not isinstance(one, Tensor):
            raise ArgumentError(f"{wanted}, got a pair with {shown(one)}")
    if inputs.dim() < 1 or labels.shape != inputs.shape[:1]:
        raise ArgumentError(
            f"the classes in batch {number} of `images` must have shape (n,) for n inputs, got {tuple(labels.shape)} "
            f"for inputs of shape {tuple(inputs.shape)}"
        )
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ArgumentError(f"the classes in batch {number} of `images` must be whole numbers, got {labels.dtype}")
    return inputs, labels


def _check_iterable(images: object) -> None:
    if isinstance(images, Tensor | str | Mapping) or not isinstance(images, Iterable):
        raise ArgumentError(
            "`images` must be an approx.LabelledImages, a DataLoader or another iterable of (inputs, labels) batches, "
            f"got {shown(images)}{'; wrap it in a torch.utils.data.DataLoader' if isinstance(images, Dataset) else ''}"
        )


def _check_measured_on_chips(model: object, images: object, chip_seeds: object, batch_size: object) -> None:
    check_model("model", model)
    check_images("images", images)
    _check_chips(chip_seeds)
    _check_batch_size(batch_size)


def _check_batch_size(batch_size: object) -> None:
    if batch_size is None:
        return
    check_integer("batch_size", batch_size)
    assert isinstance(batch_size, Integral)
    if batch_size < 1:
        raise ArgumentError(f"`batch_size` must be at least 1, got {batch_size}")


def _check_chips(chip_seeds: object) -> None:
    check_type("chip_seeds", chip_seeds, Sequence, "a list of whole numbers", "for one chip, pass a list of one")
