"""The processor time of commands, which other processes hardly affect."""

import os
import subprocess
from collections.abc import Sequence


def processor_seconds(command: Sequence[str]) -> float:
    """Return the processor time of a command that succeeds; wall time would depend on other tests that run."""
    before = os.times()
    subprocess.run(command, check=True, capture_output=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system
