"""How long a command takes, whatever runs beside it."""

import os
import subprocess
from collections.abc import Sequence


def processor_seconds(command: Sequence[str]) -> float:
    """Processor time of a command that succeeds; the time on the clock would be that of the tests beside it too."""
    before = os.times()
    subprocess.run(command, check=True, capture_output=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system
