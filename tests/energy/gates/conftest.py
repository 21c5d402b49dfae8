"""What the tests of circuits share."""

import pytest

from energy.gates import GateToolError, Tools, find_tools


@pytest.fixture(scope="session")
def tools() -> Tools:
    """Yosys, Icarus Verilog and the cell library."""
    try:
        return find_tools()
    except GateToolError as error:
        pytest.skip(str(error))
