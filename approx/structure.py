"""The structure of a converted network as JSON: what runs in evaluation mode, in which order, on what.

torch.export traces the network, with each converted layer as one operation. So what is saved does not need the code
that the network was written in, and names every stride and padding. The traced network computes the same, to the bit,
and holds its layers and parameters under their own names.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind
from torch.fx import Node
from torch.utils._pytree import TreeSpec, tree_unflatten, treespec_dumps, treespec_loads

from approx.copying import copied
from approx.errors import ArgumentError, SavedModelError
from approx.inputs import InOneArgument, Inputs, of_any_size
from approx.layer import ApproxLayer
from approx.modules import ApproxConvTranspose2d, geometry
from approx.surgery import approx_layers, replace_everywhere, take_over

_CONSTANTS = "constants"
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{
        f"operator.{name}": getattr(operator, name)
        for name in (
            "add", "sub", "mul", "truediv", "floordiv", "mod", "neg", "pow", "getitem",
            "eq", "ne", "lt", "le", "gt", "ge", "and_", "or_", "not_",
        )
    },
    **{f"math.{name}": getattr(math, name) for name in ("floor", "ceil", "trunc", "sqrt")},
    **{f"torch.{name}": getattr(torch, name) for name in ("sym_max", "sym_min", "sym_not", "sym_float", "sym_int")},
}  # fmt: skip
_NAMES = {function: name for name, function in _FUNCTIONS.items()}
_TYPES = {"dtype": torch.dtype, "layout": torch.layout, "memory_format": torch.memory_format}


@torch.library.custom_op("crosslayer::converted_layer", mutates_args=())
def _converted_layer(
    input: Tensor,
    layer: str,
    outputs: int,
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    pad: Sequence[int],
    upsampling: Sequence[int],
) -> Tensor:
    """A converted layer in a trace; the values it has there do not matter."""
    raise NotImplementedError


@_converted_layer.register_fake
def _(
    input: Tensor,
    layer: str,
    outputs: int,
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    pad: Sequence[int],
    upsampling: Sequence[int],
) -> Tensor:
    if not kernel:
        return input.new_empty((*input.shape[:-1], outputs))
    sizes = []
    for axis, size in enumerate(input.shape[-len(kernel) :]):
        before, after = pad[2 * (len(kernel) - 1 - axis) : 2 * (len(kernel) - axis)]
        room = (size - 1) * upsampling[axis] + 1 + before + after - dilation[axis] * (kernel[axis] - 1)
        sizes.append((room - 1) // stride[axis] + 1)
    return input.new_empty((*input.shape[: -len(kernel) - 1], outputs, *sizes))


class _Traced(nn.Module):
    """Stands for a converted layer in a trace."""

    def __init__(self, name: str, layer: ApproxLayer) -> None:
        super().__init__()
        self._name = name
        self._layer = [layer]  # in a list, so that its parameters are not this module's
        take_over(layer, self)

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        (layer,) = self._layer
        found = geometry(layer)
        pad = found.pad
        if output_size is not None:
            assert isinstance(layer, ApproxConvTranspose2d)
            pad = layer.pad_to(output_size, input)
        traced: Tensor = torch.ops.crosslayer.converted_layer(
            input, self._name, found.outputs, found.kernel, found.stride, found.dilation, pad, found.upsampling
        )
        return traced


def structure_of(model: nn.Module, example_input: Inputs) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the structure of a converted network, and the constants that it uses.

    Args:
        model: From `approximate`; it is not changed.
        example_input: A batch of its inputs.

    Returns:
        A JSON object for `SavedNetwork`; name -> tensor.

    Raises:
        ArgumentError: If it cannot be traced for batches of any size, or does what cannot be saved.
    """
    traced = copied(model).eval()
    for name, layer in list(approx_layers(traced)):
        traced = replace_everywhere(traced, layer, _Traced(name, layer))
    inputs, shapes = of_any_size(example_input)
    try:
        with torch.no_grad():
            program = torch.export.export(InOneArgument(traced), (inputs,), dynamic_shapes=(shapes,))
    except Exception as error:  # from the network's code, or from torch if it cannot follow it
        words = str(error).strip().splitlines() or [""]
        raise ArgumentError(
            f"the network cannot be traced for batches of any size: {type(error).__name__}: {words[0]}"
        ) from error
    given = list(inputs) if isinstance(inputs, Mapping) else None if isinstance(inputs, Tensor) else len(inputs)
    return _as_json(program, given)


