"""Observing a network while it runs: the inputs of its layers, their order, and the users of their outputs.

Nothing is assumed about how a network is written: it is run on calibration data, and every operation is watched.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import inf, isfinite
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from approx.arithmetic.pooling import MaxPool2
from approx.copying import copied
from approx.inputs import Inputs, run
from approx.outputs import tensors_in

_SAMPLED_VALUES = 2**15  # of each input of each layer
_MOST_SAMPLED = 2**21  # of all inputs of a layer
UNREGISTERED = "a parameter"  # so begins the name of one that belongs to no module of the network
# Operations that multiply activations by weights, by the names under which torch dispatches them.
_MULTIPLYING = {
    "convolution", "_convolution", "conv_tbc", "addmm", "mm", "bmm", "baddbmm", "addbmm", "mv", "addmv", "dot",
    "linear", "_trilinear", "_native_multi_head_attention", "_transformer_encoder_layer_fwd",
    "mkldnn_rnn_layer", "lstm", "gru", "rnn_tanh", "rnn_relu", "_thnn_fused_lstm_cell", "_thnn_fused_gru_cell",
}  # fmt: skip
_MULTIPLYING_VECTORS = {"mv", "addmv", "dot"}  # where a one-dimensional parameter is not a bias
_ADDING = {"addmm", "baddbmm", "addbmm", "addmv"}  # their first operand is added to the product of the others
_ATTENTION = "_scaled_dot_product_"  # so begin operations that multiply queries, keys and values, and add a mask


@dataclass(slots=True)
class LayerInputs:
    """The inputs that reached a layer.

    Attributes:
        calls: Number of times the layer ran.
        least: The smallest value.
        largest: The largest magnitude; infinity if a value was not finite.
        samples: Values drawn at random from each call.
        sampled: Number of values drawn from a call, at most: fewer the more calls there are.
    """

    calls: int = 0
    least: float = inf
    largest: float = 0.0
    samples: list[Tensor] = field(default_factory=list)
    sampled: int = _SAMPLED_VALUES

    def see(self, values: Tensor, generator: torch.Generator) -> None:
        """Record the input of one call."""
        self.calls += 1
        flat = values.detach().flatten()
        if not flat.numel():
            return
        low, high = (float(one) for one in flat.aminmax())
        self.least = min(self.least, low)
        self.largest = max(self.largest, -low, high) if isfinite(high - low) else inf
        if flat.numel() > self.sampled:
            chosen = torch.randint(flat.numel(), (self.sampled,), generator=generator)
            flat = flat[chosen.to(flat.device)]
        self.samples.append(flat.clone())
        if len(self.samples) * self.sampled > _MOST_SAMPLED and self.sampled > 1:
            self.sampled //= 2
            self.samples = [one if len(one) <= self.sampled else one[::2].clone() for one in self.samples]

    def sample(self) -> Tensor:
        """All sampled values: shape (n,)."""
        return torch.cat(self.samples)


@dataclass(frozen=True, slots=True)
class Observation:
    """What was observed of a network.

    Attributes:
        inputs: Layer name -> its inputs, in the order in which layers first ran.
        foldable: Layer name -> name of the BatchNorm right after it, if nothing else uses or keeps the layer's output.
        other_weights: Names of parameters that were multiplied outside these layers, directly or after operations on
            parameters and constants alone.
    """

    inputs: Mapping[str, LayerInputs]
    foldable: Mapping[str, str]
    other_weights: tuple[str, ...]


def observe(
    model: nn.Module,
    layers: Iterable[str],
    norms: Iterable[str],
    batches: Iterable[Inputs],
) -> Observation:
    """Run a copy of a network, whose runs may change what it holds, and observe it.

    Args:
        model: The network, in evaluation mode.
        layers: Names of layers whose inputs are wanted.
        norms: Names of BatchNorms that may be folded into one of the layers.
        batches: Batches of network inputs.
    """
    watched = copied(model)
    watch = _Watch(watched, *({name: watched.get_submodule(name) for name in names} for names in (layers, norms)))
    try:
        with torch.no_grad():
            for batch in batches:
                with watch:
                    watch.finish_run(run(watched, batch))
    finally:
        watch.close()
    return watch.observation()


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, model: nn.Module, layers: Mapping[str, nn.Module], norms: Mapping[str, nn.Module]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._generator = torch.Generator().manual_seed(0)
        self._inputs: dict[str, LayerInputs] = {}
        self._layers = layers
        constants = [one for module in model.modules() for one in tensors_in(vars(module))]
        parameters = dict(model.named_parameters())
        self._held = [
            *constants,
            *model.buffers(),
            *parameters.values(),
        ]  # so that no other tensor reuses their storage
        self._given = {_place(one): "" for one in self._held} | {_place(one): name for name, one in parameters.items()}
        # Storage of weights, of constants, and of what a run computed from them alone -> the name of a parameter in it;
        # empty where there is none.
        self._weights = dict(self._given)
        self._computed: list[Tensor] = []  # kept during a run, so that no other tensor reuses their storage
        self._other_weights: dict[str, None] = {}
        self._inside = 0  # layers that are running
        self._outputs: dict[int, tuple[str, Tensor]] = {}  # kept, so that no other tensor reuses their identity
        self._uses: dict[str, int] = {}
        self._normed: dict[str, set[str]] = {}
        self._norm_calls: dict[str, int] = {}
        self._handles = []
        for name, layer in layers.items():
            self._handles += [
                layer.register_forward_pre_hook(self._enter(name), with_kwargs=True),
                layer.register_forward_hook(self._leave(name)),
            ]
        self._handles += [
            norm.register_forward_pre_hook(self._norm(name), with_kwargs=True) for name, norm in norms.items()
        ]
        self._handles += [  # what its kernel reads is not dispatched
            module.register_forward_pre_hook(self._pool, with_kwargs=True)
            for module in model.modules()
            if isinstance(module, MaxPool2)
        ]

    def _enter(self, name: str) -> Any:
        def hook(module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
            self._inside += 1
            given = arguments[0] if arguments else named["input"]
            self._inputs.setdefault(name, LayerInputs()).see(given, self._generator)

        return hook

    def _leave(self, name: str) -> Any:
        def hook(module: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> None:
            self._inside -= 1
            self._outputs[id(output)] = (name, output)

        return hook

    def _norm(self, name: str) -> Any:
        def hook(module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
            self._norm_calls[name] = self._norm_calls.get(name, 0) + 1
            given = arguments[0] if arguments else named["input"]
            layer, _ = self._outputs.get(id(given), (None, None))
            # BatchNorm normalises the second dimension, which for other ranks is not that of the layer's outputs.
            if layer is not None and given.dim() == self._layers[layer].weight.dim():  # type: ignore[operator]
                self._normed.setdefault(layer, set()).add(name)

        return hook

    def _pool(self, module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        self._use(arguments[0] if arguments else named["input"])

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        with self:  # in inference mode composite operations are not decomposed
            parts = func.decompose(*args, **kwargs)
        if parts is not NotImplemented:
            return parts
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        for tensor in tensors:
            self._use(tensor)
            if isinstance(tensor, nn.Parameter) and _place(tensor) not in self._weights:
                self._weights[_place(tensor)] = f"{UNREGISTERED} of shape {tuple(tensor.shape)}"
                self._computed.append(tensor)
        result = func(*args, **kwargs)
        if self._inside == 0:
            self._follow_weights(func, args, tensors, result)
        return result

    def _follow_weights(self, func: Any, args: Any, tensors: list[Tensor], result: Any) -> None:
        operation = func.overloadpacket.__name__
        names = [self._weights.get(_place(tensor)) for tensor in tensors]
        is_attention = operation.startswith(_ATTENTION)
        if operation in _MULTIPLYING or is_attention:
            multiplied = slice(0, 3) if is_attention else slice(operation in _ADDING, None)
            for name, tensor in list(zip(names, tensors, strict=True))[multiplied]:
                if name and (tensor.dim() > 1 or operation in _MULTIPLYING_VECTORS):
                    self._other_weights[name] = None
        elif None not in names:
            for leaf in tree_leaves(result):
                if isinstance(leaf, Tensor) and _place(leaf) not in self._weights:
                    self._weights[_place(leaf)] = next(filter(None, names), "")
                    self._computed.append(leaf)
        elif func._schema.is_mutable:  # activations are written into what was constant so far
            for argument, value in zip(func._schema.arguments, args, strict=False):
                if argument.is_write and isinstance(value, Tensor) and _place(value) not in self._given:
                    self._weights.pop(_place(value), None)

    def _use(self, tensor: Tensor) -> None:
        name, _ = self._outputs.get(id(tensor), (None, None))
        if name is not None:
            self._uses[name] = self._uses.get(name, 0) + 1

    def finish_run(self, output: object) -> None:
        """Count what the network's output, its modules or anything else hold of layers' outputs as used.

        Args:
            output: What the network returned, which is kept until then.
        """
        held = [(name, weakref.ref(tensor)) for name, tensor in self._outputs.values()]
        self._outputs.clear()
        for name, reference in held:
            if reference() is not None:
                self._uses[name] = self._uses.get(name, 0) + 1
        self._weights = dict(self._given)
        self._computed.clear()

    def close(self) -> None:
        for handle in self._handles:
            handle.remove()

    def observation(self) -> Observation:
        foldable = {}
        for layer, norms in self._normed.items():
            (norm, *others) = norms
            calls = self._inputs[layer].calls
            if not others and self._uses.get(layer) == calls == self._norm_calls[norm]:
                foldable[layer] = norm
        shared = [norm for norm in foldable.values() if list(foldable.values()).count(norm) > 1]
        return Observation(
            self._inputs,
            {layer: norm for layer, norm in foldable.items() if norm not in shared},
            tuple(self._other_weights),
        )


def _place(tensor: Tensor) -> int:
    """Identity of a tensor's storage, which its views share."""
    if tensor.layout != torch.strided or tensor.device.type == "meta" or not tensor.numel():
        return id(tensor)
    return tensor.untyped_storage().data_ptr()
