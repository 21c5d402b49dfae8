"""Attention in layers of its own computes what torch's does, and is not computed past them."""

import copy
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from approx import LayerApproximation, NetworkApproximation, approx_layers, approximate
from approx.attention import SplitAttention, can_split
from approx.errors import ArgumentError
from approx.surgery import split_attention

WIDTH, HEADS, BATCH, QUERIES, KEYS = 8, 2, 3, 5, 4


def real(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def seeded(module: nn.Module) -> nn.Module:
    with torch.no_grad():
        for number, parameter in enumerate(module.parameters()):
            parameter.copy_(real(*parameter.shape, seed=number) * 0.5)
    return module.eval()


def attention(**options: Any) -> nn.MultiheadAttention:
    made = seeded(nn.MultiheadAttention(WIDTH, HEADS, **options))
    assert isinstance(made, nn.MultiheadAttention)
    return made


def same(found: tuple[Tensor, Tensor | None], expected: tuple[Tensor, Tensor | None]) -> None:
    assert (found[1] is None) == (expected[1] is None)
    for a, b in zip(found, expected, strict=True):
        if a is not None and b is not None:
            assert a.shape == b.shape
            assert torch.allclose(a, b, atol=1e-5)


def sequences(*, batch_first: bool, batched: bool, key_width: int = WIDTH, value_width: int = WIDTH) -> list[Tensor]:
    found = [real(BATCH, QUERIES, WIDTH), real(BATCH, KEYS, key_width, seed=1), real(BATCH, KEYS, value_width, seed=2)]
    if not batched:
        return [one[0] for one in found]
    return found if batch_first else [one.transpose(0, 1) for one in found]


MASKS: dict[str, dict[str, Tensor]] = {
    "none": {},
    "bool": {"attn_mask": real(QUERIES, KEYS, seed=3) > 0.7},
    "float": {"attn_mask": real(QUERIES, KEYS, seed=3)},
    "of each head": {"attn_mask": real(BATCH * HEADS, QUERIES, KEYS, seed=3) > 0.9},
    "padding": {"key_padding_mask": torch.arange(KEYS) >= torch.tensor([[2], [4], [1]])},
    "float padding": {"key_padding_mask": real(BATCH, KEYS, seed=4)},
    "both": {
        "attn_mask": real(QUERIES, KEYS, seed=3) > 1,
        "key_padding_mask": torch.arange(KEYS) >= torch.tensor([[3], [4], [3]]),
    },
}


def for_one(masks: dict[str, Tensor]) -> dict[str, Tensor]:
    """The masks of the first sequence."""
    found = {}
    for name, mask in masks.items():
        found[name] = mask[0] if name == "key_padding_mask" else mask[:HEADS] if mask.dim() == 3 else mask
    return found


@pytest.mark.parametrize("masks", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("options", [{}, {"bias": False}, {"kdim": 6, "vdim": 7}], ids=["", "no bias", "other widths"])
def test_it_computes_what_torchs_does(
    options: dict[str, Any], batched: bool, batch_first: bool, masks: dict[str, Tensor]
) -> None:
    original = attention(batch_first=batch_first, **options)
    inputs = sequences(
        batch_first=batch_first,
        batched=batched,
        key_width=options.get("kdim", WIDTH),
        value_width=options.get("vdim", WIDTH),
    )
    split, given = SplitAttention(original), masks if batched else for_one(masks)
    for weights in ({}, {"need_weights": False}, {"average_attn_weights": False}):
        same(split(*inputs, **given, **weights), original(*inputs, **given, **weights))


def test_it_is_torchs_fast_path_that_it_computes_too() -> None:
    original, inputs = attention(batch_first=True), real(BATCH, KEYS, WIDTH)
    with torch.no_grad():
        found, expected = (made(inputs, inputs, inputs) for made in (SplitAttention(original), original))
    same(found, expected)


def test_causal_masks_are_masks() -> None:
    original, inputs = attention(), real(QUERIES, BATCH, WIDTH)
    mask = nn.Transformer.generate_square_subsequent_mask(QUERIES)
    split = SplitAttention(original)
    for needed in (True, False):
        options = {"attn_mask": mask, "is_causal": True, "need_weights": needed}
        same(split(inputs, inputs, inputs, **options), original(inputs, inputs, inputs, **options))
    with pytest.raises(ArgumentError, match="which is missing; pass both"):
        split(inputs, inputs, inputs, is_causal=True)


@pytest.mark.parametrize("need_weights", [True, False])
def test_gradients_and_dropout_are_torchs(need_weights: bool) -> None:
    original = attention(batch_first=True, dropout=0.4).train()
    split = SplitAttention(original)
    assert split.training
    inputs = real(BATCH, KEYS, WIDTH).requires_grad_()

    def computed(made: nn.Module) -> tuple[Tensor, Tensor]:
        torch.manual_seed(0)
        out: Tensor = made(inputs, inputs, inputs, need_weights=need_weights)[0]
        return out, torch.autograd.grad(out.square().sum(), inputs)[0]

    found, expected = computed(split), computed(original)
    assert torch.allclose(found[0], expected[0], atol=1e-5)
    assert torch.allclose(found[1], expected[1], atol=1e-4)
    assert not torch.allclose(found[0], computed(split.eval())[0], atol=1e-2)


def test_frozen_attention_stays_frozen() -> None:
    frozen = SplitAttention(attention().requires_grad_(False))
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    assert all(parameter.requires_grad for parameter in SplitAttention(attention()).parameters())


class OwnAttention(nn.MultiheadAttention):
    def forward(self, query: Tensor, key: Tensor, value: Tensor, **more: Any) -> Any:  # type: ignore[override]
        return super().forward(2 * query, key, value, **more)


class SelfAttention(nn.Module):
    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, inputs: Tensor) -> Tensor:
        out: Tensor = self.attention(inputs, inputs, inputs, need_weights=False)[0]
        return out


@pytest.mark.parametrize(
    "other",
    [
        attention(add_bias_kv=True, batch_first=True),
        attention(add_zero_attn=True, batch_first=True),
        OwnAttention(WIDTH, HEADS, batch_first=True),
    ],
)
def test_attention_that_does_more_is_named_or_left(other: nn.MultiheadAttention) -> None:
    model = nn.Sequential(SelfAttention(other), nn.Linear(WIDTH, 3))
    data, eight = real(BATCH, KEYS, WIDTH), LayerApproximation()
    assert can_split(other) == isinstance(other, OwnAttention)
    with torch.no_grad(), pytest.raises(ArgumentError, match=r"0\.attention\.(out_proj|in_proj)"):
        approximate(model, eight, calibration_data=data)
    config = NetworkApproximation(default=eight, overrides={"0.attention*": None})
    for asked in (config, NetworkApproximation(default=eight, leave_unsupported=True)):
        converted = approximate(model, asked, calibration_data=data)
        assert [name for name, _ in approx_layers(converted)] == ["1"]
        assert (converted(data) - model(data)).abs().mean() < 0.05


# ---- torch's transformers ----------------------------------------------------------------------------------------


def encoder_layer(**options: Any) -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(WIDTH, HEADS, 16, batch_first=True, **options)


def transformers() -> dict[str, nn.Module]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of nested tensors
        made = {
            "layer": encoder_layer(),
            "norm first": encoder_layer(norm_first=True, activation="gelu"),
            "no bias": encoder_layer(bias=False),
            "encoder": nn.TransformerEncoder(encoder_layer(), 2),
            "encoder with norm": nn.TransformerEncoder(encoder_layer(), 2, norm=nn.LayerNorm(WIDTH)),
        }
    return {name: seeded(one) for name, one in made.items()}


TRANSFORMERS = transformers()


def padded() -> dict[str, Tensor]:
    """Sequences of lengths 4, 2 and 3."""
    return {"src_key_padding_mask": torch.arange(KEYS) >= torch.tensor([[4], [2], [3]])}


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")  # which torch's own fast path uses
@pytest.mark.parametrize("model", TRANSFORMERS.values(), ids=TRANSFORMERS)
@pytest.mark.parametrize("masked", [False, True])
def test_transformers_compute_what_torchs_do(model: nn.Module, masked: bool) -> None:
    data, options = real(BATCH, KEYS, WIDTH), padded() if masked else {}
    split = split_attention(copy.deepcopy(model))
    kept = ~options["src_key_padding_mask"] if masked else torch.ones(BATCH, KEYS, dtype=torch.bool)
    for gradients in (True, False):
        with torch.set_grad_enabled(gradients):
            assert torch.allclose(split(data, **options)[kept], model(data, **options)[kept], atol=1e-4)


@pytest.mark.parametrize("model", TRANSFORMERS.values(), ids=TRANSFORMERS)
@pytest.mark.parametrize("masked", [False, True])
def test_every_layer_of_a_transformer_runs_in_inference(model: nn.Module, masked: bool) -> None:
    data, options = real(BATCH, KEYS, WIDTH), padded() if masked else {}
    converted = approximate(model, LayerApproximation(), calibration_data=data)
    ran: list[str] = []
    names = [layer for layer, _ in approx_layers(converted)]
    assert len(names) == 6 * (2 if isinstance(model, nn.TransformerEncoder) else 1)
    with torch.no_grad():
        found = converted(data, **options)  # before there are hooks, which alone would keep torch from its fast path
        for layer_name, layer in approx_layers(converted):
            layer.register_forward_hook(lambda *_, layer=layer_name: ran.append(layer))
        assert torch.equal(converted(data, **options), found)
    assert ran == names
    assert torch.equal(converted(data, **options), found)
    with torch.inference_mode():
        assert torch.equal(converted(data, **options), found)
    kept = ~options["src_key_padding_mask"] if masked else torch.ones(BATCH, KEYS, dtype=torch.bool)
    assert 0 < (found - model(data, **options))[kept].abs().mean() < 0.1
    coarse = approximate(model, LayerApproximation(weight_bits=2), calibration_data=data)
    assert not torch.allclose(coarse(data, **options)[kept], model(data, **options)[kept], atol=0.1)


def test_a_whole_transformer_is_converted_with_its_decoder() -> None:
    class Translator(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.transformer = nn.Transformer(WIDTH, HEADS, 1, 1, 16, batch_first=True)

        def forward(self, inputs: Tensor) -> Tensor:
            mask = nn.Transformer.generate_square_subsequent_mask(inputs.shape[1])
            out: Tensor = self.transformer(inputs, inputs.flip(1), tgt_mask=mask)
            return out

    model, data = seeded(Translator()), real(BATCH, KEYS, WIDTH)
    converted = approximate(model, LayerApproximation(), calibration_data=data)
    assert len(list(approx_layers(converted))) == 6 + 10
    out = converted(data)
    assert (out - model(data)).abs().mean() < 0.1
    out.square().sum().backward()
    assert all(parameter.grad is not None for parameter in converted.parameters())


def test_attention_under_several_names_is_split_once() -> None:
    shared = SelfAttention(attention(batch_first=True))
    model = nn.Sequential(shared, shared)
    data = real(BATCH, KEYS, WIDTH)
    converted = approximate(model, LayerApproximation(), calibration_data=data)
    assert len(list(approx_layers(converted))) == 4
    assert converted[0].attention is converted[1].attention  # type: ignore[index]
    assert (converted(data) - model(data)).abs().mean() < 0.1
