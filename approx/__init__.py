"""What approximate hardware would compute: integer codes, approximate multipliers, pruned and faulty weights.

Works on its own; see `docs/architecture.md` for how it fits the rest.
"""

from approx.catalog import families as families
from approx.catalog import find_multiplier as find_multiplier
from approx.catalog import multiplier_from_function as multiplier_from_function
from approx.catalog import multiplier_names as multiplier_names
from approx.catalog import register_multiplier as register_multiplier
from approx.convert import approx_layers as approx_layers
from approx.convert import approximate as approximate
from approx.convert import set_faults as set_faults
from approx.convert import weight_layers as weight_layers
from approx.convolution import method as method
from approx.error_metrics import ErrorMetrics as ErrorMetrics
from approx.error_metrics import error_metrics as error_metrics
from approx.error_metrics import error_table as error_table
from approx.errors import ApproxError as ApproxError
from approx.errors import ArgumentError as ArgumentError
from approx.errors import ImportFileError as ImportFileError
from approx.errors import UnknownNameError as UnknownNameError
from approx.families import Family as Family
from approx.importing import import_multipliers as import_multipliers
from approx.importing import multiplier_from_table as multiplier_from_table
from approx.library import MultiplierLibrary as MultiplierLibrary
from approx.memory import SILICON_14NM as SILICON_14NM
from approx.memory import MemoryModel as MemoryModel
from approx.memory import fault_mask as fault_mask
from approx.memory import read_back as read_back
from approx.modules import ApproxConv2d as ApproxConv2d
from approx.modules import ApproxLayer as ApproxLayer
from approx.modules import ApproxLinear as ApproxLinear
from approx.modules import LayerApproximation as LayerApproximation
from approx.multiplier import Figure as Figure
from approx.multiplier import Multiplier as Multiplier
from approx.networks import MAX_DEPTH as MAX_DEPTH
from approx.networks import MAX_WIDTH as MAX_WIDTH
from approx.networks import Architecture as Architecture
from approx.networks import build_network as build_network
from approx.networks import family_names as family_names
from approx.ops import approx_conv2d as approx_conv2d
from approx.ops import approx_linear as approx_linear
from approx.ops import quantized_conv2d as quantized_conv2d
from approx.ops import quantized_linear as quantized_linear
from approx.pruning import magnitude_masks as magnitude_masks
from approx.quantization import calibrate_scale as calibrate_scale
from approx.quantization import quantize as quantize
from approx.quantization import straight_through as straight_through
from approx.trace import LayerShape as LayerShape
from approx.trace import trace as trace
from approx.training import DivergedError as DivergedError
from approx.training import LabelledImages as LabelledImages
from approx.training import Schedule as Schedule
from approx.training import accuracy as accuracy
from approx.training import fit as fit

__all__ = [
    "MAX_DEPTH",
    "MAX_WIDTH",
    "SILICON_14NM",
    "ApproxConv2d",
    "ApproxError",
    "ApproxLayer",
    "ApproxLinear",
    "Architecture",
    "ArgumentError",
    "DivergedError",
    "ErrorMetrics",
    "Family",
    "Figure",
    "ImportFileError",
    "LabelledImages",
    "LayerApproximation",
    "LayerShape",
    "MemoryModel",
    "Multiplier",
    "MultiplierLibrary",
    "Schedule",
    "UnknownNameError",
    "accuracy",
    "approx_conv2d",
    "approx_layers",
    "approx_linear",
    "approximate",
    "build_network",
    "calibrate_scale",
    "error_metrics",
    "error_table",
    "families",
    "family_names",
    "fault_mask",
    "find_multiplier",
    "fit",
    "import_multipliers",
    "magnitude_masks",
    "method",
    "multiplier_from_function",
    "multiplier_from_table",
    "multiplier_names",
    "quantize",
    "quantized_conv2d",
    "quantized_linear",
    "read_back",
    "register_multiplier",
    "set_faults",
    "straight_through",
    "trace",
    "weight_layers",
]
