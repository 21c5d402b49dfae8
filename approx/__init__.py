"""Simulate what approximate hardware computes: integer codes, approximate multipliers, pruned and faulty weights.

    import approx

    config = approx.LayerApproximation(weight_bits=4, multiplier="drum-4")
    converted = approx.approximate(network, config, calibration_data=images)   # `images`: a tensor of network inputs
    approx.fit(converted, training_images, approx.Schedule(epochs=1, batch_size=64, learning_rate=1e-4), seed=0)

`help(approx.approximate)` and so on describe each of the following in full.

Converting a network
    approximate             a copy of a network whose layers compute as approximate hardware would
    LayerApproximation      how a layer computes: bits, multiplier, calibration, memories
    NetworkApproximation    how each layer does
    weight_layers, approx_layers    the layers that can be converted, and those that were
    ApproxLayer, ApproxLinear, ApproxConv1d, ApproxConv2d, ApproxConvTranspose2d     their types
    trace, LayerShape, layer_order      shapes and names of the layers, in the order in which they run
    other_weights           parameters that are multiplied outside of these layers
    signal_to_noise_db      how near an output is to another one, in decibels

Mending networks without training
    correct_bias            biases with which a converted network's outputs are right on average
    reestimate_batch_norm   statistics of BatchNorm layers, from inputs

Multipliers
    find_multiplier         the multiplier of a name, for given operands
    multiplier_names        names for listings
    families, Family        the built-in families behind these names
    Multiplier, Figure      a multiplier, and a published number about it
    multiplier_from_function, multiplier_from_table, import_multipliers     custom multipliers
    register_multiplier     makes a custom multiplier known by its name
    MultiplierLibrary       a folder of imported multipliers
    error_metrics, error_table, ErrorMetrics, doubts    how far a multiplier is from exact, and what looks wrong in it

Arithmetic
    approx_linear, approx_conv2d            sums of approximate products of integer codes
    quantized_linear, quantized_conv2d      the same with real values in and out, and gradients
    method                  how products with a multiplier are computed on this machine
    quantize, fake_quantize, straight_through       codes of real values
    calibrate_scale, percentile_scale               the scales of codes

Narrow partial sums
    PartialSums             width of the running sums of products, and what happens where they overflow
    overflows, OverflowCount, reset_overflows, OverflowWarning      how many sums overflowed

Training and measuring
    LabelledImages          images and their classes, normalised if wanted; subsets share pixels
    fit, Schedule, Distillation     training, how long and how fast, and from which other network
    scores_of               the scores of classes among whatever else a network returns
    accuracy, predictions   share of images classified correctly, and the class of each

Pruning
    prune_and_retrain       pruning of individual weights, in one step or gradually
    magnitude_masks, global_magnitude_masks, n_m_masks      which weights are kept
    gradual_sparsities      sparsities of gradual pruning
    measured_sparsity, Sparsity     shares of weights that are zero
    prune_channels          a smaller copy of a network, without some of its channels

Faulty memory
    FaultyMemory            the faults of a memory
    MemoryModel, HYBRID_22NM, SILICON_14NM      faults and energy at a supply voltage
    FailureCurve, NormalTail, MeasuredCurve, Never      shares of cells that fail
    set_memory, use_chip    memories of a converted network, and the chip it runs on
    chip_accuracies, chip_predictions       accuracy, or the class of each image, on each of several chips
    allocate_robust_bits    bits that each layer needs in robust cells
    fault_map, FaultMap, read_back      the failed cells of one memory

Networks
    build_network, Architecture             a network of a built-in family
    network_family, family_names, NetworkFamily     these families
    derive_network          a smaller one with weights of a larger one that is trained
    build_named_network     the same from JSON values, for saved models

Files
    save, load, saved_facts     converted networks as folders
    to_onnx, equal_in_onnx      converted networks as ONNX

Errors
    ApproxError             the base of ArgumentError, ConversionError, DivergedError, ImportFileError, SavedModelError,
                            UnknownNameError
"""

