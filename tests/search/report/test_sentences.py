"""What is said of answers of networks that come trained, and of classes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from search.answers import words
from search.answers.confirmation import Answer
from search.images.dataset import Dataset
from search.multipliers.folder import Claim, MultiplierFolder
from search.report import json_values, sentences
from search.space.task import Train, find_task
from tests.support.trained_answers import FOUND, trained_answer

DIGITS = find_task("digits")


def told(found: Answer) -> str:
    lines = [*sentences.legend_lines(found), *sentences.answer_lines(found, confirm="Confirm it so")]
    return "\n".join(lines)


def test_without_training_an_answer_says_that_it_was_bootstrapped_and_over_what() -> None:
    text = told(trained_answer("none"))
    share = f"{FOUND.evaluation.accuracy:.2%} in the search"
    assert f"\nBootstrapped over 6,000 images and 20 chips: 95.00% ± 0.28% ({share}), 91.23% on test images.\n" in text
    assert "✓: bootstraps confirm within 2.00 points of the baseline; ✗: they reject it" in text
    assert "Baseline: bootstrapped over 6,000 images and 20 chips: 96.00%" in text
    assert "fresh run" not in text
    assert "retrain" not in text
    untried = told(replace(trained_answer("none", confirmed=False), baseline_confirmation=None))
    assert "NOT CONFIRMED within 2.00 points of the baseline by bootstraps yet. Cheapest measured: " in untried
    assert "Baseline: measured once, " in untried


def test_a_fine_tuned_answer_says_how_many_fresh_runs_it_has() -> None:
    text = told(trained_answer("finetune"))
    assert "\n5 fresh runs: 95.00% ± 0.28% on images held out (" in text
    assert "✓: fresh runs confirm" in text
    assert "bootstrap" not in text


@pytest.mark.parametrize("train", ["none", "finetune"])
def test_where_images_may_have_trained_the_network_test_images_lead(train: Train) -> None:
    text = told(trained_answer(train, clean=False))
    kind = "bootstrapped over" if train == "none" else "5 fresh runs"
    assert f"\n91.23% on test images; {kind}" in text
    assert f"Baseline: 91.23% on test images; {kind}" in text
    assert words.CAUTION in text
    clean = told(trained_answer(train))
    assert words.CAUTION not in clean
    assert "\n91.23% on test images" not in clean


def test_json_says_the_same() -> None:
    found = json_values.answer_json(trained_answer("none", clean=False))
    assert found["caution"] == words.CAUTION
    confirmation = found["confirmation"]
    assert (confirmation["retrained"], confirmation["images"], confirmation["chips"]) == (False, 6000, 20)
    assert found["class_accuracies_on"] == "test"
    assert found["class_accuracies"] == pytest.approx({str(number): 0.9 + number / 100 for number in range(10)})
    assert json_values.answer_json(trained_answer("finetune"))["caution"] is None
    untried = json_values.answer_json(trained_answer("none", confirmed=False))
    assert untried["class_accuracies_on"] == "validation"
    assert untried["class_accuracies"]["3"] == FOUND.evaluation.class_accuracies[3]


def test_the_baseline_as_an_answer_costs_no_less_than_itself() -> None:
    found = trained_answer("finetune")
    text = told(replace(found, record=found.baseline, confirmation=found.baseline_confirmation))
    assert f"{words.energy(found.baseline.evaluation.energy_pj)}, the baseline itself." in text
    assert "less than the baseline" not in text.splitlines()[2]
    assert "\nBy class, on test images: 0 " in text


def test_each_class_of_few_is_named_with_its_accuracy() -> None:
    assert "\nBy class, on test images: 0 90.00%, 1 91.00%, 2 92.00%," in told(trained_answer("finetune"))
    assert "\nBy class, on validation images: 0 " in told(trained_answer("none", confirmed=False))


def test_of_many_classes_the_least_accurate_are_named() -> None:
    found, classes = trained_answer("finetune"), 12
    dataset: Dataset = replace(DIGITS.dataset, class_names=tuple("abcdefghijkl"))
    shares = (0.9, None, 0.5, *(0.8 + number / 100 for number in range(classes - 3)))
    assert found.confirmation is not None
    own = tuple(replace(run, test_class_accuracies=shares) for run in found.confirmation.runs)
    found = replace(
        found,
        task=replace(found.task, dataset=dataset),
        confirmation=replace(found.confirmation, runs=own),
    )
    (line,) = [line for line in told(found).splitlines() if "class" in line]
    assert line.startswith("Least accurate of 12 classes, on test images: c 50.00%, d 80.00%, e 81.00%,")
    assert " b " not in line
    assert line.count("%") == 10


def test_energy_that_was_stated_and_not_measured_is_said() -> None:
    claim = Claim(
        relative_energy=0.5,
        relative_area=0.6,
        source="published in a paper",
        weight_bits=8,
        activation_bits=8,
        weight_signed=True,
        activation_signed=True,
    )
    MultiplierFolder.default().keep_claim("mine", claim)
    answer = trained_answer("none")
    assert answer.record is not None
    evaluation = answer.record.evaluation
    candidate = replace(evaluation.candidate, multiplier="mine@01234567")
    record = replace(answer.record, evaluation=replace(evaluation, candidate=candidate))
    said = "The energy of mine is 0.5 of an exact one, not measured here: published in a paper."
    assert said in told(replace(answer, record=record))
    assert "not measured here" not in told(answer)
