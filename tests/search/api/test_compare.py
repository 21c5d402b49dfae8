"""Comparisons of combinations of techniques, on evaluations by formula; one small real one."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

import search
from search.answers import words
from search.answers.comparison import COMBINATIONS, Choice, Combination, Comparison, Row
from search.api._compare import LOSSES
from search.api.workplace import Workplace
from search.api.workshop import Workshop
from search.cli.main import cli
from search.errors import UsageError
from search.evaluation.confirmation_run import ConfirmationRun
from search.evaluation.evaluation import Evaluation
from search.evaluation.work import Keep, Outcome, Result, WorkItem
from search.observer import Observer
from search.report.comparison import NOT_CONFIRMED, check_folder, print_comparison, write_comparison
from search.space.candidate import Candidate
from search.space.task import find_task
from search.space.techniques import TECHNIQUES
from search.store.database import Store
from search.store.setup import Setup
from tests.support.fakes import FakeExecutor, formula

pytestmark = pytest.mark.slow  # searches

BUDGET = 10
BASELINE = find_task("digits").space.baseline()


class KilledError(Exception):
    """Stands for whatever stops a comparison."""


class Executor(FakeExecutor):
    """Evaluates by formula; trains anew by another one, on so many images that every bound is close."""

    def __init__(
        self,
        evaluate: Callable[[Candidate], Evaluation] = formula,
        fresh: Callable[[Candidate], float] = lambda candidate: formula(candidate).accuracy,
        *,
        images: int = 1_000_000,
        dies_after: int | None = None,
    ) -> None:
        super().__init__(evaluate=evaluate)
        self._fresh = fresh
        self._images = images
        self._left = dies_after
        self.runs: list[tuple[Candidate, int]] = []

    def run(self, jobs: Iterable[WorkItem[Result]]) -> Iterator[Outcome[Result]]:
        for job in jobs:
            if self._left is not None:
                if self._left == 0:
                    raise KilledError
                self._left -= 1
            yield from super().run([job])

    def confirm(self, candidate: Candidate, run: int) -> ConfirmationRun:
        self.runs.append((candidate, run))
        # Every run differs a little from the others, by the same for all candidates.
        accuracy = self._fresh(candidate) + 1e-5 * run
        return ConfirmationRun(
            candidate=candidate,
            run=run,
            chip_accuracies=(accuracy,),
            images=self._images,
            pool=10 * self._images,
            outcomes=None,
            retrained=True,
            test_accuracies=(accuracy - 0.01,),
            test_class_accuracies=(accuracy - 0.01,) * 10,
            seconds=0.0,
        )


class Notes(Observer):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def noted(self, text: str) -> None:
        self.texts.append(text)


def compare(executor: Executor, storage: Path, *, observer: Observer | None = None, **options: Any) -> Comparison:
    """`search.compare` with an executor of these tests."""
    settings = {"budget": BUDGET, "effort": "quick", **options}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Workshop, "executor", lambda *_, **__: executor)
        return search.compare(**settings, workplace=Workplace(storage=str(storage), workers=0), observer=observer)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with a comparison, digits-compare-1, without fresh runs."""
    storage = tmp_path_factory.mktemp("kept") / "results.db"
    compare(Executor(), storage, confirm=False)
    return storage


@pytest.fixture
def storage(kept: Path, tmp_path: Path) -> Path:
    """A copy of that database."""
    return Path(shutil.copy(kept, tmp_path / "results.db"))


def again(executor: Executor, storage: Path, **options: Any) -> Comparison:
    """The comparison of that database."""
    return compare(executor, storage, name="digits-compare-1", **options)


def row_of(comparison: Comparison, *techniques: str, strategy: str = "joint") -> Row:
    (row,) = [
        row
        for row in comparison.rows
        if (row.combination.techniques, row.combination.strategy) == (techniques, strategy)
    ]
    return row


def savings(row: Row) -> list[float]:
    return [round(choice.saving, 3) for choice in row.choices]


def test_there_are_eleven_joint_combinations_and_a_greedy_one() -> None:
    sizes = [len(one.techniques) for one in COMBINATIONS if one.strategy == "joint"]
    assert sizes == [1] * 4 + [2] * 6 + [4]
    assert [one.label for one in COMBINATIONS if one.strategy == "greedy"] == ["all four, greedy"]
    assert len({one.suffix for one in COMBINATIONS}) == len({one.label for one in COMBINATIONS}) == 12