from types import ModuleType as _ModuleType

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
from approx.deriving import derive_network as derive_network
from approx.errors import ApproxError as ApproxError
from approx.errors import ArgumentError as ArgumentError
from approx.errors import ConversionError as ConversionError
from approx.errors import DivergedError as DivergedError
from approx.errors import ImportFileError as ImportFileError
from approx.errors import SavedModelError as SavedModelError
from approx.errors import UnknownNameError as UnknownNameError
from approx.faults import FaultMap as FaultMap
from approx.faults import fault_map as fault_map
from approx.faults import read_back as read_back
from approx.labelled_images import LabelledImages as LabelledImages
from approx.layer import ApproxLayer as ApproxLayer
from approx.layer_shapes import LayerShape as LayerShape
from approx.layer_shapes import layer_order as layer_order
from approx.layer_shapes import other_weights as other_weights
from approx.layer_shapes import trace as trace
from approx.measuring import accuracy as accuracy
from approx.measuring import allocate_robust_bits as allocate_robust_bits
from approx.measuring import chip_accuracies as chip_accuracies
from approx.measuring import chip_predictions as chip_predictions
from approx.measuring import predictions as predictions
from approx.memory import HYBRID_22NM as HYBRID_22NM
from approx.memory import SILICON_14NM as SILICON_14NM
from approx.memory import FailureCurve as FailureCurve
from approx.memory import MeasuredCurve as MeasuredCurve
from approx.memory import MemoryModel as MemoryModel
from approx.memory import Never as Never
from approx.memory import NormalTail as NormalTail
from approx.modules import ApproxConv1d as ApproxConv1d
from approx.modules import ApproxConv2d as ApproxConv2d
from approx.modules import ApproxConvTranspose2d as ApproxConvTranspose2d
from approx.modules import ApproxLinear as ApproxLinear
from approx.multipliers.catalog import families as families
from approx.multipliers.catalog import find_multiplier as find_multiplier
from approx.multipliers.catalog import multiplier_from_function as multiplier_from_function
from approx.multipliers.catalog import multiplier_names as multiplier_names
from approx.multipliers.catalog import register_multiplier as register_multiplier
from approx.multipliers.families import Family as Family
from approx.multipliers.importing import import_multipliers as import_multipliers
from approx.multipliers.importing import multiplier_from_table as multiplier_from_table
from approx.multipliers.library import MultiplierLibrary as MultiplierLibrary
from approx.multipliers.metrics import ErrorMetrics as ErrorMetrics
from approx.multipliers.metrics import error_metrics as error_metrics
from approx.multipliers.metrics import error_table as error_table
from approx.multipliers.multiplier import Figure as Figure
from approx.multipliers.multiplier import Multiplier as Multiplier
from approx.multipliers.reading import doubts as doubts
from approx.networks import Architecture as Architecture
from approx.networks import NetworkFamily as NetworkFamily
from approx.networks import build_named_network as build_named_network
from approx.networks import build_network as build_network
from approx.networks import family_names as family_names
from approx.networks import network_family as network_family
from approx.onnx_export import equal_in_onnx as equal_in_onnx
from approx.onnx_export import to_onnx as to_onnx
from approx.outputs import scores_of as scores_of
from approx.overflow_counts import OverflowWarning as OverflowWarning
from approx.overflow_counts import overflows as overflows
from approx.overflow_counts import reset_overflows as reset_overflows
from approx.partial_sums import OverflowCount as OverflowCount
from approx.partial_sums import PartialSums as PartialSums
from approx.post_training import correct_bias as correct_bias
from approx.post_training import reestimate_batch_norm as reestimate_batch_norm
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
from approx.training import Distillation as Distillation
from approx.training import Schedule as Schedule
from approx.training import fit as fit
from approx.verification import signal_to_noise_db as signal_to_noise_db


def __dir__() -> list[str]:
    """The public names, without the modules they are defined in."""
    return sorted(
        name for name, value in globals().items() if not (name.startswith("_") or isinstance(value, _ModuleType))
    )
