from dataclasses import replace

import pytest

from search.answers import words
from search.space.plan import Plan, Remedy
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


PLAN = Plan(
    evaluations=200,
    workers=2,
    first_s=20.4,
    evaluation_s=4.8,
    search_s=480.0,
    confirmation_s=61.0,
    epochs=3.0,
    images=54_000,
    known=False,
)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0.072, "0.07 s"),
        (0.74, "0.7 s"),
        (1.46, "1.5 s"),
        (3.4, "3 s"),
        (38.4, "38 s"),
        (91, "1.5 min"),
        (480, "8 min"),
        (89 * 60, "89 min"),
        (90 * 60, "1.5 h"),
        (40.2 * 3600, "40 h"),
        (100 * 3600, "4 days"),
        (1000 * 86400, "1000 days"),
    ],
)
def test_durations_are_as_rough_as_they_are_known(seconds: float, told: str) -> None:
    assert words.duration(seconds) == told


def test_a_plan_is_one_line() -> None:
    assert words.plan(PLAN) == (
        "plan: an evaluation takes about 5 s (the first 20 s), 200 evaluations about 8 min on 2 workers, "
        "confirmation about 61 s; 3 epochs of 54,000 images"
    )
    rest = replace(PLAN, first_s=None, confirmation_s=None, workers=1, epochs=1.0)
    assert words.plan(rest) == (
        "plan: an evaluation takes about 5 s, 200 evaluations about 8 min on 1 worker; 1 epoch of 54,000 images"
    )
    assert words.plan(replace(PLAN, evaluations=1)).startswith(
        "plan: an evaluation takes about 5 s, 1 evaluation about "
    )
    assert words.plan(replace(PLAN, epochs=100.0, images=168)).endswith("; 100 epochs of 168 images")
    assert words.plan(replace(PLAN, epochs=0.0)).endswith("; nothing is trained")


def test_energies_are_compared_in_words() -> None:
    compared = {
        2.0: "2x less than",
        1.0: "the same as",
        1.004: "the same as",
        0.996: "the same as",
        0.5: "2x more than",
    }
    assert {ratio: words.less(ratio) for ratio in compared} == compared


def test_one_of_a_kind_is_in_the_singular() -> None:
    assert [words.count(number, "run") for number in (0, 1, 2, 12_000)] == ["0 runs", "1 run", "2 runs", "12,000 runs"]
    assert [words.count(number, "epoch") for number in (1.0, 3.25, 12.4)] == ["1 epoch", "3.2 epochs", "12 epochs"]


def test_a_plan_says_that_networks_of_earlier_searches_are_kept() -> None:
    told = words.plan(replace(PLAN, known=True))
    assert "the first" not in told
    assert told.endswith("; less, as networks of earlier searches are kept")


def test_a_long_plan_says_what_to_change() -> None:
    remedies = (
        Remedy(parameter="budget", value="50", seconds=7200.0),
        Remedy(parameter="image_size", value="32x32", seconds=600.0),
    )
    assert words.plan(replace(PLAN, remedies=remedies)).endswith(
        "54,000 images. To take less: `budget` 50 (about 2 h), `image_size` 32x32 (about 10 min)"
    )
