import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from search.answers import words
from search.answers.confirmation import Answer, Confirmation, Mean
from search.engine import run_search
from search.evaluation.evaluation import ConfirmationRun, NarrowSums
from search.observer import Observer
from search.report import console
from search.space.target import Target
from search.space.task import find_task
from search.store.database import Store
from search.store.records import Record
from tests.support.fakes import SETUP, FakeExecutor, FakeGenomeModel, formula, new_search


def test_an_imported_multiplier_goes_by_its_name() -> None:
    candidate = replace(find_task("digits").space.baseline(), multiplier="mine@01234567")
    assert words.configuration(candidate)["multiplier"] == "mine"


def test_energies_have_three_digits_and_a_fitting_unit() -> None:
    assert [words.energy(pj) for pj in (0.5, 999.4, 999.6, 1234.0, 2e6)] == [
        "0.5 pJ",
        "999 pJ",
        "1 nJ",
        "1.23 nJ",
        "2 uJ",
    ]


def test_layers_that_differ_have_words_of_their_own() -> None:
    candidate = replace(find_task("digits").space.baseline(), supply_v=0.8, robust_bits=2)
    assert words.configuration(candidate)["memory"] == "0.80V +2"
    layered = replace(candidate, multiplier_first="asm-1", multiplier_last="mine@01234567", robust_bits_last=0)
    assert words.configuration(layered)["multiplier"] == "asm-1 | exact | mine"
    assert words.configuration(layered)["memory"] == "0.80V +2|2|0"


def test_a_layered_candidate_fits_a_terminal_of_80_columns() -> None:
    candidate = replace(
        find_task("digits").space.baseline(),
        supply_v=0.8,
        multiplier_first="truncated-4",
        multiplier_last="asm-1-3",
        robust_bits_first=3,
    )
    record = Record(key="abc", setup=SETUP, seed=0, evaluation=formula(candidate), test_accuracies=None)
    written = io.StringIO()
    found = Answer(
        target=Target(min_accuracy=0.9),
        baseline=record,
        record=record,
        confirmation=None,
        baseline_confirmation=None,
        rejected=(),
    )
    console.print_answer(Console(file=written, width=80), found)
    for text in ("truncated-4 | 0.80V", "exact |       +3|0|0", "asm-1-3"):
        assert text in written.getvalue()


def test_an_answer_says_how_many_narrow_sums_overflowed() -> None:
    def narrow(record: Record, overflowed: float | None) -> Record:
        sums = NarrowSums(bits=16, overflow="saturate", overflowed=overflowed)
        return replace(record, evaluation=replace(record.evaluation, narrow_sums=sums))

    candidate = find_task("digits").space.baseline()
    base = Record(key="base", setup=SETUP, seed=0, evaluation=formula(candidate), test_accuracies=None)
    best = replace(base, key="best", evaluation=formula(replace(candidate, width=2)))

    def told(baseline: Record, record: Record) -> str:
        answer = Answer(
            target=Target(min_accuracy=0.1),
            baseline=baseline,
            record=record,
            confirmation=None,
            baseline_confirmation=None,
            rejected=(),
        )
        written = io.StringIO()
        console.print_answer(Console(file=written, width=200), answer)
        return next((line for line in written.getvalue().splitlines() if "Partial sums" in line), "")

    assert told(narrow(base, 0.25), narrow(best, 0.0001)) == (
        "Partial sums saturate at 16 bits: 25.00% of the baseline's, and 0.01% of the answer's."
    )
    assert told(narrow(base, 0.25), narrow(base, 0.25)) == "Partial sums saturate at 16 bits: 25.00% of the baseline's."
    assert told(base, best) == told(narrow(base, 0.25), narrow(best, None)) == ""


def test_where_only_the_baseline_is_confirmed_the_nearest_is_named() -> None:
    baseline = find_task("digits").space.baseline()
    base, near = (
        Record(key=key * 12, setup=SETUP, seed=0, evaluation=formula(candidate), test_accuracies=None)
        for key, candidate in (("a", baseline), ("b", replace(baseline, weight_bits=4)))
    )
    run = ConfirmationRun(
        candidate=baseline,
        run=0,
        chip_accuracies=(0.9,),
        images=100,
        pool=500,
        test_accuracies=(0.9,),
        seconds=1.0,
    )
    lacking, none = (Mean(value=0.0, standard_error=0.01, lower_bound=bound) for bound in (-0.02, 0.02))
    found = Answer(
        target=Target(max_accuracy_drop=0.02),
        baseline=base,
        record=base,
        confirmation=Confirmation(runs=(run, run), margin=none, confirmed=True),
        baseline_confirmation=None,
        rejected=((near, Confirmation(runs=(run, run), margin=lacking, confirmed=False)),),
    )
    written = io.StringIO()
    console.print_answer(Console(file=written, width=400), found)
    saved = words.saving(base.evaluation.energy_pj / near.evaluation.energy_pj)
    assert (
        "Nothing cheaper is confirmed within 2.00 points of the baseline, aaaaaaaaaaaa. 1 cheaper rejected. "
        f"Nearest: bbbbbbbbbbbb, {saved} less; with 97.5 % confidence it falls 2.00 points short." in written.getvalue()
    )


@pytest.mark.slow
def test_a_front_fits_a_terminal_of_80_columns(tmp_path: Path) -> None:
    with Store.open(f"sqlite:///{tmp_path / 'results.db'}", create=True) as store:
        search = new_search(store, budget=60, target=Target(min_accuracy=0.9))
        result = run_search(
            search,
            find_task("digits").space,
            store,
            FakeExecutor(),
            genome_model=FakeGenomeModel(find_task("digits").space),
            key_of=lambda candidate: candidate.key,
            observer=Observer(),
        )
    written = io.StringIO()
    console.print_result(Console(file=written, width=80), result, show_all=True)
    lines = written.getvalue().splitlines()
    assert max(len(line) for line in lines) <= 80
    assert "…" not in written.getvalue()
    shown = [line for line in lines if line[:1].isdigit() and "evaluations" not in line]
    assert len(shown) == len(result.front) > 5
    for line, record in zip(shown, result.front, strict=True):
        candidate = record.evaluation.candidate
        assert f"w{candidate.weight_bits}a{candidate.activation_bits}" in line
        assert f"{record.evaluation.accuracy * 100:.2f}" in line
    assert not [line for line in lines if line.startswith("best")]  # it is one of these

    off_front = next(one for one in result.evaluations if one not in (result.baseline, *result.front))
    written = io.StringIO()
    answer = replace(result.answer, record=off_front)
    console.print_result(Console(file=written, width=80), replace(result, answer=answer), show_all=True)
    (line,) = [line for line in written.getvalue().splitlines() if line.startswith("best")]
    assert f"{off_front.evaluation.accuracy * 100:.2f}" in line
