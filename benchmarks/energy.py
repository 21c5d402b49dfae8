"""Times the energy model: `make bench-energy`."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace

from benchmarks.energy_validation import convolution, workload
from energy import Workload, estimate, estimate_batch, load_hardware

LAYERS = 20
CANDIDATES = 1000
BOUNDS = {
    "one candidate, us": 200.0,
    "one layered candidate, us": 200.0,
    "one candidate, best dataflows, us": 250.0,  # each layer is priced under two
    "each of 1,000 at once, us": 10.0,
    "each of 1,000 layered, us": 10.0,
    "each of 1,000, best dataflows, us": 10.0,
    "import energy, s": 0.3,
}


def candidates() -> list[Workload]:
    """Make workloads of 20 layers that differ in widths and voltage."""
    layers = [convolution(str(index), 16, 32, 3, 16, padding=1, density=0.5) for index in range(LAYERS)]
    return [
        workload(layers, bits=2 + index % 7, activation_bits=2 + index % 5, volts=0.7 + 0.01 * (index % 20))
        for index in range(CANDIDATES)
    ]


def layered(work: Workload) -> Workload:
    """Give the first layer another multiplier and other robust bits, and the last layer another multiplier."""
    first, *middle, last = work.layers
    ends = replace(first, multiplier="asm-1-3", robust_bits=2), replace(last, multiplier="asm-1")
    return replace(work, layers=(ends[0], *middle, ends[1]))


def measure(turns: int = 30) -> dict[str, float]:
    """Measure median times, under the names in `BOUNDS`."""
    hardware, flexible = load_hardware("weight-stationary-45nm"), load_hardware("flexible-45nm")
    works = candidates()
    apart = [layered(work) for work in works]
    importing = [
        sys.executable,
        "-c",
        "import time; t = time.perf_counter(); import energy; print(time.perf_counter() - t)",
    ]
    imports = [
        float(subprocess.run(importing, capture_output=True, text=True, check=True).stdout)  # noqa: S603
        for _ in range(3)
    ]
    return {
        "one candidate, us": 1e6 * _median(lambda: estimate(works[0], hardware).energy_pj, turns * 20),
        "one layered candidate, us": 1e6 * _median(lambda: estimate(apart[0], hardware).energy_pj, turns * 20),
        "one candidate, best dataflows, us": 1e6 * _median(lambda: estimate(works[0], flexible).energy_pj, turns * 20),
        "each of 1,000 at once, us": 1e6
        * _median(lambda: estimate_batch(works, hardware).energy_pj, turns)
        / CANDIDATES,
        "each of 1,000 layered, us": 1e6
        * _median(lambda: estimate_batch(apart, hardware).energy_pj, turns)
        / CANDIDATES,
        "each of 1,000, best dataflows, us": 1e6
        * _median(lambda: estimate_batch(works, flexible).energy_pj, turns)
        / CANDIDATES,
        "import energy, s": statistics.median(imports),
    }


def _median(run: Callable[[], object], turns: int) -> float:
    run()
    times = []
    for _ in range(turns):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def main() -> int:
    """Print every time with its bound; return 1 if one is missed."""
    missed = 0
    for name, found in measure().items():
        met = found <= BOUNDS[name]
        missed += not met
        sys.stdout.write(f"{name:<34} {found:8.3g}  bound {BOUNDS[name]:g}{'' if met else '  MISSED'}\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
