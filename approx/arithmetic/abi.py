"""The structs of `approx/csrc/kernel.h`, field by field; their meaning is documented there."""

from __future__ import annotations

import ctypes
from ctypes import c_float, c_int32, c_int64, c_uint32, c_void_p


class Input(ctypes.Structure):
    """Activations."""

    _fields_ = (
        ("values", c_void_p),
        ("images", c_int64),
        ("channels", c_int64),
        ("height", c_int64),
        ("width", c_int64),
        ("padding_height", c_int64),
        ("padding_width", c_int64),
        ("is_float", c_int32),
        ("scale", c_float),
        ("low", c_float),
        ("high", c_float),
        ("code_mask", c_uint32),
    )


class Geometry(ctypes.Structure):
    """Geometry of a convolution."""

    _fields_ = (
        ("kernel_height", c_int64),
        ("kernel_width", c_int64),
        ("stride_height", c_int64),
        ("stride_width", c_int64),
        ("dilation_height", c_int64),
        ("dilation_width", c_int64),
        ("out_height", c_int64),
        ("out_width", c_int64),
    )


class Output(ctypes.Structure):
    """Destination of sums or values."""

    _fields_ = (("sums", c_void_p), ("values", c_void_p), ("scale", c_void_p), ("bias", c_void_p))


class TableConvolution(ctypes.Structure):
    """Convolution with a truth table."""

    _fields_ = (
        ("input", Input),
        ("geometry", Geometry),
        ("output", Output),
        ("outputs", c_int64),
        ("groups", c_int64),
        ("weights", c_void_p),
        ("columns", c_void_p),
        ("column_least", c_void_p),
        ("activation_entries", c_int64),
        ("packed", c_void_p),
    )


class Patches(ctypes.Structure):
    """Operands of every position as rows."""

    _fields_ = (
        ("input", Input),
        ("geometry", Geometry),
        ("factors", c_void_p),
        ("terms", c_int64),
        ("factor_entries", c_int64),
        ("packed", c_void_p),
        ("patches", c_void_p),
    )


class ByteConvolution(ctypes.Structure):
    """Convolution by products of bytes."""

    _fields_ = (
        ("input", Input),
        ("geometry", Geometry),
        ("output", Output),
        ("outputs", c_int64),
        ("factors", c_void_p),
        ("terms", c_int64),
        ("factor_entries", c_int64),
        ("weights", c_void_p),
        ("correction", c_void_p),
    )


class Weights(ctypes.Structure):
    """Weight codes and the operands made of them."""

    _fields_ = (
        ("codes", c_void_p),
        ("outputs", c_int64),
        ("channels", c_int64),
        ("kernel", c_int64),
        ("low", c_float),
        ("high", c_float),
        ("code_mask", c_uint32),
        ("factors", c_void_p),
        ("shifts", c_void_p),
        ("terms", c_int64),
        ("factor_entries", c_int64),
        ("indices", c_void_p),
        ("used", c_void_p),
        ("operands", c_void_p),
        ("correction", c_void_p),
    )


class Rescale(ctypes.Structure):
    """Conversion of the sums of a matrix product to values."""

    _fields_ = (
        ("output", Output),
        ("sums", c_void_p),
        ("correction", c_void_p),
        ("images", c_int64),
        ("positions", c_int64),
        ("outputs", c_int64),
        ("columns", c_int64),
    )


class SaturatingSums(ctypes.Structure):
    """Sums made one product after the other, each addition saturating."""

    _fields_ = (
        ("rows", c_void_p),
        ("order", c_void_p),
        ("weights", c_void_p),
        ("columns", c_void_p),
        ("activation_factors", c_void_p),
        ("weight_factors", c_void_p),
        ("terms", c_int64),
        ("positions", c_int64),
        ("inner", c_int64),
        ("outputs", c_int64),
        ("activation_codes", c_int64),
        ("weight_codes", c_int64),
        ("low", c_int32),
        ("high", c_int32),
        ("sums", c_void_p),
        ("saturated", c_void_p),
    )


class Pooling(ctypes.Structure):
    """Max pooling."""

    _fields_ = (
        ("values", c_void_p),
        ("maps", c_int64),
        ("height", c_int64),
        ("width", c_int64),
        ("pooled", c_void_p),
        ("upstream", c_void_p),
        ("gradient", c_void_p),
    )


class Threads(ctypes.Structure):
    """Threads to use."""

    _fields_ = (("parallel_for", c_void_p), ("count", c_int64))