def test_rows_are_right_by_hand(storage: Path) -> None:
    comparison = again(Executor(), storage, confirm=False)
    assert comparison.losses == LOSSES == (0.005, 0.01, 0.02, 0.05)
    assert comparison.baseline.candidate == BASELINE
    assert comparison.baseline.saving == 1
    # By the formula, pruning a share s loses 0.1 s^4 of accuracy and saves 1 / (1 - s). The search begins with shares
    # of 0, 0.4, 0.5, 0.55 and 0.65. 0.55 loses 0.0092 and 0.6 loses 0.0130; 0.65 loses 0.0179 and 0.7 loses 0.0240.
    pruning = row_of(comparison, "pruning")
    assert [choice.candidate.sparsity for choice in pruning.choices[1:3]] == [0.55, 0.65]
    assert [choice.saving for choice in pruning.choices[1:3]] == pytest.approx([1 / 0.45, 1 / 0.35])
    # 0.45 loses 0.0041 and 0.5 loses 0.0063; 0.8 loses 0.0410 and 0.85 loses 0.0522. The rest is drawn at random.
    assert pruning.choices[0].candidate.sparsity in (0.4, 0.45)
    assert pruning.choices[3].candidate.sparsity in (0.65, 0.7, 0.75, 0.8)
    for choice in pruning.choices:
        assert choice.candidate == replace(BASELINE, sparsity=choice.candidate.sparsity)
        assert choice.accuracy == pytest.approx(formula(BASELINE).accuracy - 0.1 * choice.candidate.sparsity**4)
    # A smaller network of depth x width = s instead of 24 saves 24 / s, and loses 0.5 / s - 0.5 / 24.
    for choice in row_of(comparison, "network").choices:
        size = choice.candidate.depth * choice.candidate.width
        assert choice.saving == pytest.approx(24 / size)
        assert 0.5 / size - 0.5 / 24 <= choice.loss


def test_every_choice_is_the_cheapest_of_its_own_search(storage: Path) -> None:
    comparison = again(Executor(), storage, confirm=False)
    base = formula(BASELINE)
    with Store.open(f"sqlite:///{storage}", create=False) as store:
        for row in comparison.rows:
            stored = store.searches.find(row.search)
            assert stored.finished_at is not None
            assert (stored.budget, stored.seed) == (BUDGET, 0)
            assert (stored.settings.sampler == "greedy") == (row.combination.strategy == "greedy")
            assert row.evaluations == BUDGET
            found = [record.evaluation for record in store.evaluations.of_search(stored)]
            for loss, choice in zip(LOSSES, row.choices, strict=True):
                meeting = [one for one in found if one.accuracy >= base.accuracy - loss and not one.stopped]
                assert choice.energy_pj == min(one.energy_pj for one in meeting)
                assert choice.accuracy == formula(choice.candidate).accuracy
                assert choice.confirmed == (choice.candidate == BASELINE)
            others = set(TECHNIQUES) - set(row.combination.techniques)
            for knob in (knob for technique in others for knob in TECHNIQUES[technique]):
                assert {getattr(one.candidate, knob) for one in found} <= {getattr(BASELINE, knob)}


def test_nothing_but_the_baseline_saves_nothing(tmp_path: Path) -> None:
    def hopeless(candidate: Candidate) -> Evaluation:
        found = formula(candidate)
        return found if candidate == BASELINE else replace(found, chip_accuracies=(0.2,))

    for confirm in (False, True):
        comparison = compare(
            Executor(hopeless), tmp_path / "results.db", budget=3, confirm=confirm, name="digits-compare-1"
        )
        choices = [choice for row in comparison.rows for choice in row.choices]
        assert {choice.saving for choice in choices} == {1.0}
        assert {choice.candidate for choice in choices} == {BASELINE}
        assert all(choice.confirmed for choice in choices)


def test_a_comparison_that_was_killed_goes_on(tmp_path: Path) -> None:
    whole_executor = Executor()
    whole = compare(whole_executor, tmp_path / "whole.db", budget=3)
    for jobs in (1, 20):
        parts, first, second, notes = tmp_path / f"{jobs}.db", Executor(dies_after=jobs), Executor(), Notes()
        with pytest.raises(KilledError):
            compare(first, parts, budget=3)
        assert len(first.jobs) == jobs
        assert again(second, parts, observer=notes, budget=None, effort=None) == whole
        evaluated = [job.key for job in first.evaluated() + second.evaluated()]
        assert len(evaluated) == len(set(evaluated)) == len(whole_executor.evaluated())
        assert any("finished before" in text for text in notes.texts) == (jobs == 20)
    third = Executor()
    assert again(third, tmp_path / "whole.db", budget=3) == whole
    assert [job for job in third.jobs if not isinstance(job, Keep)] == []
    assert third.runs == []


