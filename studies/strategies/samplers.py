"""From a spec to the Optuna sampler of one trial."""

from __future__ import annotations

import importlib.util
import math
import warnings
from collections.abc import Container
from copy import copy
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, CmaEsSampler, GridSampler, QMCSampler, RandomSampler, TPESampler
from optuna.search_space import IntersectionSearchSpace
from optuna.trial import FrozenTrial, TrialState

from storage.errors import BadInput
from studies.space import SearchSpace
from studies.spec import StudySpec, derive_seed
from studies.trials import as_decided, is_frozen, of_phase


def make_sampler(
    spec: StudySpec,
    space: SearchSpace | None,
    trial_number: int,
    attempt: int = 0,
    *,
    first: int = 0,
    freezes: bool = False,
) -> BaseSampler:
    """Return the sampler of one trial.

    Its random stream is derived from the study's seed and the trial's number, so that no two workers draw the same
    configuration and a restart does not repeat the startup trials (one seeded `TPESampler` per process does both).
    Grid and QMC share the study's seed, and take the point of the trial's number; QMC draws at random what is not
    always active, and what is drawn again.

    Args:
        spec: the study's.
        space: what is searched; a grid needs it.
        trial_number: of the trial.
        attempt: how often its parameters were drawn before.
        first: how many trials have configurations of their own: the grid begins after them.
        freezes: whether the study's strategy freezes trials. Those are seen as PRUNED ones: see `SeenBySampler`.

    Raises:
        BadInput: the sampler cannot be had here.
    """
    path = ("sampler", trial_number, attempt) if attempt else ("sampler", trial_number)
    seed, shared = derive_seed(spec.seed, *path), derive_seed(spec.seed, "sampler")
    with warnings.catch_warnings():
        # Some of what is passed is marked experimental by Optuna: `group` keeps conditional parameters inside the
        # joint model, `GPSampler` and `QMCSampler` are so as a whole.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        match spec.sampler.name:
            case "random":
                return RandomSampler(seed=seed)
            case "qmc":
                others = RandomSampler(seed=seed)
                return others if attempt else _PointOfNumber(trial_number, space, seed=shared, others=others)
            case "grid":
                return _grid(spec, space, trial_number - first, shared)
            case "cmaes":
                found = CmaEsSampler(
                    seed=seed,
                    n_startup_trials=spec.sampler.startup_trials,
                    warn_independent_sampling=False,
                    # Where few trials are whole, it would learn from nothing else.
                    consider_pruned_trials=freezes,
                )
                found._search_space = IntersectionSearchSpace(include_pruned=freezes)
                return found
            case "gp":
                require_sampler(spec)
                return optuna.samplers.GPSampler(seed=seed, n_startup_trials=spec.sampler.startup_trials)
        return tpe(seed, spec.sampler.startup_trials)


