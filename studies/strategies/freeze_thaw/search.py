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
from studies.strategies.freeze_thaw import policy as curve_search
from studies.strategies.freeze_thaw.costs import expected_log_seconds
from studies.strategies.freeze_thaw.policy import Curve, Curves
from studies.strategies.strategy import Strategy, Verdict, View
from studies.trials import fixed_parameters, is_frozen, is_running, spent_epochs, values_of

# All trials are started before this share of the epochs is spent: the last ones, too, need some to show their worth.
STARTED_BY = 2 / 3


class FreezeThaw(Strategy):
    """Chooses between new configurations and frozen trials by what an epoch of each is expected to gain.

    See `curve_search` for the model.
    """

    freezes = True
    proposes = True
    needs_budget = True

    def __init__(self, spec: StudySpec) -> None:
        super().__init__(spec)
        # What `decide` chose, `ask` is asked for again where nothing happened in between: a choice takes tens of
        # milliseconds, and follows from what it was made of.
        self._latest: tuple[_Grounds, Choice | None] | None = None
        # Likewise most trials are the objects that they were: what no one changed is read once.
        self._read: tuple[SearchSpace, int, dict[int, _Read | None]] | None = None

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
        return curve_search.milestones(view.epochs)

    def _choose(self, view: View, space: SearchSpace, pausing: FrozenTrial | None = None) -> Choice | None:
        grounds = self._grounds(view, space, pausing)
        if self._latest is None or self._latest[0] != grounds:
            self._latest = grounds, self._chosen(grounds)
        return self._latest[1]

    def _chosen(self, grounds: _Grounds) -> Choice | None:
        if not grounds.may_start and not any(curve.state == "frozen" for curve in grounds.curves):
            return None
        # One for the study: what changes from choice to choice comes from the curves.
        seed = derive_seed(self.spec.seed, "freeze_thaw")
        space, curves = grounds.space, grounds.curves
        points = np.array([one.point for one in grounds.read]).reshape(len(curves), space.size)
        candidates = curve_search.candidates(curves, points, seed=seed)
        candidates, features = _untried(candidates, space.features(candidates), curves)
        choice = curve_search.choose(
            curves,
            features,
            horizon=grounds.horizon,
            seed=seed,
            may_start=grounds.may_start,
            may_thaw=grounds.may_thaw,
            bounded=grounds.bounded,
            log_costs=_log_costs(curves, grounds.seconds, features),
        )
        if choice is None:
            return None
        if choice.start is not None:
            if self.spec.sampler.name != "model":
                return Start()
            return Start(space.params_at(candidates[choice.start]), number=grounds.trials)
        return Thaw(grounds.read[choice.thaw].trial.number) if choice.thaw is not None else None

    def _grounds(self, view: View, space: SearchSpace, pausing: FrozenTrial | None) -> _Grounds:
        read = self._reading(view, space, pausing)
        return _Grounds(
            space,
            read,
            None if self.spec.strategy.cost == "epochs" else [_seconds_per_epoch(one.trial) for one in read],
            view.epochs,
            len(view.trials),
            view.trials_left > 0,
            not _starts_lag(view),
            not math.isinf(view.epochs_left),
        )

    def _reading(self, view: View, space: SearchSpace, pausing: FrozenTrial | None) -> list[_Read]:
        """Return the trials that have parameters."""
        if self._read is None or self._read[:2] != (space, view.epochs):
            self._read = space, view.epochs, {}
        read, paused = self._read[2], None if pausing is None else pausing.number
        before = read.get(paused) if paused is not None else None
        for number, trial in enumerate(view.trials):
            known = read.get(number)
            if known is None or known.trial is not trial or number == paused:
                read[number] = self._read_anew(view, space, trial, known, paused=number == paused)
        found = [one for number in range(len(view.trials)) if (one := read[number]) is not None]
        if paused is not None:
            read[paused] = before  # only for this question it is paused
        return found

    def _read_anew(
        self, view: View, space: SearchSpace, trial: FrozenTrial, known: _Read | None, *, paused: bool
    ) -> _Read | None:
        params = trial.params or fixed_parameters(trial)
        if not params:
            return None
        if known is not None and known.trial.params == params:
            point, x = known.point, known.curve.x
        else:
            (point,) = points = space.points_of([params])
            (x,) = space.features(points)
        return _Read(trial, point, self._curve(view, trial, x, paused=paused))

    def _curve(self, view: View, trial: FrozenTrial, x: Points, *, paused: bool) -> Curve:
        # What failed, diverged or did not fit is lost, however it began.
        values = np.array([np.nan] if trial.state == TrialState.FAIL else values_of(trial))
        frozen = paused or is_frozen(trial)
        runs = not frozen and is_running(trial)
        milestones = self._milestones(view)
        until = next((at for at in milestones if at > len(values)), view.epochs) if runs else len(values)
        return Curve(x, values, "frozen" if frozen else "running" if runs else "ended", until)


@dataclass(frozen=True, eq=False)
class _Read:
    """A trial as a choice sees it; equal to any that says the same.

    Attributes:
        trial: what was read. Storages show what changed as another object.
        point: `(space.size,)`.
        curve: its values so far.
    """

    trial: FrozenTrial
    point: Points
    curve: Curve

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Read) and self._said == other._said

    @property
    def _said(self) -> tuple[object, ...]:
        curve = self.curve
        return self.trial.number, self.point.tobytes(), curve.state, curve.until, curve.values.tobytes()


@dataclass(frozen=True)
class _Grounds:
    """All that a choice depends on, besides the study's seed.

    Attributes:
        space: what is searched.
        read: the trials that have parameters.
        seconds: that an epoch of each took, NaN before it is known; None where all epochs cost alike.
        horizon: the most epochs of a trial.
        trials: how many there are.
        may_start, may_thaw: whether a trial may be started, whether a frozen one may go on.
        bounded: whether the study has a budget of epochs.
    """

    space: SearchSpace
    read: Sequence[_Read]
    seconds: Sequence[float] | None
    horizon: int
    trials: int
    may_start: bool
    may_thaw: bool
    bounded: bool

    @cached_property
    def curves(self) -> Curves:
        """Of the trials that have parameters."""
        return Curves(one.curve for one in self.read)


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
    seconds, epochs = (trial.user_attrs.get(key) for key in (attributes.SECONDS, attributes.EPOCHS))
    return float(seconds) / epochs if seconds and epochs else np.nan


def _untried(points: Points, features: Points, curves: Sequence[Curve]) -> tuple[Points, Points]:
    """Return the candidates that no trial had yet; all of them where a small space has no other left."""
    tried = {curve.configuration for curve in curves}
    rows = np.ascontiguousarray(features).view(np.dtype((np.void, features.itemsize * features.shape[1])))
    configurations = rows.ravel().tolist()
    if tried.isdisjoint(configurations):
        return points, features
    new = [place for place, one in enumerate(configurations) if one not in tried]
    return (points[new], features[new]) if new else (points, features)
