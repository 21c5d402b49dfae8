"""What candidates call a multiplier: a built-in one by its name, an imported one also by what it computes.

The name of an imported multiplier may come to mean another one, so candidates call it NAME@DIGEST.
"""

from __future__ import annotations

_LONGEST_NAME = 55  # characters of a name beside a digest, within approx's 64


def multiplier_identity(name: str, digest: str) -> str:
    """Return what candidates call an imported multiplier.

    Args:
        name: Its name.
        digest: SHA-256, in hex, of what it computes.
    """
    return f"{name}@{digest[:8]}"


def is_imported(identity: str) -> bool:
    """Whether a candidate's multiplier is an imported one instead of a built-in one."""
    return "@" in identity


def multiplier_name(identity: str) -> str:
    """Return the name by which people know the multiplier of a candidate."""
    return identity.partition("@")[0]


def name_in_layers(identity: str) -> str:
    """Return the name under which `approx` knows a candidate's multiplier: its names have no @."""
    name, at, digest = identity.partition("@")
    return f"{name[:_LONGEST_NAME]}.{digest}" if at else name
