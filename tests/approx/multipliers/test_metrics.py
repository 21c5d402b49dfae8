from itertools import product

import pytest

from approx import error_metrics, find_multiplier, multiplier_from_function


def test_metrics_by_hand() -> None:
    """Two-bit operands, the product 3 x 3 being 7 and 0 x 1 being 1."""

    def function(a: int, w: int) -> int:
        return {(3, 3): 7, (0, 1): 1}.get((a, w), a * w)

    multiplier = multiplier_from_function("two", function, signed=False, weight_bits=2, activation_bits=2)
    metrics = error_metrics(multiplier)
    assert metrics.mae == 3 / 16
    assert metrics.wce == 2
    assert metrics.mre_nonzero == pytest.approx((2 / 9) / 9)
    assert metrics.mre_all == pytest.approx((2 / 9 + 1) / 16)
    assert metrics.mse == 5 / 16
    assert metrics.error_probability == 2 / 16
    assert metrics.bias == -1 / 16
    assert metrics.commutative is False
    assert metrics.zero_preserving is False
    assert metrics.error_rank == 2


def test_metrics_of_signed_operands() -> None:
    multiplier = multiplier_from_function("up", lambda a, w: a * w + (a == -4), signed=True, activation_bits=3)
    metrics = error_metrics(multiplier)
    pairs = list(product(range(-4, 4), range(-128, 128)))
    wrong = [(a, w) for a, w in pairs if a == -4]
    assert metrics.error_probability == len(wrong) / len(pairs)
    assert metrics.bias == metrics.mae == len(wrong) / len(pairs)
    nonzero = [abs(a * w) for a, w in pairs if a * w]
    assert metrics.mre_nonzero == pytest.approx(sum(1 / abs(a * w) for a, w in wrong if w) / len(nonzero))
    assert metrics.commutative is None
    assert metrics.error_rank == 1


@pytest.mark.slow
def test_the_exact_multiplier_has_no_error() -> None:
    for bits in (2, 8, 12):
        metrics = error_metrics(
            find_multiplier("exact", weight_bits=bits, activation_bits=bits, activation_signed=True)
        )
        assert metrics.mae == metrics.wce == metrics.mse == metrics.error_probability == metrics.bias == 0
        assert metrics.commutative is True
        assert metrics.zero_preserving is True
        assert metrics.error_rank == (None if bits == 12 else 0)
