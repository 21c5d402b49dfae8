"""The native kernels of `approx/csrc`, if the installation has them: a plain shared library, called through ctypes.

The library computes integer sums of approximate products; everything else is done with torch alone
(`approx.arithmetic.portable`), with the same numbers. Threads are torch's own: `torch.set_num_threads` is honoured.
"""

from __future__ import annotations

import ctypes
import math
import os
import threading
from collections.abc import Callable
from ctypes import c_char_p, c_int64, c_void_p
from functools import cache
from pathlib import Path
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

import approx
from approx.arithmetic import abi
from approx.arithmetic.geometry import Geometry
from approx.arithmetic.portable import Rescale, as_kernel, empty_output, finished, operand_range, weight_indices
from approx.errors import ArgumentError
from approx.multipliers.methods import RowTable
from approx.multipliers.multiplier import Multiplier
from approx.partial_sums import PartialSums
from approx.quantization import CodeFormat

_T = TypeVar("_T")

NATIVE_VARIABLE = "CROSSLAYER_NATIVE"
_LIBRARY_NAMES = ("crosslayer_native.so", "crosslayer_native.dylib", "crosslayer_native.dll")
_PATCH_BYTES = 2**22  # operands laid out for one matrix product: they stay in the cache
_SLACK = 64  # bytes that kernels may read behind packed pixels, as in kernel.h
_POSITIONS = 64  # of a block of saturating sums, as in saturating_sums.cpp
_MULTIPLIED_TERMS = 2  # of its products; those of more terms are looked up
_KEPT_BYTES = 2**26  # larger scratch memory is released after each call


# Weight codes that never change -> what kernels derived from them.
_never_changing = WeakIdKeyDictionary()


def never_changes(weight_codes: Tensor) -> Tensor:
    """Mark weight codes as constant: what a kernel derives from them is kept with them."""
    _never_changing[weight_codes] = {}
    return weight_codes


def _source(activations: Tensor, code_format: CodeFormat, geometry: Geometry) -> abi.Input:
    images, channels, height, width = activations.shape
    return abi.Input(
        activations.data_ptr(),
        images,
        channels,
        height,
        width,
        *geometry.padding,
        activations.dtype == torch.float32,
        code_format.scale,
        code_format.low,
        code_format.high,
        code_format.mask,
    )


def _empty_pixels(values: Tensor) -> Tensor:
    return torch.empty(values.shape, dtype=torch.bfloat16, memory_format=torch.channels_last)


def _geometry(geometry: Geometry, out: Tensor) -> abi.Geometry:
    return abi.Geometry(*geometry.kernel, *geometry.stride, *geometry.dilation, *out.shape[2:])


def _output(out: Tensor, rescale: Rescale | None) -> abi.Output:
    if rescale is None:
        return abi.Output(out.data_ptr(), None, None, None)
    bias = None if rescale.bias is None else rescale.bias.data_ptr()
    return abi.Output(None, out.data_ptr(), rescale.scale.data_ptr(), bias)


def _pooling(
    values: Tensor, *, pooled: int | None = None, upstream: int | None = None, gradient: int | None = None
) -> abi.Pooling:
    *maps, height, width = values.shape
    return abi.Pooling(values.data_ptr(), math.prod(maps), height, width, pooled, upstream, gradient)


def _as_indices(weight_codes: Tensor, multiplier: Multiplier) -> Tensor:
    """Operand codes as bytes."""
    return weight_indices(weight_codes, multiplier).to(torch.uint8).contiguous()


