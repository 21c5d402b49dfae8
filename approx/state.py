"""All tensors of a network that training may change, as one dictionary."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn


def whole_state(model: nn.Module) -> dict[str, Tensor]:
    """The state dict of a network, and the buffers that it leaves out because they are not persistent."""
    state = model.state_dict()
    return {**state, **{name: buffer for name, buffer in model.named_buffers() if name not in state}}


def restore(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give a network the tensors of its `whole_state` at another time."""
    own = model.state_dict().keys()
    model.load_state_dict({name: value for name, value in state.items() if name in own})
    for name, value in state.items():
        if name not in own:
            module, _, buffer = name.rpartition(".")
            model.get_submodule(module).register_buffer(buffer, value.clone(), persistent=False)
