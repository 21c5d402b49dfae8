"""Training on labelled images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from approx.checks import (
    check_integer,
    check_model,
    check_names_to_tensors,
    check_number,
    check_type,
)
from approx.chips import use_chip
from approx.config import FaultyMemory
from approx.errors import ArgumentError, DivergedError
from approx.labelled_images import LabelledImages, check_images
from approx.layer import ApproxLayer
from approx.measuring import share_correct
from approx.outputs import scores_of
from approx.precision import FLOAT32, PRECISIONS, autocast, in_layout, laid_out
from approx.state import restore, whole_state
from approx.surgery import WeightLayer, approx_layers, weight_layers

OPTIMIZERS = ("adam", "sgd")
AUGMENTATIONS = ("none", "crop-flip")
_CROP_MARGIN = 4  # pixels, as for CIFAR in He et al., CVPR 2016


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Training schedule: how long and how fast to train.

    Attributes:
        epochs: Passes over the images, rounded to a whole number of steps; 0 leaves the network as it is.
        batch_size: Images per step; a single image that is left over at the end of an epoch joins the step before it.
        learning_rate: The peak rate; after the warm-up it falls to zero along half a cosine.
        warm_up: Share of the steps in which the rate rises linearly from zero.
        optimizer: `adam`, or `sgd` with a Nesterov momentum of 0.9.
        weight_decay: L2 penalty: this multiple of each weight is added to its gradient; biases and the parameters of
            normalisation, which have one dimension, are spared.
        label_smoothing: Share of the target that is spread over all classes.
        augmentation: `none`; or `crop-flip`, which shifts images by up to 4 pixels, with black ones in their place, and
            mirrors half of them.
        patience: Epochs without a better accuracy on the validation images after which training stops; the best network
            is kept. None never stops early.
        precision: How layers compute that are not on integer codes: `float32`; `float32-channels-last`, with the
            channels of a pixel side by side in memory; or `bfloat16`, the same with 16-bit operands of convolutions and
            matrix products, for CPUs with AVX512-BF16 or AMX. The gradients of layers on codes have its operands too.
        max_weight: Largest magnitude that the weights of layers may have, to which they are clipped after every step,
            so that a bit error is small beside them (Stutz et al., MLSys 2021, section 4.2); None for no limit.

    Raises:
        ArgumentError: If a value is out of range, unknown or of the wrong type.
    """

    epochs: float
    batch_size: int
    learning_rate: float
    warm_up: float = 0.0
    optimizer: str = "adam"
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    augmentation: str = "none"
    patience: int | None = None
    precision: str = FLOAT32
    max_weight: float | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "learning_rate", "warm_up", "weight_decay", "label_smoothing"):
            check_number(name, getattr(self, name))
        check_integer("batch_size", self.batch_size)
        if self.patience is not None:
            check_integer("patience", self.patience)
        if self.max_weight is not None:
            check_number("max_weight", self.max_weight)
        problems = {
            f"`epochs` must be at least 0, got {self.epochs}": not 0 <= self.epochs < math.inf,
            f"`batch_size` must be at least 1, got {self.batch_size}": self.batch_size < 1,
            f"`learning_rate` must be positive, got {self.learning_rate}": not 0 < self.learning_rate < math.inf,
            f"`warm_up` must be in [0, 1), got {self.warm_up}": not 0 <= self.warm_up < 1,
            f"`optimizer` must be one of {', '.join(OPTIMIZERS)}; got {self.optimizer!r}": (
                self.optimizer not in OPTIMIZERS
            ),
            f"`weight_decay` must be at least 0, got {self.weight_decay}": not 0 <= self.weight_decay < math.inf,
            f"`label_smoothing` must be in [0, 1), got {self.label_smoothing}": not 0 <= self.label_smoothing < 1,
            f"`augmentation` must be one of {', '.join(AUGMENTATIONS)}; got {self.augmentation!r}": (
                self.augmentation not in AUGMENTATIONS
            ),
            f"`patience` must be at least 1, got {self.patience}": self.patience is not None and self.patience < 1,
            f"`precision` must be one of {', '.join(PRECISIONS)}; got {self.precision!r}": (
                self.precision not in PRECISIONS
            ),
            f"`max_weight` must be positive, got {self.max_weight}": (
                self.max_weight is not None and not 0 < self.max_weight < math.inf
            ),
        }
        for problem, found in problems.items():
            if found:
                raise ArgumentError(problem)


