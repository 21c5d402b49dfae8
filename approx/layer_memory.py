"""The codes of one layer in the memories of one chip, and codes that are reused while nothing changes."""

from __future__ import annotations

import torch
from torch import Tensor

from approx.arithmetic.native import never_changes
from approx.config import FaultyMemory, LayerApproximation
from approx.faults import FaultMap, fault_map, memory_seed, read_back


class LayerOnChip:
    """A layer's memories on one chip. The activations of every inference are in the same cells.

    Args:
        config: How the layer computes: the widths of its codes.
        name: Its name in the network.
        chip_seed: The number of the chip.
        activation_signed: Whether activation codes are signed.
        weight_format: How the multiplier takes weights, and so how they are stored unless the memory says otherwise.
        weight_memory: Faults of the weight memory; None is a perfect one.
        weight_faults: Its failed cells on this chip; None where it is perfect.
        activation_memory: Faults of the activation memory; None is a perfect one.
    """

    def __init__(
        self,
        config: LayerApproximation,
        *,
        name: str,
        chip_seed: int,
        activation_signed: bool,
        weight_format: str,
        weight_memory: FaultyMemory | None,
        weight_faults: FaultMap | None,
        activation_memory: FaultyMemory | None,
    ) -> None:
        self._config = config
        self._name = name
        self._chip_seed = chip_seed
        self._signed = activation_signed
        self._weights, self._activations = weight_memory, activation_memory
        self._weight_faults = weight_faults
        self._weight_storage = stored_format(weight_memory, weight_format)
        self._activation_faults: FaultMap | None = None
        self._reads = 0  # so that transient errors differ between reads

    @property
    def weights_are_steady(self) -> bool:
        """Whether every read of the weights gives the same codes."""
        return self._weights is None or self._weights.transient_rate == 0

    @property
    def strikes_activations(self) -> bool:
        """Whether the memory of the activations may change them."""
        return self._activations is not None

    def read_weights(self, codes: Tensor, mask: Tensor) -> Tensor:
        """Weight codes as they are read; pruned ones do not change unless they are stored."""
        memory = self._weights
        if memory is None:
            return codes
        assert self._weight_faults is not None
        bits = self._config.weight_bits
        stored = stored_words(memory, mask)
        storage = self._weight_storage
        read = read_back(codes, self._weight_faults.only(stored), bits=bits, signed=True, storage=storage)
        if self.weights_are_steady:
            return read
        struck = self._transient(memory, "weights", codes.numel(), bits).only(stored)
        return read_back(read, struck, bits=bits, signed=True, storage=storage)

    def read_activations(self, codes: Tensor) -> Tensor:
        """Activation codes as they are read, shape (images, ...)."""
        memory = self._activations
        assert memory is not None
        bits = self._config.activation_bits
        cells = codes[:1].numel()
        if not cells:
            return codes
        faults = self._activation_faults
        if faults is None or faults.size != cells:
            seed = memory_seed(self._chip_seed, f"activations of {self._name}")
            faults = fault_map(memory, words=cells, bits=bits, seed=seed)
            if not torch.compiler.is_compiling():  # a tracer's tensors hold nothing
                self._activation_faults = faults
        storage = stored_format(memory, "twos-complement")
        read = read_back(codes, faults.repeated(len(codes)), bits=bits, signed=self._signed, storage=storage)
        if memory.transient_rate == 0:
            return read
        struck = self._transient(memory, "activations", codes.numel(), bits)
        return read_back(read, struck, bits=bits, signed=self._signed, storage=storage)

    def _transient(self, memory: FaultyMemory, what: str, words: int, bits: int) -> FaultMap:
        self._reads += 1
        seed = memory_seed(self._chip_seed, f"reads of {what} of {self._name}", self._reads)
        return fault_map(FaultyMemory(bit_error_rate=memory.transient_rate), words=words, bits=bits, seed=seed)


def stored_format(memory: FaultyMemory | None, taken: str) -> str:
    """How a memory stores signed codes: as it says, or as whoever reads them takes them."""
    return taken if memory is None or memory.storage is None else memory.storage


def stored_words(memory: FaultyMemory, mask: Tensor) -> Tensor:
    """Which weights are stored in a memory, where a fault can change them: bool, shape of the mask."""
    return torch.ones_like(mask) if memory.stores_pruned else mask


class KeptCodes:
    """Codes as stored and as read, and copies of the tensors that they were computed from.

    Tensors count their changes, but miss those made by fused optimisers (torch 2.13), so contents are compared, which
    costs less than computing the codes again.
    """

    def __init__(self, stored: Tensor, depends_on: tuple[Tensor, ...]) -> None:
        self._stored = never_changes(stored)
        self._copies = tuple(tensor.detach().clone() for tensor in depends_on)
        self._chip: LayerOnChip | None = None
        self._read = self._stored

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return type(None), ()  # neither copied nor saved with the layer

    def are_of(self, tensors: tuple[Tensor, ...]) -> bool:
        """Whether the codes were computed from tensors with this content."""
        return all(
            copy.device == tensor.device and torch.equal(copy, tensor)
            for copy, tensor in zip(self._copies, tensors, strict=True)
        )

    def read(self, chip: LayerOnChip | None, mask: Tensor) -> Tensor:
        """The codes as read on a chip; None is a chip whose memories are perfect."""
        if chip is None:
            return self._stored
        if not chip.weights_are_steady:
            return chip.read_weights(self._stored, mask)
        if chip is not self._chip:
            self._chip, self._read = chip, never_changes(chip.read_weights(self._stored, mask))
        return self._read
