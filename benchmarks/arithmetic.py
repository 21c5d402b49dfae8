"""Times approximate arithmetic against torch's own: `make bench-arithmetic`.

Compared runs take turns in one process; a ratio is the median of the turns' ratios, because machines are shared and
single times mean little. The table is random, so that only row tables can compute it.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import approx
from approx.arithmetic import native, portable
from approx.arithmetic.geometry import Geometry
from approx.arithmetic.native import never_changes
from approx.arithmetic.ops import approx_linear
from approx.multipliers.multiplier import Multiplier
from approx.quantization import CodeFormat
from benchmarks.measuring import Result, compare, report, timed
from benchmarks.networks import lenet5, workloads

ROWS, INNER, OUTPUTS = 16384, 1152, 128  # a layer of 128 channels on 32x32 images, batch 16


def random_multiplier(*, activation_signed: bool) -> Multiplier:
    """Return a multiplier with random entries of 16 bits."""
    generator = torch.Generator().manual_seed(0)
    lut = torch.randint(-(2**15), 2**15, (256, 256), generator=generator, dtype=torch.int32)
    return Multiplier(name="random", weight_bits=8, activation_bits=8, activation_signed=activation_signed, lut=lut)


def matrix_products(turns: int) -> list[Result]:
    """Time products of codes against torch's of the same shape."""
    generator = torch.Generator().manual_seed(1)
    codes = torch.randint(0, 256, (ROWS, INNER), generator=generator, dtype=torch.uint8)
    weights = torch.randint(-127, 128, (OUTPUTS, INNER), generator=generator, dtype=torch.int8)
    multiplier = random_multiplier(activation_signed=False)
    real, real_weights = codes.to(torch.float32), weights.to(torch.float32)
    bytes_, byte_weights = (codes >> 1).to(torch.int8), weights.T
    gather = _gather(codes, weights, multiplier)
    recodable = {
        name: approx.find_multiplier(name, weight_bits=8, activation_bits=8, activation_signed=False)
        for name in ("exact", "asm-1", "asm-1-3-5-7", "drum-4", "ssm-5")
    }
    by_table = _table_product(codes, weights, multiplier)
    if gather is not None:
        assert torch.equal(by_table(), gather())
    library = native.load()
    builds = ["x86-64-v4", "x86-64-v3"] if library is not None else []  # tables are the same with VNNI
    results = []

    def on(build: str, run: Callable[[], Tensor]) -> Callable[[], Tensor]:
        def chosen() -> Tensor:
            assert library is not None
            library.choose_build(build)
            return run()

        return chosen

    runs: dict[str, Callable[[], object]] = {"torch fp32": lambda: real @ real_weights.T}
    for build in builds:
        try:
            on(build, by_table)()
        except approx.ApproxError:
            continue
        runs[build] = on(build, by_table)
    if gather is not None:
        runs["gather"] = gather
        runs["torch alone"] = lambda: portable.table_convolution(
            codes[:, :, None, None],
            CodeFormat(8, False, 1.0),
            (weights.to(torch.int32) & 255)[:, :, None, None],
            multiplier.table(),
            Geometry(),
            None,
        )
    times = timed(turns, **runs)
    if library is not None:
        library.choose_build(None)
    products: dict[str, Callable[[], object]] = {"torch int8": lambda: torch._int_mm(bytes_, byte_weights)}
    for name, recoded in recodable.items():
        products[name] = _product(codes, weights, recoded)
    product_times = timed(turns, **products)
    size = f"{ROWS}x{INNER}x{OUTPUTS}"
    for build, target in (("x86-64-v4", 0.9), ("x86-64-v3", 0.7)):
        if build in runs:
            name = f"arbitrary table, {size}, {build} build: speed over torch fp32"
            results.append(compare(name, times, "torch fp32", build, target, at_least=True))
    best = next((build for build in builds if build in runs), None)
    if gather is not None:
        if best is not None:
            name = f"arbitrary table, {size}, {best} build: speed over gather"
            results.append(compare(name, times, "gather", best, 15, at_least=True))
        name = f"arbitrary table, {size}, torch alone: speed over gather"
        results.append(compare(name, times, "gather", "torch alone", 3, at_least=True))
    for name in recodable:
        label = f"{name}, {size}: time over torch's int8 product"
        results.append(compare(label, product_times, name, "torch int8", 1.3))
    return results


def whole_networks(turns: int) -> list[Result]:
    """Time inference and training steps of networks with an arbitrary table against fp32."""
    targets = {"LeNet-5, batch 1000": (1.2, 1.8), "ResNet-20, batch 128": (2.0, 1.8)}
    exact_targets = {"ResNet-20, batch 128": 0.45, "digits, batch 100": 2.5}
    results = []
    for name, (network, inputs) in workloads().items():
        network.eval()
        approximate = _approximated(network, inputs)
        exact = approx.approximate(
            network,
            approx.LayerApproximation(weight_bits=8, activation_bits=8, multiplier="exact"),
            calibration_data=inputs,
        )
        inference, training = targets.get(name, (None, None))
        with torch.no_grad():
            times = timed(
                turns,
                fp32=partial(network, inputs),
                table=partial(approximate, inputs),
                exact=partial(exact, inputs),
            )
        results.append(compare(f"{name}, arbitrary table: time over fp32", times, "table", "fp32", inference))
        target = exact_targets.get(name)
        results.append(compare(f"{name}, exact 8 bits: time over fp32", times, "exact", "fp32", target))
        labels = torch.zeros(len(inputs), dtype=torch.int64)
        times = timed(
            turns,
            fp32=partial(_step, network, inputs, labels),
            table=partial(_step, approximate, inputs, labels),
        )
        results.append(compare(f"{name}, arbitrary table: training step over fp32's", times, "table", "fp32", training))
    return results


