"""The four techniques that a search combines, and the knobs of a candidate that belong to each."""

from __future__ import annotations

from search.space.candidate import Candidate

# Precision belongs to the multiplier: both determine what a product costs and how exact it is.
TECHNIQUES = {
    "network": ("family", "depth", "width"),
    "pruning": ("sparsity",),
    "multiplier": ("weight_bits", "activation_bits", "multiplier", "multiplier_first", "multiplier_last"),
    "memory": ("supply_v", "robust_bits", "robust_bits_first", "robust_bits_last"),
}


def techniques_of(candidate: Candidate, baseline: Candidate) -> frozenset[str]:
    """Return the techniques by which a candidate differs from the baseline; both in canonical form."""
    return frozenset(
        technique
        for technique, knobs in TECHNIQUES.items()
        if any(getattr(candidate, knob) != getattr(baseline, knob) for knob in knobs)
    )
