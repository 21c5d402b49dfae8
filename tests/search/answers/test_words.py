from dataclasses import replace

from search.answers import words
from search.space.task import CustomNetwork, find_task

DIGITS = find_task("digits")
SCRATCH = CustomNetwork(path="nets:build", folder="", max_depth=3, max_width=8, fingerprint="0")
TRAINED = replace(SCRATCH, max_depth=1, weights_sha256="1")


def test_a_network_is_shown_by_its_depth_and_width() -> None:
    assert words.configuration(DIGITS.space.baseline())["network"] == "mlp 3x8"
    assert words.configuration(DIGITS.with_network(SCRATCH).space.baseline())["network"] == "nets:build 3x8"


def test_a_network_that_comes_trained_is_shown_by_the_share_of_channels_that_it_keeps() -> None:
    whole = DIGITS.with_network(TRAINED).space.baseline()
    assert words.configuration(whole)["network"] == "nets:build 8/8"
    assert words.configuration(replace(whole, width=5))["network"] == "nets:build 5/8"