def _matmul_columns(outputs: int) -> int:
    """The number of columns to which outputs are padded: torch takes up to twice as long for other numbers."""
    if outputs == 1:
        return 1
    return 8 if outputs <= 8 else -(-outputs // 16) * 16


def _integer_matmul(left: Tensor, right: Tensor, *, out: Tensor) -> None:
    """`left @ right.T` of matrices of bytes, in int32; the right matrix is signed."""
    if left.shape[1] < 2:  # torch 2.13 gets these wrong
        torch.matmul(left.to(torch.int32), right.T.to(torch.int32), out=out)
    else:
        torch._int_mm(left, right.T, out=out)


class Library:
    """The shared library, and which of its builds is in use."""

    def __init__(self, path: Path) -> None:
        self._calls = ctypes.CDLL(str(path))
        self._calls.crosslayer_choose_build.restype = c_char_p
        self._calls.crosslayer_packed_bytes.restype = c_int64
        # A C symbol of libtorch since 2.10; its threads are shared with all other torch operations.
        self._parallel_for = getattr(ctypes.CDLL(torch._C.__file__), "torch_parallel_for", None)
        self.build = self.choose_build(None)
        self._kept = threading.local()

    def choose_build(self, name: str | None) -> str:
        """Use the named build, or the best for this CPU.

        Raises:
            ArgumentError: If there is no such build, or this CPU cannot run it.
        """
        chosen = self._calls.crosslayer_choose_build(None if name is None else name.encode())
        if chosen is None:
            raise ArgumentError(f"the native kernel has no build {name!r} that runs on this CPU")
        self.build = str(chosen.decode())
        return self.build

    def table_convolution(
        self,
        activations: Tensor,
        code_format: CodeFormat,
        weight_codes: Tensor,
        multiplier: Multiplier,
        geometry: Geometry,
        rescale: Rescale | None,
    ) -> Tensor:
        """Convolution by row tables; see `approx.arithmetic.portable.table_convolution`.

        Args:
            activations: Contiguous, float32 or uint8.
            code_format: How they are quantised.
            weight_codes: Exact integers (not indices) in any type.
            multiplier: A multiplier with operands of at most 8 bits.
            geometry: Geometry of the convolution.
            rescale: How sums become values.
        """
        indices = self._prepared(weight_codes, multiplier, _as_indices)
        tables = multiplier.row_tables
        if len(tables) == 1:
            return self._by_rows(activations, code_format, indices, tables[0], geometry, rescale)
        # A table wider than 16 bits: the sums of its halves, which wrap as one sum would.
        low, high = (self._by_rows(activations, code_format, indices, table, geometry, None) for table in tables)
        return finished(low + (high << 16), activations, rescale)

    def product_convolution(
        self,
        activations: Tensor,
        code_format: CodeFormat,
        weight_codes: Tensor,
        multiplier: Multiplier,
        geometry: Geometry,
        rescale: Rescale | None,
    ) -> Tensor:
        """Convolution by products of bytes, for one group and factors of 8 bits; see `table_convolution`."""
        if self._has_byte_products:
            return self._by_bytes(activations, code_format, weight_codes, multiplier, geometry, rescale)
        operands, correction, activation_bytes, as_they_are = self._prepared(weight_codes, multiplier, self._operands)
        out = empty_output(activations, weight_codes, geometry, rescale)
        outputs, positions = out.shape[1], out.shape[2] * out.shape[3]
        at_once = max(1, _PATCH_BYTES // max(1, positions * operands.shape[1]))
        dense = geometry == Geometry() and activations.shape[2:] == (1, 1)
        if dense and as_they_are and activations.dtype == torch.uint8 and rescale is None:
            _integer_matmul(activations[:, :, 0, 0], operands[:outputs], out=out[:, :, 0, 0])  # nothing to lay out
            return out
        bad = False
        for start in range(0, len(activations), at_once):
            part = activations[start : start + at_once]
            patches, part_bad = self._patches(part, code_format, activation_bytes, geometry, out, operands.shape[1])
            bad |= part_bad
            part_out = out[start : start + at_once]
            if dense and rescale is None and not correction.any():
                _integer_matmul(patches, operands[:outputs], out=part_out[:, :, 0, 0])
                continue
            columns = len(operands)
            size = 4 * len(patches) * columns
            sums = self._scratch("sums", size)[:size].view(torch.int32).view(len(patches), columns)
            _integer_matmul(patches, operands, out=sums)
            job = abi.Rescale(
                _output(part_out, rescale),
                sums.data_ptr(),
                correction.data_ptr(),
                len(part),
                positions,
                len(correction),
                columns,
            )
            self._calls.crosslayer_rescale(ctypes.byref(job), ctypes.byref(self._threads()))
        return out.fill_(torch.nan) if bad else out

    @property
    def _has_byte_products(self) -> bool:
        """Whether the build multiplies bytes itself, instead of laying out matrices for torch's product."""
        return self.build.endswith("-vnni")

    def _by_bytes(
        self,
        activations: Tensor,
        code_format: CodeFormat,
        weight_codes: Tensor,
        multiplier: Multiplier,
        geometry: Geometry,
        rescale: Rescale | None,
    ) -> Tensor:
        prepare = self._byte_operands if geometry.dilation[1] == 1 else self._byte_operands_apart
        weights, correction, factors = self._prepared(weight_codes, multiplier, prepare)
        out = empty_output(activations, weight_codes, geometry, rescale)
        job = abi.ByteConvolution(
            _source(activations, code_format, geometry),
            _geometry(geometry, out),
            _output(out, rescale),
            out.shape[1],
            factors.data_ptr(),
            *factors.shape,
            weights.data_ptr(),
            correction.data_ptr(),
        )
        self._calls.crosslayer_byte_convolution(ctypes.byref(job), ctypes.byref(self._threads()))
        return out

    def _byte_operands(self, weight_codes: Tensor, multiplier: Multiplier) -> tuple[Tensor, Tensor, Tensor]:
        """Weights as `_by_bytes` needs them, where the bytes under a kernel row are contiguous.

        Returns:
            int8, as `CrosslayerByteConvolution` wants them; int32 corrections, shape (outputs,); uint8, shape (terms,
            activation codes).
        """
        return self._in_quads(weight_codes, multiplier, as_kernel(weight_codes).shape[2])

    def _byte_operands_apart(self, weight_codes: Tensor, multiplier: Multiplier) -> tuple[Tensor, Tensor, Tensor]:
        """The same where a kernel is dilated along its rows."""
        height, width = as_kernel(weight_codes).shape[2:]
        return self._in_quads(weight_codes, multiplier, height * width)

    def _in_quads(self, weight_codes: Tensor, multiplier: Multiplier, runs: int) -> tuple[Tensor, Tensor, Tensor]:
        operands, correction, factors, _ = self._operands(weight_codes, multiplier)
        outputs = len(correction)
        rows = operands[:outputs].view(outputs, runs, -1)
        blocks, quads = -(-outputs // 16), -(-rows.shape[2] // 4)
        padded = F.pad(rows, (0, 4 * quads - rows.shape[2], 0, 0, 0, 16 * blocks - outputs))
        weights = padded.view(blocks, 16, runs * quads, 4).transpose(1, 2).contiguous()
        if factors.dtype == torch.int8:  # bytes are unsigned there: each is 128 more
            factors = (factors.to(torch.int16) + 128).to(torch.uint8)
            correction = correction - 128 * operands[:outputs].sum(1, dtype=torch.int32)
        return weights, correction, factors

    def _operands(self, weight_codes: Tensor, multiplier: Multiplier) -> tuple[Tensor, Tensor, Tensor, bool]:
        """Weight factors, corrections for the shift of the activation factors, and the activation factors.

        Terms to which no weight contributes are left out.

        Returns:
            int8, shape (outputs and some rows of zeros, kernel height x kernel width x terms x channels), as the
            patches are ordered; int32, shape (outputs,); int8 or uint8, shape (terms, activation codes); whether
            activation codes are multiplied directly.
        """
        factors = multiplier.factors
        assert factors is not None
        codes = as_kernel(weight_codes).contiguous()
        if codes.dtype != torch.float32:
            weight_indices(codes, multiplier)
            codes = codes.to(torch.float32)
        outputs, channels, height, width = codes.shape
        low, high = operand_range(multiplier.weight_bits, multiplier.weight_signed)
        used = torch.empty(factors.terms, dtype=torch.bool)
        rows = _matmul_columns(outputs)
        operands = torch.empty(factors.terms * rows * codes[0].numel(), dtype=torch.int8)
        correction = torch.empty(outputs, dtype=torch.int32)
        indices = self._scratch("indices", codes.numel())
        job = abi.Weights(
            codes.data_ptr(),
            outputs,
            channels,
            height * width,
            low,
            high,
            2**multiplier.weight_bits - 1,
            factors.weight_bytes.data_ptr(),
            factors.activation_shift.data_ptr(),
            *factors.weight_bytes.shape,
            indices.data_ptr(),
            used.data_ptr(),
            operands.data_ptr(),
            correction.data_ptr(),
        )
        terms = self._calls.crosslayer_weight_operands(ctypes.byref(job))
        if terms < 0:
            weight_indices(codes, multiplier)  # raises the error that says what is wrong
        activation_bytes = factors.activation_bytes if terms == factors.terms else factors.activation_bytes[used]
        operands = operands[: terms * rows * codes[0].numel()].view(rows, -1)
        operands[outputs:] = 0
        return operands, correction, activation_bytes, factors.keeps_activations

    def _patches(
        self,
        activations: Tensor,
        code_format: CodeFormat,
        activation_bytes: Tensor,
        geometry: Geometry,
        out: Tensor,
        inner: int,
    ) -> tuple[Tensor, bool]:
        """Operands of every position as rows, and whether any activation is NaN."""
        images, channels, height, width = activations.shape
        terms, entries = activation_bytes.shape
        rows = images * out.shape[2] * out.shape[3]
        patches = self._scratch("patches", rows * inner)[: rows * inner].view(rows, inner)
        packed = None
        if geometry != Geometry():
            padded = (height + 2 * geometry.padding[0]) * (width + 2 * geometry.padding[1])
            packed = self._scratch("packed", images * padded * terms * channels + _SLACK)
        job = abi.Patches(
            _source(activations, code_format, geometry),
            _geometry(geometry, out),
            activation_bytes.data_ptr(),
            terms,
            entries,
            None if packed is None else packed.data_ptr(),
            patches.data_ptr(),
        )
        bad = self._calls.crosslayer_patches(ctypes.byref(job), ctypes.byref(self._threads()))
        return patches.view(activation_bytes.dtype), bool(bad)

    def _by_rows(
        self,
        activations: Tensor,
        code_format: CodeFormat,
        indices: Tensor,
        table: RowTable,
        geometry: Geometry,
        rescale: Rescale | None,
    ) -> Tensor:
        source = _source(activations, code_format, geometry)
        out = empty_output(activations, indices, geometry, rescale)
        packed = self._scratch("packed", self._calls.crosslayer_packed_bytes(ctypes.byref(source)))
        job = abi.TableConvolution(
            source,
            _geometry(geometry, out),
            _output(out, rescale),
            indices.shape[0],
            geometry.groups,
            indices.data_ptr(),
            table.columns.data_ptr(),
            table.column_least.data_ptr(),
            table.columns.shape[1],
            packed.data_ptr(),
        )
        self._calls.crosslayer_table_convolution(ctypes.byref(job), ctypes.byref(self._threads()))
        return out

    def _prepared(
        self, weight_codes: Tensor, multiplier: Multiplier, prepare: Callable[[Tensor, Multiplier], _T]
    ) -> _T:
        """The weights as a kernel needs them, kept as long as the tensor exists if it never changes."""
        prepared = _never_changing.get(weight_codes)  # type: ignore[no-untyped-call]
        if prepared is None:
            return prepare(weight_codes, multiplier)
        key = (multiplier.digest, prepare)
        if key not in prepared:
            prepared[key] = prepare(weight_codes, multiplier)
        found: _T = prepared[key]
        return found

    def saturating_sums(
        self,
        codes: Tensor,
        positions: Tensor,
        weights: Tensor,
        multiplier: Multiplier,
        geometry: Geometry,
        partial_sums: PartialSums,
    ) -> tuple[Tensor, int]:
        """`approx.arithmetic.portable.saturating_sums`, for operands of at most 8 bits and sums of at most 31.

        Args:
            codes: Contiguous uint8 operand codes, shape (images, channels, height, width).
            positions: bool, shape (images * positions,): those of which sums are made.
            weights: As for the other, and so are the rest.
            multiplier: The multiplier.
            geometry: Geometry of the convolution, for a group of it.
            partial_sums: Width of the running sums.
        """
        inner, outputs = weights.shape
        rows, order = self._code_patches(codes, geometry, inner)
        rows, by_output = rows[positions], weights.T.to(torch.uint8).contiguous()
        factors, columns = multiplier.factors, None
        if factors is None or factors.terms > _MULTIPLIED_TERMS:
            factors, columns = None, multiplier.table().T.contiguous()
        sums = torch.empty(len(rows), outputs, dtype=torch.int32)
        saturated = torch.empty(-(-len(rows) // _POSITIONS), dtype=torch.int64)
        job = abi.SaturatingSums(
            rows.data_ptr(),
            order.data_ptr(),
            by_output.data_ptr(),
            None if columns is None else columns.data_ptr(),
            None if factors is None else factors.activation.data_ptr(),
            None if factors is None else factors.weight.data_ptr(),
            0 if factors is None else factors.terms,
            len(rows),
            inner,
            outputs,
            2**multiplier.activation_bits,
            2**multiplier.weight_bits,
            partial_sums.low,
            partial_sums.high,
            sums.data_ptr(),
            saturated.data_ptr(),
        )
        self._calls.crosslayer_saturating_sums(ctypes.byref(job), ctypes.byref(self._threads()))
        return sums, int(saturated.sum())

    def _code_patches(self, codes: Tensor, geometry: Geometry, inner: int) -> tuple[Tensor, Tensor]:
        """The codes under the kernel at each position, and where in them that of each weight is.

        Returns:
            uint8, shape (images * positions, inner), valid until the next call from this thread; int64, shape (inner,).
        """
        itself = torch.arange(256, dtype=torch.int32, device="cpu").to(torch.uint8)[None]
        out = torch.empty(1, 1, *geometry.out_size(codes.shape[2], codes.shape[3]), device="meta")
        rows, _ = self._patches(codes, CodeFormat(8, False, 1.0), itself, geometry, out, inner)
        by_kernel = torch.arange(inner, device="cpu").reshape(*geometry.kernel, -1)  # patches have channels last
        return rows, by_kernel.permute(2, 0, 1).flatten()

    def codes_as_floats(self, values: Tensor, code_format: CodeFormat) -> Tensor:
        """`approx.arithmetic.portable.codes_as_floats`; the result is valid until the next call from this thread."""
        size = 4 * values.numel()
        codes = self._scratch("codes", size)[:size].view(torch.float32).view(values.shape)
        source = _source(values.reshape(1, 1, 1, -1), code_format, Geometry())
        self._calls.crosslayer_codes_as_floats(
            ctypes.byref(source), c_void_p(codes.data_ptr()), ctypes.byref(self._threads())
        )
        return codes

    def codes_as_pixels(self, values: Tensor, code_format: CodeFormat) -> Tensor:
        """The codes of values in bfloat16, which holds codes of 8 bits exactly, in torch's channels-last layout.

        Args:
            values: Contiguous float32, shape (images, channels, height, width).
            code_format: How they are quantised.
        """
        pixels = _empty_pixels(values)
        source = _source(values, code_format, Geometry())
        self._calls.crosslayer_codes_as_pixels(
            ctypes.byref(source), c_void_p(pixels.data_ptr()), ctypes.byref(self._threads())
        )
        return pixels

    def values_as_pixels(self, values: Tensor) -> Tensor:
        """Values rounded to bfloat16, in the same layout; see `codes_as_pixels`."""
        pixels = _empty_pixels(values)
        source = _source(values, CodeFormat(8, False, 1.0), Geometry())
        self._calls.crosslayer_values_as_pixels(
            ctypes.byref(source), c_void_p(pixels.data_ptr()), ctypes.byref(self._threads())
        )
        return pixels

    def pixels_unless_clipped(self, pixels: Tensor, values: Tensor, code_format: CodeFormat) -> Tensor:
        """A gradient in that layout as contiguous float32, with zeros where quantisation clips the value."""
        gradient = torch.empty_like(values)
        source = _source(values, code_format, Geometry())
        self._calls.crosslayer_pixels_unless_clipped(
            ctypes.byref(source),
            c_void_p(pixels.data_ptr()),
            c_void_p(gradient.data_ptr()),
            ctypes.byref(self._threads()),
        )
        return gradient

    def clear_clipped(self, gradient: Tensor, values: Tensor, code_format: CodeFormat) -> Tensor:
        """`approx.arithmetic.portable.clear_clipped`, in place."""
        source = _source(values.reshape(1, 1, 1, -1), code_format, Geometry())
        self._calls.crosslayer_clear_clipped(
            ctypes.byref(source), c_void_p(gradient.data_ptr()), ctypes.byref(self._threads())
        )
        return gradient

    def largest_of_four(self, values: Tensor) -> Tensor:
        """`torch.max_pool2d(values, 2)`.

        Args:
            values: Contiguous float32, shape (..., height, width).
        """
        pooled = torch.empty(*values.shape[:-2], *(size // 2 for size in values.shape[-2:]))
        job = _pooling(values, pooled=pooled.data_ptr())
        self._calls.crosslayer_largest_of_four(ctypes.byref(job), ctypes.byref(self._threads()))
        return pooled

    def largest_of_four_gradient(self, values: Tensor, upstream: Tensor) -> Tensor:
        """Gradient of `largest_of_four`.

        Args:
            values: As for `largest_of_four`.
            upstream: Contiguous float32, the gradient of the pooled values.
        """
        gradient = torch.empty_like(values)
        job = _pooling(values, upstream=upstream.data_ptr(), gradient=gradient.data_ptr())
        self._calls.crosslayer_largest_of_four_gradient(ctypes.byref(job), ctypes.byref(self._threads()))
        return gradient

    def _scratch(self, purpose: str, size: int) -> Tensor:
        """At least `size` bytes, kept by this thread: fresh memory from the system costs more than filling it."""
        kept: Tensor | None = getattr(self._kept, purpose, None)
        if kept is None or len(kept) < size:
            kept = torch.empty(size, dtype=torch.int8, device="cpu")
            if size <= _KEPT_BYTES:
                setattr(self._kept, purpose, kept)
        return kept

    def _threads(self) -> abi.Threads:
        if self._parallel_for is None:
            return abi.Threads(None, 1)
        return abi.Threads(ctypes.cast(self._parallel_for, c_void_p), torch.get_num_threads())

    @property
    def uses_torch_threads(self) -> bool:
        """Whether it runs on torch's threads; otherwise it uses one thread."""
        return self._parallel_for is not None


@cache
def load() -> Library | None:
    """The library, or None if it was not built, does not load, or is switched off by CROSSLAYER_NATIVE=0."""
    path = _find()
    if path is None or _switched_off():
        return None
    try:
        return Library(path)
    except OSError:
        return None


def why_not_loaded() -> str:
    """Why `load` returns None, and what to do about it."""
    if _switched_off():
        return f"the native kernel is switched off by {NATIVE_VARIABLE}=0"
    path = _find()
    if path is None:
        return (
            "the native kernel was not built; install a C++ compiler (on Debian: apt-get install g++), then reinstall"
        )
    try:
        ctypes.CDLL(str(path))
    except OSError as error:
        return f"{path} does not load ({error}); reinstall on this machine"
    return "the native kernel is available"


def _switched_off() -> bool:
    return os.environ.get(NATIVE_VARIABLE) == "0"


def _find() -> Path | None:
    places = (Path(folder) / name for folder in approx.__path__ for name in _LIBRARY_NAMES)
    return next((path for path in places if path.exists()), None)
