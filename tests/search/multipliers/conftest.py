"""What the tests of characterisation share."""

import pytest

from energy import gates


@pytest.fixture(scope="session")
def tools() -> gates.Tools:
    """Yosys, Icarus Verilog and the cell library."""
    try:
        return gates.find_tools()
    except gates.GateToolError as error:
        pytest.skip(str(error))
