"""The identities of multipliers in candidates: the name of a built-in one, NAME@DIGEST of an imported one.

The digest is of its truth table, because the name may later be given to another multiplier.
"""

from __future__ import annotations

_LONGEST_NAME = 55  # characters of a name before its digest, within approx's limit of 64


def multiplier_identity(name: str, digest: str) -> str:
    """Return the identity of an imported multiplier in candidates.

    Args:
        name: Its name.
        digest: SHA-256 of its truth table, in hex.
    """
    return f"{name}@{digest[:8]}"


def is_imported(identity: str) -> bool:
    """Whether a candidate's multiplier is imported rather than built in."""
    return "@" in identity


def multiplier_name(identity: str) -> str:
    """Return the name of a candidate's multiplier, as users know it."""
    return identity.partition("@")[0]


def name_in_layers(identity: str) -> str:
    """Return the name of a candidate's multiplier in `approx`, whose names have no @."""
    name, at, digest = identity.partition("@")
    return f"{name[:_LONGEST_NAME]}.{digest}" if at else name
