"""Freeze-thaw search: the default strategy. Trials pause at milestones; a free worker takes up what promises most."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from storage import attributes
from storage.claims import Choice, Start, Thaw
from studies.space import Points, SearchSpace
from studies.spec import StudySpec, derive_seed
from studies.strategies.freeze_thaw import policy
from studies.strategies.freeze_thaw.candidates import candidates
from studies.strategies.freeze_thaw.costs import expected_log_seconds
from studies.strategies.freeze_thaw.curves import Curve, Curves, milestones
from studies.strategies.strategy import Strategy, Verdict, View
from studies.trials import fixed_parameters, is_frozen, is_running, spent_epochs, values_of

# All trials are started before this share of the epochs is spent: the last ones, too, need some to show their worth.
STARTED_BY = 2 / 3


class FreezeThaw(Strategy):
    """Chooses between new configurations and frozen trials by what an epoch of each is expected to gain.

    See `policy` for how, and `model` for what is expected.
    """

    freezes = True
    proposes = True
    needs_budget = True

    def __init__(self, spec: StudySpec) -> None:
        super().__init__(spec)
        # What `decide` chose, `ask` is asked for again where nothing happened in between: a choice takes tens of
        # milliseconds, and follows from what it was made of.
        self._latest: tuple[Question, Choice | None] | None = None
        # Likewise most trials are the objects that they were: what no one changed is read once.
        self._known: tuple[SearchSpace, int, dict[int, SeenTrial | None]] | None = None

    def ask(self, view: View) -> Choice | None:
        space = view.space
        if space is None or not space.size:
            return Start() if view.trials_left else None
        return self._choose(view, space)

    def decide(self, view: View, trial: FrozenTrial) -> Verdict:
        if view.space is None or not view.space.size or trial.last_step not in self._milestones(view):
            return "go on"
        choice = self._choose(view, view.space, pausing=trial)
        return "go on" if choice == Thaw(trial.number) else "freeze"

    def _milestones(self, view: View) -> Sequence[int]:
        return milestones(view.epochs)

    def _choose(self, view: View, space: SearchSpace, pausing: FrozenTrial | None = None) -> Choice | None:
        question = self._question(view, space, pausing)
        if self._latest is None or self._latest[0] != question:
            self._latest = question, self._answer(question)
        return self._latest[1]

    def _answer(self, question: Question) -> Choice | None:
        if not question.may_start and not any(curve.state == "frozen" for curve in question.curves):
            return None
        # One for the study: what changes from choice to choice comes from the curves.
        seed = derive_seed(self.spec.seed, "freeze_thaw")
        space, curves = question.space, question.curves
        tried = np.array([one.point for one in question.seen]).reshape(len(curves), space.size)
        points = candidates(curves, tried, seed=seed)
        points, features = _untried(points, space.features(points), curves)
        proposal = policy.choose(
            curves,
            features,
            horizon=question.horizon,
            seed=seed,
            may_start=question.may_start,
            may_thaw=question.may_thaw,
            bounded=question.bounded,
            log_costs=_log_costs(curves, question.seconds, features),
        )
        if proposal is None:
            return None
        if proposal.start is not None:
            if self.spec.sampler.name != "model":
                return Start()
            return Start(space.params_at(points[proposal.start]), number=question.trials)
        return Thaw(question.seen[proposal.thaw].trial.number) if proposal.thaw is not None else None

    def _question(self, view: View, space: SearchSpace, pausing: FrozenTrial | None) -> Question:
        seen = self._seen(view, space, pausing)
        return Question(
            space,
            seen,
            None if self.spec.strategy.cost == "epochs" else [_seconds_per_epoch(one.trial) for one in seen],
            view.epochs,
            len(view.trials),
            view.trials_left > 0,
            not _starts_lag(view),
            not math.isinf(view.epochs_left),
        )

    def _seen(self, view: View, space: SearchSpace, pausing: FrozenTrial | None) -> list[SeenTrial]:
        """Return the trials that have parameters."""
        if self._known is None or self._known[:2] != (space, view.epochs):
            self._known = space, view.epochs, {}
        seen, paused = self._known[2], None if pausing is None else pausing.number
        before = seen.get(paused) if paused is not None else None
        for number, trial in enumerate(view.trials):
            known = seen.get(number)
            if known is None or known.trial is not trial or number == paused:
                seen[number] = self._look_at(view, space, trial, known, paused=number == paused)
        found = [one for number in range(len(view.trials)) if (one := seen[number]) is not None]
        if paused is not None:
            seen[paused] = before  # only for this question it is paused
        return found

    def _look_at(
        self, view: View, space: SearchSpace, trial: FrozenTrial, known: SeenTrial | None, *, paused: bool
    ) -> SeenTrial | None:
        params = trial.params or fixed_parameters(trial)
        if not params:
            return None
        if known is not None and known.trial.params == params:
            point, x = known.point, known.curve.x
        else:
            (point,) = points = space.points_of([params])
            (x,) = space.features(points)
        return SeenTrial(trial, point, self._curve(view, trial, x, paused=paused))

    def _curve(self, view: View, trial: FrozenTrial, x: Points, *, paused: bool) -> Curve:
        # What failed, diverged or did not fit is lost, however it began.
        values = np.array([np.nan] if trial.state == TrialState.FAIL else values_of(trial))
        values = self.spec.objective.oriented(values)
        frozen = paused or is_frozen(trial)
        runs = not frozen and is_running(trial)
        milestones = self._milestones(view)
        until = next((at for at in milestones if at > len(values)), view.epochs) if runs else len(values)
        return Curve(x, values, "frozen" if frozen else "running" if runs else "ended", until)


@dataclass(frozen=True, eq=False)
class SeenTrial:
    """A trial as a choice sees it; equal to any that says the same.

    Attributes:
        trial: what was looked at. Storages show what changed as another object.
        point: `(space.size,)`.
        curve: its values so far.
    """

    trial: FrozenTrial
    point: Points
    curve: Curve

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SeenTrial) and self._said == other._said

    @property
    def _said(self) -> tuple[object, ...]:
        curve = self.curve
        return self.trial.number, self.point.tobytes(), curve.state, curve.until, curve.values.tobytes()


@dataclass(frozen=True)
class Question:
    """All that a choice depends on, besides the study's seed; the same question has the same answer.

    Attributes:
        space: what is searched.
        seen: the trials that have parameters.
        seconds: that an epoch of each took, NaN before it is known; None where all epochs cost alike.
        horizon: the most epochs of a trial.
        trials: how many there are.
        may_start, may_thaw: whether a trial may be started, whether a frozen one may go on.
        bounded: whether the study has a budget of epochs.
    """

    space: SearchSpace
    seen: Sequence[SeenTrial]
    seconds: Sequence[float] | None
    horizon: int
    trials: int
    may_start: bool
    may_thaw: bool
    bounded: bool

    @cached_property
    def curves(self) -> Curves:
        """Of the trials that have parameters."""
        return Curves(one.curve for one in self.seen)


def _log_costs(
    curves: Sequence[Curve], timed: Sequence[float] | None, features: Points
) -> tuple[Points, Points] | None:
    if timed is None:
        return None
    seconds = np.array(timed)
    known = np.isfinite(seconds)
    of_trials = np.array([curve.x for curve in curves]).reshape(len(curves), features.shape[1])
    of_candidates = expected_log_seconds(of_trials[known], seconds[known], features)
    expected = expected_log_seconds(of_trials[known], seconds[known], of_trials)
    return of_candidates, np.where(known, np.log(np.where(known, seconds, 1.0)), expected)


def _starts_lag(view: View) -> bool:
    """Return whether the trials yet to come need what is left until they are due, so that none may be thawed.

    Not before: a study of many trials may be ended by its time long before its budget is spent.
    """
    if not view.trials_left or math.isinf(view.epochs_left):
        return False
    spent = spent_epochs(view.trials)
    budget = spent + max(view.epochs_left, 0.0) + view.trials_left
    return spent + view.trials_left >= STARTED_BY * budget


def _seconds_per_epoch(trial: FrozenTrial) -> float:
    # Both are written when a trial is given up; what it reported since is not in its seconds.
    seconds = attributes.of_trial(trial, attributes.SECONDS, float)
    epochs = attributes.of_trial(trial, attributes.EPOCHS, int)
    return seconds / epochs if seconds and epochs else np.nan


def _untried(points: Points, features: Points, curves: Sequence[Curve]) -> tuple[Points, Points]:
    """Return the candidates that no trial had yet; all of them where a small space has no other left."""
    tried = {curve.configuration for curve in curves}
    rows = np.ascontiguousarray(features).view(np.dtype((np.void, features.itemsize * features.shape[1])))
    configurations = rows.ravel().tolist()
    if tried.isdisjoint(configurations):
        return points, features
    new = [place for place, one in enumerate(configurations) if one not in tried]
    return (points[new], features[new]) if new else (points, features)