@dataclass(frozen=True, slots=True, kw_only=True)
class Distillation:
    """Learning from the outputs of another network as well as from the classes of images.

    The loss is (1 - share) * cross-entropy + share * temperature^2 * the divergence of the outputs' probabilities at
    that temperature from the teacher's: Hinton et al., arXiv 1503.02531, 2015.

    Attributes:
        teacher: A trained classifier of the same images and classes. It is in evaluation mode afterwards.
        temperature: By what scores are divided before they become probabilities.
        share: Share of the loss that is the divergence from the teacher, in [0, 1].

    Raises:
        ArgumentError: If a value is out of range or of the wrong type.
    """

    teacher: nn.Module
    temperature: float = 4.0
    share: float = 0.9

    def __post_init__(self) -> None:
        check_model("teacher", self.teacher)
        check_number("temperature", self.temperature)
        check_number("share", self.share)
        if not 0 < self.temperature < math.inf:
            raise ArgumentError(f"`temperature` must be positive, got {self.temperature}")
        if not 0 <= self.share <= 1:
            raise ArgumentError(f"`share` must be in [0, 1], got {self.share}")


def fit(
    model: nn.Module,
    images: LabelledImages,
    schedule: Schedule,
    *,
    seed: int,
    masks: Mapping[str, Tensor] | None = None,
    validation: LabelledImages | None = None,
    bit_errors: FaultyMemory | Mapping[str, FaultyMemory | None] | None = None,
    distillation: Distillation | None = None,
    after_step: Callable[[int, int], None] | None = None,
) -> None:
    """Train in place on the cross-entropy, with `distillation` also on the outputs of another network.

    With `bit_errors`, the gradient of each step is the mean of two: with the stored weights, and with random bit errors
    in them, on a new chip in every step. So the network learns to tolerate faults (random bit error training; Stutz et
    al., MLSys 2021).

    Args:
        model: Any classifier of these images. With `bit_errors` it must come from `approximate`, and is off its chip
            afterwards.
        images: The training set.
        schedule: How long and how fast to train.
        seed: Seed of everything random: order and augmentation of the images, dropout, bit errors.
        masks: Layer name -> bool mask; masked weights are zero before and after every step. `after_step` may change
            them in place.
        validation: The images on which a schedule with patience measures accuracy.
        bit_errors: Faults of the weight memory during training; layer name -> faults if not all layers have the same.
        distillation: The network to learn from; None learns from the classes alone.
        after_step: Called after each step with the number of steps done and the total. It may measure the model, and
            may raise to stop.

    Raises:
        ArgumentError: If patience and validation images are not given together, there is no layer for bit errors or for
            a mask, the teacher has other outputs, or the network has nothing to train or does not train on a single
            image.
        DivergedError: If the loss stops being a number.
    """
    check_model("model", model)
    check_images("images", images)
    check_type("schedule", schedule, Schedule, "an approx.Schedule")
    check_integer("seed", seed)
    if masks is not None:
        check_names_to_tensors("masks", masks)
    if validation is not None:
        check_images("validation", validation)
    check_type("bit_errors", bit_errors, (FaultyMemory, Mapping, type(None)), "an approx.FaultyMemory or None")
    check_type("distillation", distillation, (Distillation, type(None)), "an approx.Distillation or None")
    if (schedule.patience is None) != (validation is None):
        raise ArgumentError("`validation` and a `schedule` with patience go together; pass both or neither")
    struck_memories = None if bit_errors is None else _struck_memories(model, bit_errors)
    masked = _masked(model, masks or {})
    clipped = [] if schedule.max_weight is None else [layer.weight for layer in _with_weights(model)]
    steps_per_epoch = len(_split(torch.arange(len(images)), schedule.batch_size))
    steps = round(schedule.epochs * steps_per_epoch)
    optimizer = _optimizer(model, schedule)
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps, schedule.warm_up))
    if struck_memories is not None:
        use_chip(model, None)
    best = _Best(schedule.patience)
    generator = torch.Generator().manual_seed(seed)
    with ExitStack() as contexts:
        # Layers such as dropout draw from the global generator, which other code may use.
        contexts.enter_context(torch.random.fork_rng(devices=[]))
        contexts.enter_context(in_layout(model, schedule.precision))
        if distillation is not None:
            contexts.enter_context(in_layout(distillation.teacher.eval(), schedule.precision))
        torch.manual_seed(seed)
        model.train()
        _limit(masked, clipped, schedule.max_weight)
        for step, batch in enumerate(_batches(len(images), schedule.batch_size, steps, generator)):
            inputs = images.inputs(batch)
            if schedule.augmentation == "crop-flip":
                inputs = _crop_and_flip(inputs, images.black, generator)
            examples = _Batch(laid_out(inputs, schedule.precision), images.labels[batch], schedule, distillation)
            optimizer.zero_grad()
            loss = examples.loss(model)
            if not loss.requires_grad:
                raise ArgumentError(
                    "the network cannot be trained: its output depends on no parameter that requires a gradient; call "
                    "requires_grad_() on it, and run no layer under torch.no_grad()"
                )
            if struck_memories is not None:
                with _on_faulty_chip(model, struck_memories, int(torch.randint(2**31, (), generator=generator))):
                    struck = examples.loss(model)
                loss = (loss + struck) / 2
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            rate.step()
            _limit(masked, clipped, schedule.max_weight)
            if not torch.isfinite(loss):
                raise DivergedError(
                    f"the loss became {loss.item()} in step {step + 1} of {steps}; lower `learning_rate`, which is "
                    f"{schedule.learning_rate:g}"
                )
            if validation is not None and ((step + 1) % steps_per_epoch == 0 or step + 1 == steps):
                if best.is_over(share_correct(model, validation), model):
                    break
                model.train()
            if after_step is not None:
                after_step(step + 1, steps)
                if not model.training:  # it measured the model
                    model.train()
    best.restore(model)
    model.eval()


