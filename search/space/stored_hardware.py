"""The hardware that something stored was made for."""

from __future__ import annotations

import os

from energy import Hardware, hardware_names, load_hardware
from search.errors import UsageError


def stored_hardware(identity: str, given: str | os.PathLike[str] | None = None) -> Hardware:
    """Return the hardware of an identity, or the one that is given instead.

    Args:
        identity: Identity of the hardware, as stored.
        given: A name from `energy.hardware_names()`, or the path of a YAML file; needed for custom hardware, of which
            only the identity is stored.

    Raises:
        UsageError: If it is custom hardware and none is given.
        energy.HardwareError: If the given hardware is unknown or malformed.
    """
    if given is None and not set(identity.split(",")) <= {*hardware_names()}:
        if "," in identity:
            raise UsageError(f"of {identity} some is custom hardware; give all as `hardware`, such as a,FILE.yaml")
        raise UsageError(f"{identity} is custom hardware; give its file as `hardware`")
    return load_hardware(os.fspath(given or identity))