def test_a_comparison_killed_while_it_is_confirmed_goes_on(storage: Path, kept: Path, tmp_path: Path) -> None:
    first, second = Executor(dies_after=7), Executor()
    with pytest.raises(KilledError):
        again(first, storage)
    found = again(second, storage)
    assert first.evaluated() == second.evaluated() == []
    assert len(first.runs) == 7
    assert not set(first.runs) & set(second.runs)
    assert found == again(Executor(), Path(shutil.copy(kept, tmp_path / "whole.db")))


def test_a_second_comparison_finds_the_same_and_evaluates_nothing(storage: Path) -> None:
    one = again(Executor(), storage)
    executor, notes = Executor(), Notes()
    other = compare(executor, storage, observer=notes)
    assert [text.split(": ")[1] for text in notes.texts if ", search " in text] == [one.label for one in COMBINATIONS]
    assert (one.name, other.name) == ("digits-compare-1", "digits-compare-2")
    assert executor.evaluated() == []
    assert executor.runs == []
    renamed = [replace(row, search=row.search.replace("compare-2", "compare-1")) for row in other.rows]
    assert replace(other, name=one.name, rows=tuple(renamed)) == one


def test_combinations_share_evaluations(kept: Path) -> None:
    comparison = again(Executor(), kept, confirm=False)
    with Store.open(f"sqlite:///{kept}", create=False) as store:
        made = store.evaluations.all(Setup(task="digits", hardware=comparison.hardware, effort="quick"))
    assert len(made) < sum(row.distinct for row in comparison.rows)


def test_fresh_runs_reject_what_was_lucky(storage: Path) -> None:
    def fresh(candidate: Candidate) -> float:
        return formula(candidate).accuracy - (0.02 if candidate.sparsity == 0.65 else 0)

    assert row_of(again(Executor(), storage, confirm=False), "pruning").choices[2].candidate.sparsity == 0.65
    choice = row_of(again(Executor(fresh=fresh), storage), "pruning").choices[2]
    assert choice.candidate.sparsity in (0.55, 0.6)
    assert choice.confirmed
    assert choice.fresh_runs == 3
    accuracy = formula(choice.candidate).accuracy + 1e-5  # the mean of the three runs
    assert choice.fresh_accuracy == pytest.approx(accuracy)
    assert choice.fresh_test_accuracy == pytest.approx(accuracy - 0.01)


def test_what_fresh_runs_leave_open_is_marked(storage: Path) -> None:
    # Among so few images the standard error of an accuracy is some 3 points.
    pruning = row_of(again(Executor(images=20), storage), "pruning")
    assert savings(pruning)[1:3] == [2.222, 2.857]
    assert not any(choice.confirmed for choice in pruning.choices)
    assert [choice.fresh_runs for choice in pruning.choices] == [3] * 4


def test_fresh_runs_that_fall_short_leave_the_baseline(storage: Path) -> None:
    def worse(candidate: Candidate) -> float:
        return formula(candidate).accuracy - (0 if candidate == BASELINE else 0.1)

    comparison = again(Executor(fresh=worse), storage)
    for row in comparison.rows:
        assert [choice.candidate for choice in row.choices] == [BASELINE] * 4
        assert all(choice.confirmed and choice.saving == 1 for choice in row.choices)


