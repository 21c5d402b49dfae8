"""Measurement of the time and energy that this computer spends."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

_POWERCAP = Path("/sys/class/powercap")  # https://docs.kernel.org/power/powercap/powercap.html


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """Time and energy spent.

    Attributes:
        seconds: Elapsed time.
        cpu_seconds: Processor time of this process.
        joules: Energy of the processor packages, in proportion to this process's share of all processor time; None if
            the system does not let this process read it.
    """

    seconds: float
    cpu_seconds: float
    joules: float | None


class Meter:
    """Measures from its creation on.

    Args:
        powercap: Folder of the kernel's power zones.
    """

    def __init__(self, powercap: Path = _POWERCAP) -> None:
        self._zones = sorted(powercap.glob("intel-rapl:[0-9]"))  # whole packages; AMD's have the same name
        self._started = self._read()

    def spent(self) -> Spent:
        """Return what was spent so far."""
        (clock, cpu, busy, microjoules), now = self._started, self._read()
        joules = None
        if microjoules is not None and now[3] is not None and now[2] > busy:
            wraps = [
                (after - before) % limit if limit else after - before
                for before, after, limit in zip(microjoules, now[3], self._limits(), strict=True)
            ]
            joules = sum(wraps) / 1e6 * min(1.0, (now[1] - cpu) / (now[2] - busy))
        return Spent(seconds=now[0] - clock, cpu_seconds=now[1] - cpu, joules=joules)

    def _read(self) -> tuple[float, float, float, list[int] | None]:
        """Return the clock, this process's and the machine's processor time, and the zones' counters in microjoules."""
        return time.perf_counter(), time.process_time(), _busy_seconds(), self._counters("energy_uj")

    def _limits(self) -> list[int]:
        return self._counters("max_energy_range_uj") or [0] * len(self._zones)

    def _counters(self, name: str) -> list[int] | None:
        try:
            return [int((zone / name).read_text()) for zone in self._zones] or None
        except (OSError, ValueError):
            return None


def _busy_seconds() -> float:
    """Return the processor time that this machine has used since it was started; 0 if unknown."""
    try:
        user, nice, system, *_ = map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:])
    except (OSError, ValueError):
        return 0.0
    return (user + nice + system) / os.sysconf("SC_CLK_TCK")