def _as_json(program: ExportedProgram, given: object) -> tuple[dict[str, Any], dict[str, Tensor]]:
    specs = {spec.arg.name: spec for spec in program.graph_signature.input_specs}
    nodes, constants, users, outputs = [], {}, 0, None
    for node in program.graph.nodes:
        if node.op == "placeholder":
            spec = specs[node.name]
            if spec.kind is InputKind.USER_INPUT:
                nodes.append({"name": node.name, "input": users})
                users += 1
            elif spec.kind in (InputKind.PARAMETER, InputKind.BUFFER):
                nodes.append({"name": node.name, "tensor": spec.target.removeprefix(InOneArgument.PREFIX)})
            elif spec.kind is InputKind.CONSTANT_TENSOR:
                name = f"{_CONSTANTS}.{spec.target.replace('.', '_')}"
                constants[name] = program.constants[spec.target]
                nodes.append({"name": node.name, "tensor": name})
            else:
                raise ArgumentError(f"the network cannot be saved: it uses {spec.target!r}, which is no tensor")
        elif node.op == "output":
            outputs = [_value(one) for one in node.args[0]]
        elif node.op == "call_function":
            nodes.append(_call(node))
        else:
            raise ArgumentError(f"the network cannot be saved: what runs depends on the values of {node.name!r}")
    used = _names_in([*(one.get("args", []) for one in nodes), *(one.get("kwargs", {}) for one in nodes), outputs])
    assert program.call_spec.out_spec is not None
    structure = {
        "inputs": given,
        "nodes": [one for one in nodes if one["name"] in used or "call" in one or "layer" in one],
        "outputs": outputs,
        "output_form": treespec_dumps(program.call_spec.out_spec),
    }
    return structure, constants


def _call(node: Node) -> dict[str, Any]:
    if node.target is torch.ops.crosslayer.converted_layer.default:
        names = ("layer", "outputs", "kernel", "stride", "dilation", "pad", "upsampling")
        given = dict(zip(names, map(_value, node.args[1:]), strict=True))
        return {"name": node.name, **given, "args": [_value(node.args[0])]}
    args, kwargs = list(node.args), dict(node.kwargs)
    if isinstance(node.target, torch._ops.OpOverload) and node.target.namespace == "aten":
        call = str(node.target)
        kwargs = _named(node.target, args[1:], kwargs)
        del args[1:]
    elif node.target in _NAMES:
        call = _NAMES[node.target]
    else:
        raise ArgumentError(
            f"the network cannot be saved: it runs {node.target}, which is none of torch's own operations"
        )
    return {
        "name": node.name,
        "call": call,
        "args": [_value(one) for one in args],
        **({"kwargs": {name: _value(one) for name, one in kwargs.items()}} if kwargs else {}),
    }


