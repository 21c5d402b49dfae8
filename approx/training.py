"""Training and measuring, on image sets that fit in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from approx.convert import weight_layers
from approx.errors import ApproxError, ArgumentError


class DivergedError(ApproxError):
    """Training reached a loss that is not a number."""


@dataclass(frozen=True, slots=True, eq=False)
class LabelledImages:
    """Images as stored, and their classes.

    Attributes:
        pixels: uint8, shape (N, C, H, W).
        labels: int64, shape (N,).
        pixel_max: The pixel value that stands for 1.0.

    Raises:
        ArgumentError: If the numbers of images and labels differ.
    """

    pixels: Tensor
    labels: Tensor
    pixel_max: int

    def __post_init__(self) -> None:
        if len(self.pixels) != len(self.labels):
            raise ArgumentError(f"{len(self.pixels)} images but {len(self.labels)} labels")

    def __len__(self) -> int:
        return len(self.labels)

    def inputs(self, index: Tensor | slice) -> Tensor:
        """Network inputs in [0, 1]: float32, shape (n, C, H, W)."""
        return self.pixels[index].to(torch.float32) / self.pixel_max


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How long and how fast to train.

    Attributes:
        epochs: Passes over the images, rounded to a whole number of steps; 0 leaves the network as it is.
        batch_size: Images per step.
        learning_rate: Adam's rate at the start; it falls to zero along half a cosine.
    """

    epochs: float
    batch_size: int
    learning_rate: float


def fit(
    model: nn.Module,
    images: LabelledImages,
    schedule: Schedule,
    *,
    seed: int,
    masks: Mapping[str, Tensor] | None = None,
) -> None:
    """Train in place with Adam on the cross-entropy.

    Args:
        model: Any classifier of these images.
        images: The training set.
        schedule: How long and how fast.
        seed: Of the order of the images.
        masks: Layer name -> bool mask; masked weights are zero before and after every step.

    Raises:
        DivergedError: If the loss stops being a number.
    """
    masked = [(layer.weight, masks[name]) for name, layer in weight_layers(model) if masks and name in masks]
    steps_per_epoch = -(-len(images) // schedule.batch_size)
    steps = round(schedule.epochs * steps_per_epoch)
    optimizer = torch.optim.Adam(model.parameters(), lr=schedule.learning_rate, fused=True)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps))
    model.train()
    _apply_masks(masked)
    for batch in _batches(len(images), schedule.batch_size, steps, seed):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images.inputs(batch)), images.labels[batch])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        cosine.step()
        _apply_masks(masked)
        if not torch.isfinite(loss):
            raise DivergedError(f"the loss became {loss.item()} during training")
    model.eval()


@torch.no_grad()
def accuracy(model: nn.Module, images: LabelledImages, *, batch_size: int = 1000) -> float:
    """Share of images whose largest output is their class, in [0, 1]."""
    model.eval()
    correct = 0
    for start in range(0, len(images), batch_size):
        batch = slice(start, start + batch_size)
        guess = model(images.inputs(batch)).argmax(dim=1)
        correct += int((guess == images.labels[batch]).sum())
    return correct / len(images)


def _batches(count: int, batch_size: int, steps: int, seed: int) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    done = 0
    while done < steps:
        for batch in torch.randperm(count, generator=generator).split(batch_size):  # type: ignore[no-untyped-call]
            if done == steps:
                return
            yield batch
            done += 1


@torch.no_grad()
def _apply_masks(masked: list[tuple[Tensor, Tensor]]) -> None:
    for weight, mask in masked:
        weight.mul_(mask)