def _with_weights(model: nn.Module) -> Iterator[WeightLayer | ApproxLayer]:
    """The layers whose weights are stored, converted or not."""
    for _, layer in (*weight_layers(model), *approx_layers(model)):
        yield layer


def _masked(model: nn.Module, masks: Mapping[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Weights with their masks."""
    weights = {name: layer.weight for name, layer in weight_layers(model)}
    if unknown := [name for name in masks if name not in weights]:
        raise ArgumentError(
            f"`masks` names {unknown[0]!r}, but the layers whose weights are plain parameters are "
            f"{', '.join(weights) or 'none'}"
        )
    return [(weights[name], mask) for name, mask in masks.items()]


def _optimizer(model: nn.Module, schedule: Schedule) -> torch.optim.Optimizer:
    parameters = list(model.parameters())
    groups = [
        {"params": [one for one in parameters if one.dim() > 1], "weight_decay": schedule.weight_decay},
        {"params": [one for one in parameters if one.dim() <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if schedule.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=schedule.learning_rate, momentum=0.9, nesterov=True, fused=True)
    return torch.optim.Adam(groups, lr=schedule.learning_rate, fused=True)


def _rate(step: int, steps: int, warm_up: float) -> float:
    """Share of the peak learning rate at a step."""
    rising = warm_up * steps
    if step < rising:
        return (step + 1) / (rising + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1.0, steps - rising)))


def _batches(count: int, batch_size: int, steps: int, generator: torch.Generator) -> Iterator[Tensor]:
    done = 0
    while done < steps:
        for batch in _split(torch.randperm(count, generator=generator), batch_size):
            if done == steps:
                return
            yield batch
            done += 1


def _split(images: Tensor, batch_size: int) -> list[Tensor]:
    """Batches of images; one that is left over joins the last batch, as BatchNorm cannot train on a single one."""
    batches: list[Tensor] = list(images.split(batch_size))  # type: ignore[no-untyped-call]
    if len(batches) > 1 and len(batches[-1]) == 1 < batch_size:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


@dataclass(frozen=True, slots=True)
class _Batch:
    """Images and classes of a step, and what is learned from them."""

    inputs: Tensor
    labels: Tensor
    schedule: Schedule
    distillation: Distillation | None
    _taught: list[Tensor] = field(default_factory=list)  # outputs of the teacher, once they are known

    def loss(self, model: nn.Module) -> Tensor:
        scores = self._scores(model)
        loss = F.cross_entropy(scores, self.labels, label_smoothing=self.schedule.label_smoothing)
        if self.distillation is None:
            return loss
        if not self._taught:
            with torch.no_grad():
                self._taught.append(self._scores(self.distillation.teacher))
        (taught,), heat = self._taught, self.distillation.temperature
        if taught.shape != scores.shape:
            raise ArgumentError(
                f"the `teacher` has outputs of shape {tuple(taught.shape)} where the network has {tuple(scores.shape)}"
            )
        divergence = F.kl_div(
            (scores / heat).log_softmax(1), (taught / heat).log_softmax(1), reduction="batchmean", log_target=True
        )
        return (1 - self.distillation.share) * loss + self.distillation.share * heat**2 * divergence

    def _scores(self, model: nn.Module) -> Tensor:
        try:
            with autocast(self.schedule.precision):
                scores = scores_of(model(self.inputs))
        except ValueError as error:
            if len(self.inputs) > 1:
                raise
            raise ArgumentError(
                f"the network cannot be trained on a single image ({error}); give more images, or a `batch_size` of at "
                "least 2"
            ) from error
        return scores.float() if scores.dtype == torch.bfloat16 else scores


def _crop_and_flip(inputs: Tensor, black: Tensor, generator: torch.Generator) -> Tensor:
    """The images, each shifted by up to a few pixels and filled with black, half of them mirrored.

    Black of normalised inputs is not zero. It is what torchvision's RandomCrop, which precedes Normalize, fills with.
    """
    images, _, height, width = inputs.shape
    margin = _CROP_MARGIN
    padded = black[:, None, None].repeat(images, 1, height + 2 * margin, width + 2 * margin)
    padded[:, :, margin:-margin, margin:-margin] = inputs
    down, right = torch.randint(2 * margin + 1, (2, images, 1), generator=generator)
    rows = down + torch.arange(height)
    columns = right + torch.arange(width)
    mirrored = torch.rand(images, 1, generator=generator) < 0.5
    columns = torch.where(mirrored, columns.flip(1), columns)
    return padded[torch.arange(images)[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _struck_memories(
    model: nn.Module, bit_errors: FaultyMemory | Mapping[str, FaultyMemory | None]
) -> list[tuple[ApproxLayer, FaultyMemory | None]]:
    """Layers with the memories that they have on faulty chips."""
    layers = dict(approx_layers(model))
    if not layers:
        raise ArgumentError("`bit_errors` needs a model with integer codes; convert it with approximate()")
    if isinstance(bit_errors, FaultyMemory):
        return [(layer, bit_errors) for layer in layers.values()]
    if layers.keys() != bit_errors.keys():
        name = next(iter(layers.keys() ^ bit_errors.keys()))
        raise ArgumentError(
            f"`bit_errors` must have a memory, or None, for each layer on codes and for no other; look at {name!r}"
        )
    for memory in bit_errors.values():
        check_type("bit_errors", memory, (FaultyMemory, type(None)), "an approx.FaultyMemory or None for each layer")
    return [(layer, bit_errors[name]) for name, layer in layers.items()]


@contextmanager
def _on_faulty_chip(
    model: nn.Module, memories: list[tuple[ApproxLayer, FaultyMemory | None]], chip_seed: int
) -> Iterator[None]:
    """Puts random bit errors into the weights; afterwards the model has its own memories and is off its chip."""
    own = [layer.weight_memory for layer, _ in memories]
    for layer, memory in memories:
        layer.weight_memory = memory
    use_chip(model, chip_seed)
    try:
        yield
    finally:
        for (layer, _), memory in zip(memories, own, strict=True):
            layer.weight_memory = memory
        use_chip(model, None)


class _Best:
    """The best network so far, for early stopping."""

    def __init__(self, patience: int | None) -> None:
        self._patience = patience
        self._accuracy = -1.0
        self._epochs_since = 0
        self._state: dict[str, Tensor] | None = None

    def is_over(self, found: float, model: nn.Module) -> bool:
        """Record an accuracy and return whether it has not improved for too long."""
        self._epochs_since += 1
        if found > self._accuracy:
            self._accuracy, self._epochs_since = found, 0
            self._state = {name: value.clone() for name, value in whole_state(model).items()}
        return self._patience is not None and self._epochs_since >= self._patience

    def restore(self, model: nn.Module) -> None:
        """Restore the best network, if one was recorded."""
        if self._state is not None:
            restore(model, self._state)


@torch.no_grad()
def _limit(masked: list[tuple[Tensor, Tensor]], clipped: list[Tensor], max_weight: float | None) -> None:
    for weight, mask in masked:
        weight.mul_(mask)
    if max_weight is not None:
        for weight in clipped:
            weight.clamp_(-max_weight, max_weight)