def _named(operation: torch._ops.OpOverload, positional: Sequence[Any], named: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of one of torch's operations after its first, under their names.

    Of pooling, whose kernels, strides and paddings hardware needs, also those that are left at their defaults.
    """
    parameters = operation._schema.arguments[1:]
    given = {**dict(zip((one.name for one in parameters), positional, strict=False)), **named}
    pools = "pool" in str(operation)
    return {one.name: given.get(one.name, one.default_value) for one in parameters if one.name in given or pools}


def _value(value: Any) -> Any:
    """A value of a trace as JSON."""
    if isinstance(value, Node):
        return {"of": value.name}
    if isinstance(value, list | tuple):
        return [_value(one) for one in value]
    for name, kind in _TYPES.items():
        if isinstance(value, kind):
            return {name: str(value).removeprefix("torch.")}
    if isinstance(value, torch.device):
        return {"device": "cpu"}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ArgumentError(f"the network cannot be saved: an operation takes {value!r}")


def _names_in(value: Any) -> set[str]:
    if isinstance(value, Mapping):
        return {value["of"]} if "of" in value else set().union(*map(_names_in, value.values()))
    return set().union(*map(_names_in, value)) if isinstance(value, list) else set()


class SavedNetwork(nn.Module):
    """A network of a saved structure, with its layers and tensors under the names that they had.

    Args:
        structure: From `structure_of`.
        layers: Name -> layer.
        parameters: Name -> parameter of anything else.
        buffers: Name -> buffer of anything else.

    Raises:
        SavedModelError: If something in the structure is not known here.
    """

    def __init__(
        self,
        structure: Mapping[str, Any],
        layers: Mapping[str, ApproxLayer],
        parameters: Mapping[str, nn.Parameter],
        buffers: Mapping[str, Tensor],
    ) -> None:
        super().__init__()
        for name, layer in layers.items():
            self._owner(name).add_module(name.rpartition(".")[2], layer)
        for name, parameter in parameters.items():
            self._owner(name).register_parameter(name.rpartition(".")[2], parameter)
        for name, buffer in buffers.items():
            self._owner(name).register_buffer(name.rpartition(".")[2], buffer)
        self._structure = structure
        self._calls = {node["call"]: _function(node["call"]) for node in structure["nodes"] if "call" in node}
        self._last_uses = _last_uses(structure)

    def _owner(self, name: str) -> nn.Module:
        """The module that holds a name, made if need be."""
        module: nn.Module = self
        for part in name.split(".")[:-1]:
            if part not in module._modules:
                module.add_module(part, nn.Module())
            module = module.get_submodule(part)
        return module

    def forward(self, *given: Tensor, **named: Tensor) -> Any:
        """Apply the network to inputs, given as when it was saved."""
        inputs = self._inputs(given, named)
        values: dict[str, Any] = {}
        for node, last in zip(self._structure["nodes"], self._last_uses, strict=True):
            values[node["name"]] = self._run(node, values, inputs)
            for name in last:
                del values[name]
        outputs = [_read(one, values) for one in self._structure["outputs"]]
        return tree_unflatten(outputs, _form(self._structure["output_form"]))

    def _inputs(self, given: tuple[Tensor, ...], named: dict[str, Tensor]) -> list[Tensor]:
        expected = self._structure["inputs"]
        names = expected if isinstance(expected, list) else []
        count = len(names) if names else expected or 1
        inputs: dict[Any, Tensor] = {**dict(zip(names or range(count), given, strict=False)), **named}
        if len(given) > count or set(inputs) != set(names or range(count)):
            wanted = f"the inputs {', '.join(names)}" if names else f"{count} input{'' if count == 1 else 's'}"
            raise ArgumentError(f"the network takes {wanted}, got {len(given)} and {', '.join(named) or 'no names'}")
        return [inputs[name] for name in names or range(count)]

    def _run(self, node: Mapping[str, Any], values: Mapping[str, Any], inputs: Sequence[Tensor]) -> Any:
        if "input" in node:
            return inputs[node["input"]]
        if "tensor" in node:
            owner, _, name = node["tensor"].rpartition(".")
            return getattr(self.get_submodule(owner), name)
        args = _read(node["args"], values)
        if "layer" in node:
            layer = self.get_submodule(node["layer"])
            if isinstance(layer, ApproxConvTranspose2d):
                return layer(*args, pad=tuple(_read(node["pad"], values)))
            return layer(*args)
        kwargs = {name: _read(one, values) for name, one in node.get("kwargs", {}).items()}
        return self._calls[node["call"]](*args, **kwargs)


@functools.lru_cache(maxsize=64)
def _form(text: str) -> TreeSpec:
    return treespec_loads(text)


def _read(value: Any, values: Mapping[str, Any]) -> Any:
    """A value from its form as JSON."""
    if isinstance(value, list):
        return [_read(one, values) for one in value]
    if not isinstance(value, Mapping):
        return value
    ((kind, content),) = value.items()
    if kind == "of":
        return values[content]
    if kind == "device":
        return torch.device(content)
    return float(content) if kind == "float" else getattr(torch, content)


def _function(name: str) -> Callable[..., Any]:
    if name in _FUNCTIONS:
        return _FUNCTIONS[name]
    namespace, *parts = name.split(".")
    found: Any = torch.ops.aten if namespace == "aten" and len(parts) == 2 and parts[0] != "from_file" else None
    try:
        for part in parts:
            found = getattr(found, part)
    except AttributeError:
        found = None
    if not isinstance(found, torch._ops.OpOverload):
        raise SavedModelError(f"the saved network runs {name!r}, which this version of torch does not have")
    return found


def _last_uses(structure: Mapping[str, Any]) -> list[list[str]]:
    """For each node, the values that nothing after it needs."""
    kept = _names_in(structure["outputs"])
    uses: list[list[str]] = []
    for node in reversed(structure["nodes"]):
        names: Iterable[str] = _names_in([node.get("args", []), node.get("kwargs", {}), node.get("pad", [])])
        uses.append([name for name in {*names, node["name"]} if name not in kept])
        kept |= set(names) | {node["name"]}
    return uses[::-1]
