"""Measurements and reports of benchmarks.

Compared runs take turns in one process; a ratio is the median of the turns' ratios, because machines are shared and
single times mean little.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from approx.arithmetic import native


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A ratio of times with its bound.

    Attributes:
        name: The comparison in words.
        ratio: Median of the turns' ratios.
        target: Bound on the ratio; None if there is none.
        at_least: Whether it is a lower bound.
        times_ms: Median times, by name.
    """

    name: str
    ratio: float
    target: float | None
    at_least: bool
    times_ms: Mapping[str, float]

    @property
    def met(self) -> bool:
        """Whether the bound holds."""
        if self.target is None:
            return True
        return self.ratio >= self.target if self.at_least else self.ratio <= self.target


def timed(turns: int, **runs: Callable[[], object]) -> dict[str, list[float]]:
    """Return the times in ms of every run, turn by turn, after one that is not counted."""
    for run in runs.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(turns):
        for name, run in runs.items():
            began = time.perf_counter()
            run()
            times[name].append((time.perf_counter() - began) * 1e3)
    return times


def compare(
    name: str, times: Mapping[str, list[float]], over: str, under: str, target: float | None, *, at_least: bool = False
) -> Result:
    """Return the ratio of the times of two runs, `over` / `under`."""
    ratios = [a / b for a, b in zip(times[over], times[under], strict=True)]
    medians = {which: statistics.median(times[which]) for which in (over, under)}
    return Result(name=name, ratio=statistics.median(ratios), target=target, at_least=at_least, times_ms=medians)


def within(name: str, times: Mapping[str, list[float]], run: str, bound_ms: float) -> Result:
    """Return the ratio of a run's time to its bound."""
    median = statistics.median(times[run])
    return Result(name=name, ratio=median / bound_ms, target=1.0, at_least=False, times_ms={run: median})


def report(description: str, measure: Callable[[int], list[Result]], more: Mapping[str, str]) -> int:
    """Measure as the command line says, and print; return exit code 1 if a bound is missed.

    Args:
        description: Description of the benchmark.
        measure: Returns results for a number of turns.
        more: More facts about the machine.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=25, help="number of turns (default: 25)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results there")
    options = parser.parse_args()
    where = {**machine(), **more}
    results = measure(options.turns)
    lines = [", ".join(f"{name}: {value}" for name, value in where.items()), ""]
    for result in results:
        bound = "" if result.target is None else f"  {'>=' if result.at_least else '<='} {result.target:g}"
        times = ", ".join(f"{name} {ms:.2f} ms" for name, ms in result.times_ms.items())
        missed = "" if result.met else "  MISSED"
        lines.append(f"{result.ratio:7.2f}x{bound:9}  {result.name}  ({times}){missed}")
    sys.stdout.write("\n".join(lines) + "\n")
    if options.json is not None:
        rows = [
            {
                "name": result.name,
                "ratio": round(result.ratio, 3),
                "target": result.target,
                "at_least": result.at_least,
                "met": result.met,
                "times_ms": {name: round(ms, 3) for name, ms in result.times_ms.items()},
            }
            for result in results
        ]
        options.json.write_text(json.dumps({"machine": where, "results": rows}, indent=1) + "\n")
    return 0 if all(result.met for result in results) else 1


def machine() -> dict[str, str]:
    """Return the facts about the machine that times depend on."""
    library = native.load()
    return {
        "cpu": _cpu(),
        "threads": str(torch.get_num_threads()),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "native build": "none" if library is None else library.build,
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    known = {name.strip(): value.strip() for name, value in fields.items()}
    family = f"family {known.get('cpu family', '?')} model {known.get('model', '?')}"
    return f"{known.get('model name', platform.machine())}, {family}, {torch.backends.cpu.get_cpu_capability()}"
