import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from approx import FaultyMemory, LayerApproximation, NetworkApproximation, PartialSums
from approx.errors import ArgumentError

rates = st.floats(0, 1)
memories = st.builds(
    FaultyMemory,
    bit_error_rate=rates,
    robust_bits=st.integers(0, 12),
    robust_bit_error_rate=rates,
    storage=st.sampled_from(["twos-complement", "sign-magnitude"]),
    column_correlation=st.floats(0, 1, exclude_max=True),
    transient_rate=rates,
)
layers = st.builds(
    LayerApproximation,
    weight_bits=st.integers(2, 12),
    activation_bits=st.integers(2, 8),
    multiplier=st.sampled_from(["exact", "drum-4", "my own"]),
    gradient=st.sampled_from(["straight-through", "difference"]),
    granularity=st.sampled_from(["channel", "tensor"]),
    activation_signed=st.sampled_from([None, True, False]),
    calibration=st.sampled_from(["mse", "percentile"]),
    percentile=st.floats(50, 100, exclude_min=True),
    learned_scales=st.booleans(),
    weight_memory=st.none() | memories,
    activation_memory=st.none() | memories,
    partial_sums=st.none()
    | st.builds(PartialSums, bits=st.integers(2, 32), overflow=st.sampled_from(["saturate", "wrap"])),
)


@given(layers)
def test_a_configuration_read_back_from_json_is_itself(config: LayerApproximation) -> None:
    assert LayerApproximation.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"weight_bits": 1}, "`weight_bits` must be between 2 and 12, got 1"),
        ({"weight_bits": 13}, "`weight_bits` must be between 2 and 12, got 13"),
        ({"activation_bits": 1}, "`activation_bits` must be between 2 and 8, got 1"),
        ({"activation_bits": 9}, "`activation_bits` must be between 2 and 8, got 9"),
        (
            {"gradient": "none"},
            "`gradient` must be one of straight-through, difference, separable-difference; got 'none'",
        ),
        ({"gradient_window": 0}, "`gradient_window` must be at least 1, got 0"),
        ({"granularity": "row"}, "`granularity` must be one of channel, tensor; got 'row'"),
        ({"calibration": "max"}, "`calibration` must be one of mse, percentile; got 'max'"),
        ({"percentile": 50.0}, r"`percentile` must be above 50 and at most 100, got 50\.0"),
        ({"percentile": 100.1}, r"`percentile` must be above 50 and at most 100, got 100\.1"),
        ({"percentile": float("nan")}, "`percentile` must be above 50 and at most 100, got nan"),
    ],
)
def test_layers_that_cannot_be_are_refused(wrong: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ArgumentError, match=complaint):
        LayerApproximation(**wrong)


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"bit_error_rate": -0.1}, r"`bit_error_rate` must be in \[0, 1\], got -0\.1"),
        ({"bit_error_rate": 1.1}, r"`bit_error_rate` must be in \[0, 1\], got 1\.1"),
        ({"bit_error_rate": float("nan")}, r"`bit_error_rate` must be in \[0, 1\], got nan"),
        ({"robust_bit_error_rate": 2.0}, r"`robust_bit_error_rate` must be in \[0, 1\], got 2\.0"),
        ({"transient_rate": -1.0}, r"`transient_rate` must be in \[0, 1\], got -1\.0"),
        ({"robust_bits": -1}, "`robust_bits` must be between 0 and 12, got -1"),
        ({"robust_bits": 13}, "`robust_bits` must be between 0 and 12, got 13"),
        ({"column_correlation": 1.0}, r"`column_correlation` must be in \[0, 1\), got 1\.0"),
        ({"supply_share": 0}, "`supply_share` must be positive, got 0"),
        ({"storage": "ones-complement"}, "`storage` must be one of twos-complement, sign-magnitude; got 'ones-"),
    ],
)
def test_memories_that_cannot_be_are_refused(wrong: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ArgumentError, match=complaint):
        FaultyMemory(**{"bit_error_rate": 0.5, **wrong})


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"version": 2}, "version 2 cannot be read; this release reads version 1"),
        ({"version": None}, "version None cannot be read"),
        ({"bits": 4}, "unknown key 'bits' of LayerApproximation; keys are weight_bits"),
        ({"weight_memory": {"bit_error_rate": 0.1, "rate": 0.1}}, "unknown key 'rate' of FaultyMemory"),
        ({"weight_memory": {"bit_error_rate": 7}}, "`bit_error_rate` must be in"),
        ({"weight_bits": 99}, "`weight_bits` must be between"),
    ],
)
def test_what_this_release_cannot_read_is_refused(changed: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ArgumentError, match=complaint):
        LayerApproximation.from_dict({**LayerApproximation().to_dict(), **changed})


def test_a_configuration_without_a_version_is_refused() -> None:
    content = LayerApproximation().to_dict()
    del content["version"]
    with pytest.raises(ArgumentError, match="version None cannot be read"):
        LayerApproximation.from_dict(content)


def test_networks_do_not_share_their_overrides() -> None:
    one, other = (NetworkApproximation(default=LayerApproximation()) for _ in range(2))
    assert one == other
    assert one.overrides is not other.overrides
