"""Answers of networks that come trained."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from search.answers.confirmation import Answer, Confirmation, RightSized
from search.answers.margins import margin_above
from search.evaluation.confirmation_run import ConfirmationRun, Outcomes
from search.space.target import Target
from search.space.task import CustomNetwork, Task, Train, find_task
from search.store.records import Record
from tests.support.fakes import SETUP, formula, fresh_run

DIGITS = find_task("digits")
BASE = Record(key="b" * 12, setup=SETUP, seed=0, evaluation=formula(DIGITS.space.baseline()), test_accuracies=None)
FOUND = replace(BASE, key="f" * 12, evaluation=formula(replace(DIGITS.space.baseline(), width=7)))
IMAGES, RUNS = 6000, 5


def given_as_object(train: Train) -> Task:
    """Return a task whose network was given as a Python object."""
    network = CustomNetwork(path="nets.Net", folder="", max_depth=1, max_width=8, fingerprint="0", weights_sha256="0")
    return DIGITS.with_network(network).with_training(train)


def _task(train: Train, *, clean: bool) -> Task:
    counts = {"train": 800, "test": 90, **({"validation": 100} if clean else {})}
    return replace(DIGITS, dataset=replace(DIGITS.dataset, counts=counts)).with_training(train)


def _runs(candidate_right: int, *, retrained: bool) -> tuple[ConfirmationRun, ...]:
    """Runs of four chips on the same images, of which the first ones are right."""
    right = np.broadcast_to(np.arange(IMAGES) < candidate_right, (4, IMAGES))
    by_class = tuple(0.9 + number / 100 for number in range(10))
    return tuple(
        replace(
            fresh_run(FOUND.evaluation.candidate, number),
            chip_accuracies=(candidate_right / IMAGES,) * 4,
            images=IMAGES,
            pool=IMAGES,
            outcomes=Outcomes.of(right, (IMAGES,)),
            retrained=retrained,
            test_accuracies=(0.9123,),
            test_class_accuracies=by_class,
        )
        for number in range(RUNS)
    )


def trained_answer(train: Train, *, clean: bool = True, confirmed: bool = True) -> Answer:
    """Return a confirmed answer, or one that nothing has confirmed yet, within two points of the baseline.

    Args:
        train: How its network was made of one that came trained.
        clean: Whether its data set has validation images of its own.
        confirmed: Whether it was confirmed.
    """
    task, target = _task(train, clean=clean), Target(max_accuracy_drop=0.02)
    own, base = _runs(5700, retrained=train != "none"), _runs(5760, retrained=train != "none")
    confirmation = Confirmation(runs=own, margin=margin_above(own, target, base), confirmed=True)
    of_base = Confirmation(runs=base, margin=confirmation.margin, confirmed=True)
    return Answer(
        task=task,
        target=target,
        baseline=BASE,
        right_sized=RightSized(record=BASE, confirmation=of_base),
        record=FOUND,
        confirmation=confirmation if confirmed else None,
        baseline_confirmation=of_base,
        rejected=(),
        confirmations={},
    )
