"""Convolutions by the fastest exact method of a multiplier, without checks and gradients."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from approx.arithmetic import native, portable
from approx.arithmetic.geometry import Geometry
from approx.arithmetic.portable import Rescale, as_kernel, weight_indices
from approx.multipliers.multiplier import MAX_TABLE_BITS, Multiplier, check_multiplier
from approx.quantization import CodeFormat


def method(multiplier: Multiplier, groups: int = 1) -> str:
    """The method by which products with this multiplier are computed on this machine, in words.

    Args:
        multiplier: The multiplier.
        groups: Groups of the convolution.
    """
    check_multiplier("multiplier", multiplier)
    where = "native" if native.load() is not None else "torch"
    if _uses_products(multiplier, groups):
        terms = multiplier.factors.terms if multiplier.factors else 0
        return f"{where}: {'an exact product' if terms == 1 else f'a sum of at most {terms} exact products'}"
    return f"{where}: row tables"


def _uses_products(multiplier: Multiplier, groups: int) -> bool:
    factors = multiplier.factors
    if factors is None:
        return False
    if max(multiplier.activation_bits, multiplier.weight_bits) > MAX_TABLE_BITS or native.load() is None:
        return True
    return groups == 1 and factors.fits_bytes and integer_matmul_is_exact()


@cache
def integer_matmul_is_exact() -> bool:
    """Whether torch's 8-bit integer matrix product can be used: it is fast and exact on CPUs with VNNI instructions.

    Without them the underlying library adds pairs of products in 16 bits, which saturate for extreme operands.
    """
    if not (torch._C._has_mkldnn and torch.backends.cpu.get_cpu_capability().startswith("AVX")):
        return False
    right = torch.tensor([-128, 127], dtype=torch.int8)[:, None].repeat(64, 64)
    for extremes, dtype in (((-128, 127), torch.int8), ((0, 255), torch.uint8)):
        left = torch.tensor(extremes, dtype=dtype).repeat(64, 64)
        for a in (left, left.flip(1), left[:, :1].repeat(1, 128), left[:, 1:2].repeat(1, 128)):
            for b in (right, right.flip(0), right[:1].repeat(128, 1), right[1:2].repeat(128, 1)):
                if not torch.equal(torch._int_mm(a, b), a.to(torch.int32) @ b.to(torch.int32)):
                    return False
    return True


def convolve(
    activations: Tensor,
    code_format: CodeFormat,
    weight_codes: Tensor,
    multiplier: Multiplier,
    geometry: Geometry,
    rescale: Rescale | None,
) -> Tensor:
    """The convolution by the fastest exact method.

    Args:
        activations: Contiguous; float32 values, or operand codes (uint8, or int32 if they have more than 8 bits).
        code_format: How values are quantised.
        weight_codes: Exact integers (not indices), of four dimensions, or of two for a matrix product.
        multiplier: The multiplier.
        geometry: Geometry of the convolution.
        rescale: How sums become values; None returns the sums.

    Returns:
        int32 sums, or float32 values, shape (images, outputs, out height, out width).
    """
    if torch.is_autocast_enabled(activations.device.type):  # its lower precision would not be exact
        with torch.autocast(activations.device.type, enabled=False):
            return convolve(activations, code_format, weight_codes, multiplier, geometry, rescale)
    if activations.numel() == 0 or weight_codes.numel() == 0:  # sums of nothing
        sums = portable.empty_output(activations, weight_codes, geometry, None).zero_()
        return portable.finished(sums, activations, rescale)
    library = native.load() if activations.device.type == "cpu" else None
    products = _uses_products(multiplier, geometry.groups)
    if library is None or (products and max(multiplier.activation_bits, multiplier.weight_bits) > MAX_TABLE_BITS):
        indices = as_kernel(weight_indices(weight_codes, multiplier))
        if products:
            assert multiplier.factors is not None
            return portable.product_convolution(
                activations, code_format, indices, multiplier.factors, geometry, rescale
            )
        lut = multiplier.table().to(activations.device)
        return portable.table_convolution(activations, code_format, indices, lut, geometry, rescale)
    if products:
        return library.product_convolution(activations, code_format, weight_codes, multiplier, geometry, rescale)
    return library.table_convolution(activations, code_format, weight_codes, multiplier, geometry, rescale)
