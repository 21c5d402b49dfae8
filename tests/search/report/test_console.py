import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from search import best
from search.answers import words
from search.answers.confirmation import Answer, Confirmation, RightSized
from search.answers.margins import Mean
from search.answers.result import SearchResult, result_of
from search.api.workplace import Workplace
from search.engine import run_search
from search.evaluation.confirmation_run import ConfirmationRun
from search.evaluation.evaluation import NarrowSums
from search.observer import Observer
from search.report import console
from search.space.target import Target
from search.space.task import find_task
from search.store.database import Store
from search.store.records import Record
from tests.support.fakes import SETUP, FakeExecutor, FakeGenomeModel, formula, new_search
from tests.support.stored import CONFIRMED, DROP, REJECTED, RIGHT_SIZED, SPACE, store_rejected
from tests.support.stored import SETUP as STORED_SETUP
from tests.support.trained_answers import given_as_object, trained_answer


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
        task=find_task("digits"),
        target=Target(min_accuracy=0.9),
        baseline=record,
        right_sized=RightSized(record=record, confirmation=None),
        record=record,
        confirmation=None,
        baseline_confirmation=None,
        rejected=(),
        confirmations={},
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
            task=find_task("digits"),
            target=Target(min_accuracy=0.1),
            baseline=baseline,
            right_sized=RightSized(record=baseline, confirmation=None),
            record=record,
            confirmation=None,
            baseline_confirmation=None,
            rejected=(),
            confirmations={},
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
        outcomes=None,
        retrained=True,
        test_accuracies=(0.9,),
        test_class_accuracies=(0.9,) * 10,
        seconds=1.0,
    )
    lacking, none = (Mean(value=0.0, standard_error=0.01, lower_bound=bound) for bound in (-0.02, 0.02))
    found = Answer(
        task=find_task("digits"),
        target=Target(max_accuracy_drop=0.02),
        baseline=base,
        right_sized=RightSized(record=base, confirmation=None),
        record=base,
        confirmation=Confirmation(runs=(run, run), margin=none, confirmed=True),
        baseline_confirmation=None,
        rejected=((near, Confirmation(runs=(run, run), margin=lacking, confirmed=False)),),
        confirmations={},
    )
    written = io.StringIO()
    console.print_answer(Console(file=written, width=400), found)
    saved = words.saving(base.evaluation.energy_pj / near.evaluation.energy_pj)
    assert (
        "Nothing cheaper is confirmed within 2.00 points of the baseline, aaaaaaaaaaaa. 1 cheaper rejected. "
        f"Nearest, not confirmed: bbbbbbbbbbbb, {saved} less than the baseline, {saved} less than the right-sized "
        "network; with 97.5 % confidence it falls 2.00 points short." in written.getvalue()
    )
    assert "By class, on test images: 0 90.00%, 1 90.00%, " in written.getvalue()


def test_a_network_that_nothing_exports_has_no_command_for_it() -> None:
    found = trained_answer("none")
    for answer, exported in ((found, True), (replace(found, task=given_as_object("none")), False)):
        written = io.StringIO()
        console.print_answer(Console(file=written, width=400), answer)
        assert ("Export it with: search export" in written.getvalue()) == exported


@pytest.mark.slow
def test_a_front_fits_a_terminal_of_80_columns(tmp_path: Path) -> None:
    with Store.open(f"sqlite:///{tmp_path / 'results.db'}", create=True) as store:
        search = new_search(store, budget=60, task=find_task("digits"), target=Target(min_accuracy=0.9))
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
    end = next(number for number, line in enumerate(lines) if line.startswith("base"))
    shown = [line for line in lines[:end] if line[:1].isdigit()]
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


def printed(answer: Answer, width: int = 120) -> str:
    written = io.StringIO()
    console.print_answer(Console(file=written, width=width), answer)
    return " ".join(written.getvalue().split())


def test_savings_are_told_against_the_right_sized_network_too(tmp_path: Path) -> None:
    store_rejected(tmp_path / "results.db")
    answer = best(max_accuracy_drop=DROP, confirm=False, workplace=Workplace(storage=str(tmp_path / "results.db")))
    text = printed(answer)
    assert "2.86x less than the baseline, 1.43x less than the right-sized network. 1 cheaper rejected." in text
    assert f"{RIGHT_SIZED.key[:12]}, mlp 3x4, 1.39 nJ, 2x less than the baseline; not retrained, 95.02% in" in text
    assert "on images held out (97.10% in the search), 96.82% on test images." in text
    row = next(line for line in text.split(CONFIRMED.key[:12]) if line.startswith(" ✓"))
    assert " 2.86x 1.43x 0.50x mlp 3x4 30% " in row


def test_a_front_marks_what_fresh_runs_rejected(tmp_path: Path) -> None:
    store_rejected(tmp_path / "results.db")
    with Store.open(f"sqlite:///{tmp_path / 'results.db'}", create=False) as store:
        search = new_search(store, setup=STORED_SETUP, task=find_task("digits"), target=Target(max_accuracy_drop=DROP))
        for number, one in enumerate((SPACE.baseline(), CONFIRMED, REJECTED, RIGHT_SIZED)):
            store.searches.record_trial(search, number, evaluation_key=one.key)
        result = result_of(store, search, evaluations=False)
    written = io.StringIO()
    console.print_result(Console(file=written, width=120), result)
    marks = [line.split()[:2] for line in written.getvalue().splitlines() if line[:1].isdigit()][:4]
    assert [mark if mark in "✓✗" else "" for _, mark in marks] == ["✓", "", "✓", "✗"]
    assert result.answer.record is not None
    assert result.answer.record.key == CONFIRMED.key
    untried = console_text(replace(result, answer=replace(result.answer, confirmation=None)))
    assert "NOT CONFIRMED within 3.00 points of the baseline by fresh runs yet. Cheapest measured:" in untried


def console_text(result: SearchResult) -> str:
    written = io.StringIO()
    console.print_result(Console(file=written, width=120), result)
    return " ".join(written.getvalue().split())
