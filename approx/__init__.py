"""What approximate hardware would compute: integer codes, approximate multipliers, pruned and faulty weights.

Works on its own; see `docs/architecture.md` for how it fits the rest.
"""

from approx.arithmetic.convolution import method as method
from approx.arithmetic.ops import approx_conv2d as approx_conv2d
from approx.arithmetic.ops import approx_linear as approx_linear
from approx.arithmetic.ops import quantized_conv2d as quantized_conv2d
from approx.arithmetic.ops import quantized_linear as quantized_linear
from approx.chips import set_memory as set_memory
from approx.chips import use_chip as use_chip
from approx.config import FaultyMemory as FaultyMemory
from approx.config import LayerApproximation as LayerApproximation
from approx.config import NetworkApproximation as NetworkApproximation
from approx.convert import approximate as approximate
from approx.errors import ApproxError as ApproxError
from approx.errors import ArgumentError as ArgumentError
from approx.errors import ImportFileError as ImportFileError
from approx.errors import SavedModelError as SavedModelError
from approx.errors import UnknownNameError as UnknownNameError
from approx.faults import FaultMap as FaultMap
from approx.faults import fault_map as fault_map
from approx.faults import read_back as read_back
from approx.layer import ApproxLayer as ApproxLayer
from approx.layer_shapes import LayerShape as LayerShape
from approx.layer_shapes import layer_order as layer_order
from approx.layer_shapes import trace as trace
from approx.memory import HYBRID_22NM as HYBRID_22NM
from approx.memory import SILICON_14NM as SILICON_14NM
from approx.memory import FailureCurve as FailureCurve
from approx.memory import MeasuredCurve as MeasuredCurve
from approx.memory import MemoryModel as MemoryModel
from approx.memory import Never as Never
from approx.memory import NormalTail as NormalTail
from approx.modules import ApproxConv2d as ApproxConv2d
from approx.modules import ApproxConvTranspose2d as ApproxConvTranspose2d
from approx.modules import ApproxLinear as ApproxLinear
from approx.multipliers.catalog import families as families
from approx.multipliers.catalog import find_multiplier as find_multiplier
from approx.multipliers.catalog import multiplier_from_function as multiplier_from_function
from approx.multipliers.catalog import multiplier_names as multiplier_names
from approx.multipliers.catalog import register_multiplier as register_multiplier
from approx.multipliers.families import Family as Family
from approx.multipliers.library import MultiplierLibrary as MultiplierLibrary
from approx.multipliers.metrics import ErrorMetrics as ErrorMetrics
from approx.multipliers.metrics import error_metrics as error_metrics
from approx.multipliers.metrics import error_table as error_table
from approx.multipliers.multiplier import Figure as Figure
from approx.multipliers.multiplier import Multiplier as Multiplier
from approx.multipliers.table_files import import_multipliers as import_multipliers
from approx.multipliers.table_files import multiplier_from_table as multiplier_from_table
from approx.networks import Architecture as Architecture
from approx.networks import NetworkFamily as NetworkFamily
from approx.networks import build_named_network as build_named_network
from approx.networks import build_network as build_network
from approx.networks import family_names as family_names
from approx.networks import network_family as network_family
from approx.onnx_export import equal_in_onnx as equal_in_onnx
from approx.onnx_export import to_onnx as to_onnx
from approx.pruning import Sparsity as Sparsity
from approx.pruning import global_magnitude_masks as global_magnitude_masks
from approx.pruning import gradual_sparsities as gradual_sparsities
from approx.pruning import magnitude_masks as magnitude_masks
from approx.pruning import measured_sparsity as measured_sparsity
from approx.pruning import n_m_masks as n_m_masks
from approx.pruning import prune_and_retrain as prune_and_retrain
from approx.quantization import calibrate_scale as calibrate_scale
from approx.quantization import fake_quantize as fake_quantize
from approx.quantization import percentile_scale as percentile_scale
from approx.quantization import quantize as quantize
from approx.quantization import straight_through as straight_through
from approx.saving import load as load
from approx.saving import save as save
from approx.saving import saved_facts as saved_facts
from approx.structured import prune_channels as prune_channels
from approx.surgery import approx_layers as approx_layers
from approx.surgery import weight_layers as weight_layers
from approx.training import DivergedError as DivergedError
from approx.training import LabelledImages as LabelledImages
from approx.training import Schedule as Schedule
from approx.training import accuracy as accuracy
from approx.training import allocate_robust_bits as allocate_robust_bits
from approx.training import chip_accuracies as chip_accuracies
from approx.training import fit as fit

__all__ = [
    "HYBRID_22NM",
    "SILICON_14NM",
    "ApproxConv2d",
    "ApproxConvTranspose2d",
    "ApproxError",
    "ApproxLayer",
    "ApproxLinear",
    "Architecture",
    "ArgumentError",
    "DivergedError",
    "ErrorMetrics",
    "FailureCurve",
    "Family",
    "FaultMap",
    "FaultyMemory",
    "Figure",
    "ImportFileError",
    "LabelledImages",
    "LayerApproximation",
    "LayerShape",
    "MeasuredCurve",
    "MemoryModel",
    "Multiplier",
    "MultiplierLibrary",
    "NetworkApproximation",
    "NetworkFamily",
    "Never",
    "NormalTail",
    "SavedModelError",
    "Schedule",
    "Sparsity",
    "UnknownNameError",
    "accuracy",
    "allocate_robust_bits",
    "approx_conv2d",
    "approx_layers",
    "approx_linear",
    "approximate",
    "build_named_network",
    "build_network",
    "calibrate_scale",
    "chip_accuracies",
    "equal_in_onnx",
    "error_metrics",
    "error_table",
    "fake_quantize",
    "families",
    "family_names",
    "fault_map",
    "find_multiplier",
    "fit",
    "global_magnitude_masks",
    "gradual_sparsities",
    "import_multipliers",
    "layer_order",
    "load",
    "magnitude_masks",
    "measured_sparsity",
    "method",
    "multiplier_from_function",
    "multiplier_from_table",
    "multiplier_names",
    "n_m_masks",
    "network_family",
    "percentile_scale",
    "prune_and_retrain",
    "prune_channels",
    "quantize",
    "quantized_conv2d",
    "quantized_linear",
    "read_back",
    "register_multiplier",
    "save",
    "saved_facts",
    "set_memory",
    "straight_through",
    "to_onnx",
    "trace",
    "use_chip",
    "weight_layers",
]
