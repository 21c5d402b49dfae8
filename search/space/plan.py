"""How long a search will take, from the times of a few steps.

The starting points of the built-in families are trained once, unless the baseline comes with the package. Candidates
that share a network derive it once, and those that share its sparsity too prune it once. So the time of a search is
that of the networks it derives, of those it prunes, and of one conversion, retraining and measurement for each
candidate.
Searches try networks of all sizes at first and return to small ones: those that are derived are taken to be like the
middle one of each family, and candidates to be between that and the smallest one. Searches also return to what is good:
they try a share of the networks and sparsities that as many random candidates would have. This share, and the number of
fresh runs that an answer takes, are those of searches of digits and MNIST; see docs/data-sets.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from statistics import fmean

from search.images.splits import SplitSizes
from search.space.candidate import Candidate
from search.space.search_space import SearchSpace
from search.space.task import Task

_TRIED = 0.6  # networks, and pairs of network and sparsity, over those of random candidates
_RUNS = 6  # candidates with fresh runs, or all if there are fewer: the baseline, the answer and rejected ones
_CALIBRATION_IMAGES = 512  # by which networks are mended that are not trained
_FORWARD = 1 / 3  # of a training step, that a forward pass takes
_PASSES = 2  # of these images to mend means: through the network before, and after
LONG_S = 3600.0  # a search that takes longer comes with what to change
_BUDGETS = (100, 50, 20)
_FEWER_EPOCHS = 0.25
_LARGE_SIDE = 64  # pixels, from which smaller images are worth a try


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTimes:
    """How long the parts of an evaluation take with one network, on one thread.

    Attributes:
        train_step_s: Seconds of a training step in floating point.
        retrain_step_s: Seconds of a training step on integer codes.
        convert_s: Seconds of the conversion to integer codes.
        image_s: Seconds in which the converted network classifies an image.
    """

    train_step_s: float
    retrain_step_s: float
    convert_s: float
    image_s: float

    def scaled(self, factor: float) -> StepTimes:
        """Return the times multiplied by a factor."""
        return StepTimes(
            train_step_s=factor * self.train_step_s,
            retrain_step_s=factor * self.retrain_step_s,
            convert_s=factor * self.convert_s,
            image_s=factor * self.image_s,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTimes:
    """How long the stages of an evaluation take with one network.

    Attributes:
        train_s: Seconds of training or deriving it, once; none if it comes trained.
        prune_s: Seconds of retraining it after pruning, once for each sparsity.
        approximate_s: Seconds of converting, retraining and measuring it, for each candidate.
        test_s: Seconds of measuring it on the test images too, in a fresh run.
    """

    train_s: float
    prune_s: float
    approximate_s: float
    test_s: float

    @property
    def fresh_run_s(self) -> float:
        """Seconds of a fresh run."""
        return self.train_s + self.prune_s + self.approximate_s + self.test_s


def stage_times(
    task: Task, candidate: Candidate, times: StepTimes, sizes: SplitSizes, *, teacher_s: float
) -> StageTimes:
    """Return how long the stages take: what each does for a task, times how long that takes.

    Args:
        task: The task, with the effort of each evaluation.
        candidate: A candidate with the network.
        times: Of the network.
        sizes: Numbers of images.
        teacher_s: Seconds in which the starting point, which teaches, classifies the images of a step.
    """
    effort = task.effort
    chips_s = effort.chips * sizes.validation * times.image_s
    test_s = effort.chips * sizes.test * times.image_s
    if task.train == "none":
        mended_s = _PASSES * min(sizes.train, _CALIBRATION_IMAGES) * times.image_s
        converted_s = times.convert_s + mended_s + chips_s
        return StageTimes(train_s=0.0, prune_s=mended_s, approximate_s=converted_s, test_s=test_s)

    def seconds(epochs: float, step_s: float) -> float:
        return round(epochs * ceil(sizes.train / effort.batch_size)) * step_s

    taught_step_s = times.train_step_s + teacher_s
    train_s = seconds(effort.derive_epochs, taught_step_s)
    if candidate.network == task.start_of(candidate.network):
        is_trained = task.train == "finetune" or (
            task.shipped_baseline is not None and candidate == task.space.baseline()
        )
        train_s = 0.0 if is_trained else seconds(effort.train_epochs, times.train_step_s)
    retrain_s = seconds(effort.approximate_epochs, times.retrain_step_s + teacher_s)
    early_s = sizes.validation * times.image_s
    return StageTimes(
        train_s=train_s,
        prune_s=seconds(effort.prune_epochs, taught_step_s),
        approximate_s=times.convert_s + retrain_s + early_s + chips_s,
        test_s=test_s,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """What makes a search shorter.

    Attributes:
        parameter: What to change: a parameter of `search.run`, or of `search.TaskRequest`.
        value: The value to give it.
        seconds: How long the search takes then, with its fresh runs.
    """

    parameter: str
    value: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long a search will take.

    Attributes:
        evaluations: Evaluations that are left to make.
        workers: Evaluations that run at a time.
        first_s: Seconds of the first one, of the baseline; None for a search that is resumed.
        evaluation_s: Seconds of an evaluation, on average.
        search_s: Seconds of all of them.
        confirmation_s: Seconds of the fresh runs; None if none are made.
        epochs: Epochs for which a network is trained; 0 if it is not.
        images: Number of training images.
        known: Whether an earlier search left trained networks, so that it takes less.
        remedies: What to change if that is too long; none for a search of less than an hour.
    """

    evaluations: int
    workers: int
    first_s: float | None
    evaluation_s: float
    search_s: float
    confirmation_s: float | None
    epochs: float
    images: int
    known: bool
    remedies: tuple[Remedy, ...] = ()

    @property
    def seconds(self) -> float:
        """Seconds until the search is over, with its fresh runs."""
        return self.search_s + (self.confirmation_s or 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class TypicalCandidates:
    """Candidates, exact ones, whose networks stand for those of a search.

    Attributes:
        baseline: The baseline.
        middle: With the middle network of each family.
        smallest: With the smallest network of each family.
        other_starts: With the largest network of each other family than the baseline's.
    """

    baseline: Candidate
    middle: tuple[Candidate, ...]
    smallest: tuple[Candidate, ...]
    other_starts: tuple[Candidate, ...]

    @classmethod
    def of(cls, space: SearchSpace) -> TypicalCandidates:
        """Return those of a space."""
        baseline, *others = space.networks()  # in the order of their families and sizes
        families = [[one for one in others if one.family == family] for family in space.families]
        return cls(
            baseline=baseline,
            middle=tuple(networks[len(networks) // 2] for networks in families),
            smallest=tuple(networks[0] for networks in families),
            other_starts=tuple(
                replace(baseline, family=family) for family in space.families if family != baseline.family
            ),
        )

    @property
    def all(self) -> tuple[Candidate, ...]:
        """All of them, each once, the baseline first."""
        return tuple(dict.fromkeys((self.baseline, *self.other_starts, *self.middle, *self.smallest)))


def plan_search(
    task: Task,
    effort: str,
    space: SearchSpace,
    times: Mapping[Candidate, StepTimes],
    sizes: SplitSizes,
    *,
    evaluations: int,
    before: int,
    workers: int,
    confirm: bool,
    known: bool,
) -> Plan:
    """Plan a search, or the rest of one that is resumed.

    Args:
        task: The task with its standard effort.
        effort: Name of the effort of each evaluation.
        space: The space that is searched.
        times: Of the networks of `TypicalCandidates`; of the baseline's at least.
        sizes: Numbers of images.
        evaluations: Evaluations that are left to make; at least one.
        before: Those made before.
        workers: Evaluations that run at a time.
        confirm: Whether fresh runs follow.
        known: Whether an earlier search left trained networks.
    """
    wanted = _Wanted(
        task=task,
        effort=effort,
        space=space,
        times=times,
        sizes=sizes,
        evaluations=evaluations,
        before=before,
        workers=workers,
        confirm=confirm,
    )
    scaled = task.with_effort(effort).effort
    epochs = {"scratch": scaled.train_epochs, "finetune": scaled.derive_epochs, "none": 0.0}[task.train]
    if task.shipped_baseline is not None:
        epochs = scaled.derive_epochs
    plan = Plan(
        evaluations=evaluations,
        workers=workers,
        first_s=None if before else wanted.first_s,
        evaluation_s=wanted.work_s / evaluations,
        search_s=wanted.search_s,
        confirmation_s=wanted.confirmation_s if confirm else None,
        epochs=epochs,
        images=sizes.train,
        known=known,
    )
    if before or plan.seconds <= LONG_S:
        return plan
    return replace(plan, remedies=tuple(one for one in wanted.remedies() if one.seconds < 0.9 * plan.seconds))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """A search as it is wanted; see `plan_search` for the attributes."""

    task: Task
    effort: str
    space: SearchSpace
    times: Mapping[Candidate, StepTimes]
    sizes: SplitSizes
    evaluations: int
    before: int
    workers: int
    confirm: bool

    @property
    def first_s(self) -> float:
        (baseline,) = self._stages([self._candidates.baseline])
        return baseline.train_s + baseline.approximate_s

    @property
    def work_s(self) -> float:
        """Seconds of all evaluations, one after another."""
        after, before = self._tried(self.before + self.evaluations), self._tried(self.before)
        (networks, pruned), evaluations = (after[0] - before[0], after[1] - before[1]), self.evaluations
        seconds = 0.0
        if not self.before:
            seconds, networks, evaluations = self.first_s, networks - 1, evaluations - 1
            seconds += self._other_starts_s
        candidates = self._stages([*self._candidates.middle, *self._candidates.smallest])
        seconds += networks * fmean(one.train_s for one in self._stages(self._candidates.middle))
        seconds += pruned * fmean(one.prune_s for one in candidates)
        return seconds + evaluations * fmean(one.approximate_s for one in candidates)

    @property
    def search_s(self) -> float:
        """Seconds until they are over: workers cannot share an evaluation."""
        shared_s = self.work_s / min(self.workers, self.evaluations)
        return shared_s if self.before else max(self.first_s, shared_s)

    @property
    def confirmation_s(self) -> float:
        runs = self.task.with_effort(self.effort).effort.confirmations
        (baseline,) = self._stages([self._candidates.baseline])
        candidates = self._stages([*self._candidates.middle, *self._candidates.smallest])
        others = min(_RUNS, self.before + self.evaluations) - 1
        dense_s = baseline.fresh_run_s - baseline.prune_s
        if not self.task.begins_trained:
            # Each run trains the starting points anew, one that comes with the package among them.
            retrained = replace(self.task, from_scratch=True)
            (baseline,) = replace(self, task=retrained)._stages([self._candidates.baseline])
            dense_s = baseline.fresh_run_s - baseline.prune_s + self._other_starts_s
        work_s = runs * (dense_s + others * fmean(one.fresh_run_s for one in candidates))
        return work_s / min(self.workers, runs * (1 + others))

    @property
    def _other_starts_s(self) -> float:
        starts = self._candidates.other_starts
        return sum(one.train_s for one in self._stages(starts)) if starts else 0.0

    @property
    def _seconds(self) -> float:
        return self.search_s + (self.confirmation_s if self.confirm else 0.0)

    @property
    def _candidates(self) -> TypicalCandidates:
        return TypicalCandidates.of(self.space)

    def _stages(self, candidates: Sequence[Candidate]) -> list[StageTimes]:
        """Return the stages of those candidates that were timed; if none was, of all in the baseline's times."""
        timed = [one for one in candidates if one in self.times] or candidates
        usual = self.times[self._candidates.baseline]
        task, teacher_s = self.task.with_effort(self.effort), _FORWARD * usual.train_step_s
        return [stage_times(task, one, self.times.get(one, usual), self.sizes, teacher_s=teacher_s) for one in timed]

    def _tried(self, candidates: int) -> tuple[float, float]:
        """Return how many networks as many candidates have, and how many pairs of network and sparsity.

        The first candidate is the baseline, which is not pruned.
        """
        if not candidates:
            return 0.0, 0.0
        networks = max(1.0, _TRIED * _distinct(len({one.network for one in self.space.networks()}), candidates))
        sparsities = sum(percent > 0 for percent in self.space.sparsity_percent)
        return networks, _TRIED * _distinct(networks * sparsities, candidates - 1)

    def remedies(self) -> list[Remedy]:
        """Return what would make it shorter."""
        found = []
        budgets = [budget for budget in _BUDGETS if budget < self.evaluations]
        if budgets:
            fitting = [budget for budget in budgets if replace(self, evaluations=budget)._seconds <= LONG_S]
            budget = fitting[0] if fitting else budgets[-1]
            found.append(("budget", str(budget), replace(self, evaluations=budget)))
        if self.effort != "quick":
            found.append(("effort", "quick", replace(self, effort="quick")))
        if self.task.train != "none":
            usual = self.task.effort.train_epochs if self.task.train == "scratch" else self.task.effort.derive_epochs
            epochs = float(f"{_FEWER_EPOCHS * usual:.1g}")
            shorter = self.task.with_recipe(replace(self.task.recipe, epochs=epochs))
            found.append(("epochs", f"{epochs:g}", replace(self, task=shorter)))
        _, height, width = self.task.image_shape
        if min(height, width) >= _LARGE_SIDE:
            quarter = {one: times.scaled(0.25) for one, times in self.times.items()}  # as convolutions take it by pixel
            found.append(("image_size", f"{height // 2}x{width // 2}", replace(self, times=quarter)))
        if self.task.train == "finetune":
            found.append(("train", "none", replace(self, task=replace(self.task, train="none"))))
        return [Remedy(parameter=name, value=value, seconds=other._seconds) for name, value, other in found]


def _distinct(kinds: float, draws: int) -> float:
    """Return how many kinds some random draws are expected to have."""
    return kinds * (1 - (1 - 1 / kinds) ** draws) if kinds > 1 else min(kinds, draws)
