"""Hypothesis strategies for the project's values."""

from hypothesis import strategies as st

from search.multipliers.choice import MULTIPLIERS
from search.space.candidate import Candidate

candidates = st.builds(
    Candidate,
    family=st.sampled_from(["mlp", "lenet", "vgg", "resnet", "package.nets:build"]),
    depth=st.integers(1, 3),
    width=st.integers(1, 8),
    sparsity=st.integers(0, 19).map(lambda step: step * 5 / 100),
    weight_bits=st.integers(2, 8),
    activation_bits=st.integers(2, 8),
    multiplier=st.sampled_from(MULTIPLIERS),
    supply_v=st.integers(70, 90).map(lambda centivolts: centivolts / 100),
    robust_bits=st.integers(0, 4),
    multiplier_first=st.none() | st.sampled_from(MULTIPLIERS),
    multiplier_last=st.none() | st.sampled_from(MULTIPLIERS),
    robust_bits_first=st.none() | st.integers(0, 4),
    robust_bits_last=st.none() | st.integers(0, 4),
)