def tpe(seed: int, startup_trials: int) -> BaseSampler:
    """Return the default sampler of one trial.

    Args:
        seed: of this trial alone.
        startup_trials: how many are drawn at random first.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return TPESampler(seed=seed, n_startup_trials=startup_trials, group=True)


def require_sampler(spec: StudySpec) -> None:
    """Refuse a sampler that cannot be had here.

    Raises:
        BadInput: it needs what is not installed.
    """
    # Optuna imports it when the first parameters are drawn.
    if spec.sampler.name == "gp" and importlib.util.find_spec("torch") is None:
        raise BadInput(
            "sampler 'gp' needs PyTorch, which is not installed. Install it with: .venv/bin/python -m pip install torch"
        )


class _PointOfNumber(QMCSampler):
    """Takes the point of a trial's number: Optuna's own count of points is not safe with several workers."""

    def __init__(self, number: int, space: SearchSpace | None, *, seed: int, others: BaseSampler) -> None:
        # Optuna's own sampler for the others would have the seed that all trials share.
        super().__init__(
            scramble=True,
            seed=seed,
            independent_sampler=others,
            warn_asynchronous_seeding=False,
            warn_independent_sampling=False,
        )
        self._number = number
        parameters = space.parameters.items() if space is not None else ()
        always = {name: one.distribution for name, one in parameters if not one.conditions}
        self._always = {name: distribution for name, distribution in always.items() if not distribution.single()}

    def infer_relative_search_space(
        self, study: optuna.Study, trial: optuna.trial.FrozenTrial
    ) -> dict[str, BaseDistribution]:
        # Optuna's own is what the first finished trial had: nothing, for as long as none is finished.
        return self._always or super().infer_relative_search_space(study, trial)

    def _find_sample_id(self, study: optuna.Study, search_space: dict[str, BaseDistribution]) -> int:
        return self._number


class _CellOfNumber(GridSampler):
    """Takes the cell of a trial's number: Optuna's own choice of a cell is not safe with several workers.

    A trial beyond the grid, in the place of one that failed, takes the grid's cells from the start.
    """

    def __init__(self, grid: dict[str, list[Any]], number: int, *, seed: int) -> None:
        super().__init__(grid, seed=seed)
        self._number = number

    def before_trial(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        storage = study._storage
        storage.set_trial_system_attr(trial._trial_id, "search_space", self._search_space)
        storage.set_trial_system_attr(trial._trial_id, "grid_id", self._number % len(self._all_grids))


class SearchedStudy(optuna.Study):
    """A study as what searches sees it: with the trials of its search alone, as was decided of them."""

    @classmethod
    def of(cls, study: optuna.Study) -> SearchedStudy:
        """Return a study as what searches sees it."""
        return cls(study_name=study.study_name, storage=study._storage)

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        trials = map(as_decided, of_phase(super()._get_trials(deepcopy, None, use_cache)))
        return [trial for trial in trials if states is None or trial.state in states]


class SeenBySampler(SearchedStudy):
    """A study as its sampler sees it: frozen trials, which wait, are PRUNED ones, whose values so far tell something.

    TPE ranks those by how far they came and what they had there.
    """

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        trials = map(_as_pruned, super()._get_trials(deepcopy, None, use_cache))
        return [trial for trial in trials if states is None or trial.state in states]


def _as_pruned(trial: FrozenTrial) -> FrozenTrial:
    if not is_frozen(trial):
        return trial
    shown = copy(trial)
    shown.state = TrialState.PRUNED
    return shown


def _grid(spec: StudySpec, space: SearchSpace | None, trial_number: int, seed: int) -> BaseSampler:
    if space is None:
        raise BadInput("sampler 'grid' needs the study's search space, which was not recorded. Take STUDY=another.")
    return _CellOfNumber(grid_of(space, spec.sampler.points), trial_number, seed=seed)


def require_room(spec: StudySpec, space: SearchSpace, trials: int, first: int = 0) -> None:
    """Refuse a budget that is larger than the study's grid.

    Args:
        spec: the study's.
        space: what is searched.
        trials: the budget.
        first: how many trials have configurations of their own, before the grid begins.

    Raises:
        BadInput: there are fewer points than trials.
    """
    if spec.sampler.name != "grid":
        return
    cells = math.prod(len(values) for values in grid_of(space, spec.sampler.points).values())
    if trials > cells + first:
        come_first = f" after the {first} that come first" if first else ""
        raise BadInput(
            f"the grid has {cells} points{come_first}, {trials} trials were asked for. Give TRIALS={cells + first} or"
            " fewer."
        )


def grid_of(space: SearchSpace, points: int) -> dict[str, list[Any]]:
    """Return the values of a grid: each choice, and so many of each number, its bounds among them."""
    grid: dict[str, list[Any]] = {}
    for name, one in space.parameters.items():
        if isinstance(one.distribution, CategoricalDistribution):
            grid[name] = list(one.distribution.choices)
        else:
            units = [0.5] if points == 1 else [number / (points - 1) for number in range(points)]
            grid[name] = list(dict.fromkeys(one.value_at(unit) for unit in units))
    return grid