def test_a_comparison_is_only_gone_on_with_as_it_was_begun(storage: Path) -> None:
    for options, message in (
        ({"budget": 25}, "has budget 10, not 25; resume it with `budget` 10, or choose another `name`"),
        ({"seed": 1}, "has seed 0, not 1"),
        ({"effort": "standard"}, "has effort quick, not standard"),
        ({"hardware": "hybrid-22nm"}, "has hardware flexible-45nm, not hybrid-22nm"),
        ({"dataset": "mnist"}, "comparison 'digits-compare-1' was begun with digits"),
    ):
        executor = Executor()
        with pytest.raises(UsageError, match=message):
            again(executor, storage, **options)
        assert executor.jobs == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": 0}, "`budget` must be a whole number of at least 1, got 0"),
        ({"effort": "much"}, "`effort` must be one of quick, standard, thorough, got 'much'"),
        ({"name": "a b"}, "`name` may have up to 70 letters"),
        ({"name": "x" * 71}, "`name` may have up to 70 letters"),
        ({"losses": ()}, "at least one accuracy loss"),
        ({"losses": (0.01, 1.0)}, "such as 0.01 for one percentage point, got 1"),
        ({"losses": (float("nan"),)}, "at least 0 and below 1"),
        ({"dataset": "digit"}, "unknown dataset 'digit'"),
    ],
)
def test_bad_input_changes_nothing(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        compare(Executor(), tmp_path / "results.db", **options)
    assert list(tmp_path.iterdir()) == []


def small(*, confirm: bool = True) -> Comparison:
    """A comparison made up: the combination at place n saves n + 1 times the loss in points, confirmed from 2 on."""
    baseline = Choice(
        loss=0.0, id="0" * 12, candidate=BASELINE, energy_pj=2000.0, saving=1.0, accuracy=0.95, confirmed=True
    )

    def choice(place: int, loss: float) -> Choice:
        saving = max(1.0, (place + 1) * loss * 100)
        if saving == 1:
            return replace(baseline, loss=loss)
        return Choice(
            loss=loss,
            id=f"{place:012x}",
            candidate=replace(BASELINE, sparsity=0.5),
            energy_pj=2000 / saving,
            saving=saving,
            accuracy=0.95 - loss,
            confirmed=confirm and loss >= 0.02,
            fresh_runs=3 if confirm else 0,
            fresh_accuracy=0.94 if confirm else None,
            fresh_test_accuracy=0.93 if confirm else None,
        )

    return Comparison(
        name="made-up",
        dataset="digits",
        network=None,
        hardware="flexible-45nm",
        seed=0,
        budget=60,
        effort="standard",
        confirm=confirm,
        caution=None,
        losses=LOSSES,
        baseline=baseline,
        rows=tuple(
            Row(
                combination=combination,
                search=f"made-up{combination.suffix}",
                evaluations=60,
                distinct=50,
                failed=0,
                choices=tuple(choice(place, loss) for loss in LOSSES),
            )
            for place, combination in enumerate(COMBINATIONS)
        ),
    )


def printed(comparison: Comparison) -> str:
    written = StringIO()
    print_comparison(Console(file=written, width=100), comparison, command="search compare --name made-up")
    return written.getvalue()


def test_a_comparison_survives_json(storage: Path) -> None:
    for comparison in (small(), small(confirm=False), again(Executor(), storage)):
        assert Comparison.from_dict(json.loads(json.dumps(comparison.to_dict()))) == comparison


def test_the_table_has_a_row_for_each_combination_and_marks_what_is_not_confirmed() -> None:
    lines = printed(small()).splitlines()
    assert "made-up (digits)" in lines[0]
    assert re.split(r"\s{2,}", lines[1].strip())[0] == "searched together"
    assert re.findall(r"[\d.]+ points", lines[1]) == ["0.5 points", "1 points", "2 points", "5 points"]
    rows = {" ".join(line.split()) for line in lines}
    assert "network 1x 1x 2x 5x 50/60" in rows
    assert f"pruning 1x 2x{NOT_CONFIRMED} 4x 10x 50/60" in rows
    assert f"network + memory 3.5x{NOT_CONFIRMED} 7x{NOT_CONFIRMED} 14x 35x 50/60" in rows
    assert f"all four 5.5x{NOT_CONFIRMED} 11x{NOT_CONFIRMED} 22x 55x 50/60" in rows
    assert f"all four, greedy 6x{NOT_CONFIRMED} 12x{NOT_CONFIRMED} 24x 60x 50/60" in rows
    assert "not with 97.5 % confidence" in printed(small())
    assert max(map(len, lines)) <= 100


def test_the_table_says_where_nothing_was_confirmed() -> None:
    text = printed(small(confirm=False))
    assert text.count(NOT_CONFIRMED) == 1 + sum(
        not choice.confirmed for row in small(confirm=False).rows for choice in row.choices
    )
    assert "Confirm with: search compare --name made-up" in " ".join(text.split())
    certain = replace(small(), losses=LOSSES[2:], rows=tuple(replace(r, choices=r.choices[2:]) for r in small().rows))
    assert NOT_CONFIRMED not in printed(certain)


def test_a_comparison_says_what_its_accuracies_cannot_know(
    storage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert again(Executor(), storage, confirm=False).caution is None
    with monkeypatch.context() as patch:
        patch.setattr(words, "caution", lambda task: f"of {task.name}")
        assert again(Executor(), storage, confirm=False).caution == "of digits"
    assert "too high" not in printed(small())
    unclean = replace(small(), caution=words.CAUTION)
    assert words.CAUTION in " ".join(printed(unclean).split())
    assert words.CAUTION in unclean._repr_html_()
    assert unclean.to_dict()["caution"] == words.CAUTION
    *_, picture = write_comparison(unclean, tmp_path)
    assert "Accuracies may be too high" in picture.read_text()


def test_a_comparison_is_written_to_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    check_folder(folder, None)
    assert not folder.exists()
    written = write_comparison(small(), folder)
    assert [path.name for path in written] == ["comparison.json", "comparison.png", "comparison.svg"]
    assert Comparison.from_dict(json.loads(written[0].read_text())) == small()
    assert written[1].read_bytes().startswith(b"\x89PNG")
    drawn = written[2].read_text()
    for row in small().rows:
        assert f">{row.combination.label}, " in drawn
    assert "Energy saved within an accuracy loss: digits" in drawn
    assert "accuracy loss, percentage points" in drawn
    before = [path.read_bytes() for path in written]
    assert [path.read_bytes() for path in write_comparison(small(), folder)] == before


def test_another_comparison_is_not_overwritten(tmp_path: Path) -> None:
    write_comparison(small(), tmp_path)
    check_folder(tmp_path, "made-up")
    for name in (None, "other"):
        with pytest.raises(UsageError, match="is comparison 'made-up'; choose another `out`, or resume it"):
            check_folder(tmp_path, name)
    (tmp_path / "comparison.json").write_text("[]")
    with pytest.raises(UsageError, match="is not a comparison"):
        check_folder(tmp_path, "made-up")
    with pytest.raises(UsageError, match="cannot write to"):
        check_folder(tmp_path / "comparison.json" / "folder", None)


def test_one_loss_and_savings_below_the_baseline_can_be_drawn(tmp_path: Path) -> None:
    rows = tuple(replace(row, choices=row.choices[:1]) for row in small().rows)
    write_comparison(replace(small(), losses=LOSSES[:1], rows=rows), tmp_path)


def test_the_command_prints_json_and_writes_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Workshop, "executor", lambda *_, **__: Executor())
    monkeypatch.chdir(tmp_path)
    command = ["compare", "--budget", "2", "--workers", "0", "--storage", str(tmp_path / "results.db")]
    done = CliRunner().invoke(cli, [*command, "--json"])
    assert done.exit_code == 0, done.output
    comparison = Comparison.from_dict(json.loads(done.stdout))
    assert comparison == Comparison.from_dict(json.loads(Path("digits-compare-1/comparison.json").read_text()))
    assert "digits-compare-1, search 12 of 12: all four, greedy" in done.stderr
    again = CliRunner().invoke(cli, [*command, "--name", "digits-compare-1", "--out", "digits-compare-1"])
    assert again.exit_code == 0, again.output
    assert "all four, greedy" in again.stdout
    assert "Wrote digits-compare-1/comparison.json" in again.stdout
    refused = CliRunner().invoke(cli, [*command, "--out", "digits-compare-1"])
    assert refused.exit_code == 2
    assert "is comparison 'digits-compare-1'" in refused.stderr


def test_an_interrupted_command_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupted(*_: object, **__: object) -> Executor:
        raise KeyboardInterrupt

    monkeypatch.setattr(Workshop, "executor", interrupted)
    command = ["compare", "--budget", "2", "--seed", "3", "--no-confirm", "--storage", str(tmp_path / "results.db")]
    done = CliRunner().invoke(cli, [*command, "--out", str(tmp_path / "out")])
    assert done.exit_code == 130
    assert (
        f"search compare --name digits-compare-1 --budget 2 --seed 3 --no-confirm --storage {tmp_path}/results.db "
        f"--out {tmp_path}/out" in done.stderr
    )


@pytest.mark.process
def test_a_small_real_comparison(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "search", "compare", "--budget", "4", "--effort", "quick", "--workers", "0"]
    where = ["--no-confirm", "--storage", str(tmp_path / "results.db"), "--out", str(tmp_path / "out")]
    done = subprocess.run([*command, *where, "--json"], capture_output=True, text=True, check=True)
    comparison = Comparison.from_dict(json.loads(done.stdout))
    assert [row.combination for row in comparison.rows] == list(COMBINATIONS)
    assert {row.evaluations for row in comparison.rows} == {4}
    assert comparison.baseline.accuracy > 0.9
    for row in comparison.rows:
        values = [choice.saving for choice in row.choices]
        assert values == sorted(values)
        assert values[0] >= 1
    assert savings(row_of(comparison, *TECHNIQUES))[-1] > 1
    assert Combination(techniques=tuple(TECHNIQUES)).label in printed(comparison)