def narrow_sums(turns: int) -> list[Result]:
    """Time LeNet-5 and its second convolution with partial sums of 16 bits against exact sums."""
    images = torch.rand(1000, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    maps = torch.rand(1000, 6, 14, 14, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(2)
    layer = nn.Conv2d(6, 16, 5)
    results = []
    for name, network, inputs in (("second layer of LeNet-5", layer, maps), ("LeNet-5", lenet5(), images)):
        models = {}
        for run, sums in (
            ("exact", None),
            ("saturate", approx.PartialSums(bits=16)),
            ("wrap", approx.PartialSums(bits=16, overflow="wrap")),
        ):
            config = approx.LayerApproximation(weight_bits=8, activation_bits=8, partial_sums=sums)
            models[run] = approx.approximate(network, config, calibration_data=inputs)
        with torch.no_grad():
            times = timed(turns, **{run: partial(model, inputs) for run, model in models.items()})
        for run in ("saturate", "wrap"):
            label = f"{name}, 1000 images, sums of 16 bits that {run}: time over exact sums"
            results.append(compare(label, times, run, "exact", None))
    labels = torch.zeros(len(images), dtype=torch.int64)
    times = timed(turns, **{run: partial(_step, model, images, labels) for run, model in models.items()})
    label = "LeNet-5, 1000 images, sums of 16 bits that saturate: training step over exact sums"
    results.append(compare(label, times, "saturate", "exact", None))
    return results


def _step(network: nn.Module, inputs: Tensor, labels: Tensor) -> None:
    network.train()
    network.zero_grad()
    F.cross_entropy(network(inputs), labels).backward()  # type: ignore[no-untyped-call]


def _approximated(network: nn.Module, inputs: Tensor) -> nn.Module:
    """Convert a network, with the random table in every layer, whatever the sign of its activations."""
    converted = approx.approximate(
        network,
        approx.LayerApproximation(weight_bits=8, activation_bits=8, multiplier="exact"),
        calibration_data=inputs,
    )
    for _, layer in approx.approx_layers(converted):
        layer.multiplier = random_multiplier(activation_signed=layer.activation_signed)
    return converted


def _table_product(codes: Tensor, weights: Tensor, multiplier: Multiplier) -> Callable[[], Tensor]:
    library = native.load()
    if library is None:
        return lambda: approx_linear(codes, weights, multiplier)
    return _product(codes, weights, multiplier)


def _product(codes: Tensor, weights: Tensor, multiplier: Multiplier) -> Callable[[], Tensor]:
    """Return the product as layers call it, which does not check codes again."""
    library = native.load()
    if library is None:
        return lambda: approx_linear(codes, weights, multiplier)
    images, kept, plain = codes[:, :, None, None], never_changes(weights), CodeFormat(8, False, 1.0)
    compute = library.table_convolution if multiplier.factors is None else library.product_convolution
    return lambda: compute(images, plain, kept, multiplier, Geometry(), None)[:, :, 0, 0]


def _gather(codes: Tensor, weights: Tensor, multiplier: Multiplier) -> Callable[[], Tensor] | None:
    """Return the usual kernel, compiled for this CPU; None without a compiler."""
    compiler = shutil.which("c++")
    if compiler is None:
        return None
    source = Path(__file__).parent / "gather.cpp"
    folder = tempfile.mkdtemp(prefix="crosslayer-")
    library = Path(folder) / "gather.so"
    subprocess.run(  # noqa: S603
        [compiler, "-O3", "-march=native", "-shared", "-fPIC", "-pthread", str(source), "-o", str(library)], check=True
    )
    call = ctypes.CDLL(str(library)).gather_matmul
    by_inner = (weights.to(torch.int32) & 255).to(torch.uint8).T.contiguous()
    lut = multiplier.table().contiguous()

    def run() -> Tensor:
        out = torch.empty(codes.shape[0], weights.shape[0], dtype=torch.int32)
        pointers = (ctypes.c_void_p(tensor.data_ptr()) for tensor in (codes, by_inner, lut, out))
        sizes = (ctypes.c_int64(size) for size in (*codes.shape, weights.shape[0], torch.get_num_threads()))
        call(*pointers, *sizes)
        return out

    return run


def _compiler_version() -> str:
    compiler = shutil.which("c++")
    if compiler is None:
        return "none"
    done = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True)  # noqa: S603
    return done.stdout.splitlines()[0]


def main() -> int:
    """Run the benchmark; exit code 1 if a bound is missed."""
    return report(
        __doc__ or "",
        lambda turns: [*matrix_products(turns), *whole_networks(turns), *narrow_sums(turns)],
        {"compiler of the gather kernel": _compiler_version()},
    )


if __name__ == "__main__":
    sys.exit(main())
